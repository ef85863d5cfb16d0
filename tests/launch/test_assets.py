"""launch/mpijob.yaml against the operator's API, and launch/pbs.sh for real, with the variables that PBS sets.

The manifest is compared with what kubeflow.org/v2beta1 and Kubernetes allow at the places that it uses; whether an
operator accepts it, only a cluster can say. PBS is played by its variables and a file of hosts.
"""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from distgrad.launch import _request
from tests.jobs import ROOT, Mpi, Outcome, installed_mpis, run_job

MPIJOB = ROOT / "launch" / "mpijob.yaml"
PBS = ROOT / "launch" / "pbs.sh"
RENDEZVOUS = Path(__file__).with_name("rendezvous.py")
MPIS = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)

# ---- the manifest ------------------------------------------------------------------------------------------------


class Fields(NamedTuple):
    """The fields of an object: what they are, and which must be there."""

    fields: dict[str, Any]
    required: tuple[str, ...] = ()


class Choice(NamedTuple):
    """One of these words."""

    words: tuple[str, ...]


class Text(NamedTuple):
    """A text of this form."""

    pattern: str


NAME = Text(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
PATH = Text(r"/.*")
MEMORY = Text(r"\d+(Ki|Mi|Gi|Ti|k|M|G|T)?")
RESOURCES = Fields({"cpu": int, "memory": MEMORY})
CONTAINER = Fields(
    {
        "name": NAME,
        "image": str,
        "imagePullPolicy": Choice(("Always", "IfNotPresent", "Never")),
        "workingDir": PATH,
        "command": [str],
        "args": [str],
        "env": [Fields({"name": str, "value": str}, ("name",))],
        "securityContext": Fields({"runAsUser": int}),
        "resources": Fields({"requests": RESOURCES, "limits": RESOURCES}),
        "volumeMounts": [Fields({"name": NAME, "mountPath": PATH}, ("name", "mountPath"))],
    },
    ("name", "image", "resources"),
)
EMPTY_DIR = Fields({"medium": Choice(("", "Memory")), "sizeLimit": MEMORY})
POD = Fields(
    {"containers": [CONTAINER], "volumes": [Fields({"name": NAME, "emptyDir": EMPTY_DIR}, ("name",))]}, ("containers",)
)
REPLICAS = Fields(
    {
        "replicas": int,
        "restartPolicy": Choice(("Always", "OnFailure", "Never", "ExitCode")),
        "template": Fields({"metadata": dict, "spec": POD}, ("spec",)),
    },
    ("replicas", "template"),
)
RUN_POLICY = Fields(
    {
        "cleanPodPolicy": Choice(("All", "Running", "None")),
        "ttlSecondsAfterFinished": int,
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "schedulingPolicy": dict,
        "suspend": bool,
    }
)
SPEC = Fields(
    {
        "slotsPerWorker": int,
        "runPolicy": RUN_POLICY,
        "mpiReplicaSpecs": Fields({"Launcher": REPLICAS, "Worker": REPLICAS}, ("Launcher", "Worker")),
        "sshAuthMountPath": PATH,
        "launcherCreationPolicy": Choice(("AtStartup", "WaitForWorkersReady")),
        "mpiImplementation": Choice(("OpenMPI", "Intel", "MPICH")),
    },
    ("slotsPerWorker", "mpiReplicaSpecs", "sshAuthMountPath"),
)
DOCUMENT = Fields(
    {
        "apiVersion": Choice(("kubeflow.org/v2beta1",)),
        "kind": Choice(("MPIJob",)),
        "metadata": Fields({"name": NAME, "namespace": NAME, "labels": dict, "annotations": dict}, ("name",)),
        "spec": SPEC,
    },
    ("apiVersion", "kind", "metadata", "spec"),
)


def problems(value: Any, form: Any, where: str = "") -> list[str]:
    """Where a value does not have the form."""
    if isinstance(form, Fields):
        if not isinstance(value, dict):
            return [f"{where}: expected fields, got {value!r}"]
        found = [f"{where}: {name} is missing" for name in form.required if name not in value]
        found += [f"{where}: there is no field {name}" for name in value if name not in form.fields]
        known = [name for name in value if name in form.fields]
        return found + [line for name in known for line in problems(value[name], form.fields[name], f"{where}.{name}")]
    if isinstance(form, list):
        if not isinstance(value, list) or not value:
            return [f"{where}: expected a list, got {value!r}"]
        return [line for index, item in enumerate(value) for line in problems(item, form[0], f"{where}[{index}]")]
    if isinstance(form, Choice):
        return [] if value in form.words else [f"{where}: expected one of {form.words}, got {value!r}"]
    if isinstance(form, Text):
        fits = isinstance(value, str) and re.fullmatch(form.pattern, value)
        return [] if fits else [f"{where}: expected {form.pattern}, got {value!r}"]
    fits = isinstance(value, form) and (form is bool or not isinstance(value, bool))
    return [] if fits else [f"{where}: expected {form.__name__}, got {value!r}"]


def check_mpijob(job: dict[str, Any]) -> None:
    """The form, and what its numbers and words have to do with each other."""
    assert problems(job, DOCUMENT) == []
    spec = job["spec"]
    launcher, worker = (spec["mpiReplicaSpecs"][name] for name in ("Launcher", "Worker"))
    assert launcher["replicas"] == 1
    assert spec["runPolicy"]["backoffLimit"] > 0
    check_mpirun(the_container(launcher)["command"], worker["replicas"] * spec["slotsPerWorker"])
    check_worker(worker["template"]["spec"], spec["slotsPerWorker"], spec["sshAuthMountPath"])


def the_container(replicas: dict[str, Any]) -> dict[str, Any]:
    """The only one of a pod."""
    (container,) = replicas["template"]["spec"]["containers"]
    return dict(container)


def check_mpirun(command: list[str], ranks: int) -> None:
    """mpirun starts so many ranks on the operator's hosts, and the launcher takes the rest as a rank's command line."""
    mpirun, program = split_command(command)
    assert mpirun[0] == "mpirun"
    options = dict(zip(mpirun[1::2], mpirun[2::2], strict=True))
    assert options == {"-n": str(ranks), "--hostfile": "/etc/mpi/hostfile", "--bind-to": "none", "-x": "PATH"}
    assert program[:3] == ["python", "-m", "distgrad.launch"]
    given = _request._parser().parse_args(program[3:])
    assert given.script is not None and given.script.endswith(".py")
    assert given.nproc is None and given.hosts is None and given.hostfile is None and given.max_restarts == 0


def split_command(command: list[str]) -> tuple[list[str], list[str]]:
    """What is for mpirun, and what each rank runs."""
    place = command.index("python")
    return command[:place], command[place:]


def check_worker(pod: dict[str, Any], slots: int, keys: str) -> None:
    """A worker runs sshd, has a core for each rank, and memory under /dev/shm that fits into its limit."""
    (container,) = pod["containers"]
    assert container["command"] == ["/usr/sbin/sshd"] and container["args"][-1].startswith(str(Path(keys).parent))
    limits = container["resources"]["limits"]
    assert limits["cpu"] >= slots and limits == container["resources"]["requests"]
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    shared = volumes[mounts["/dev/shm"]]
    assert shared["medium"] == "Memory"
    assert gibibytes(shared["sizeLimit"]) < gibibytes(limits["memory"])


def gibibytes(text: str) -> int:
    """The number of Gi."""
    assert text.endswith("Gi"), text
    return int(text[:-2])


def load() -> dict[str, Any]:
    """The manifest."""
    job: dict[str, Any] = yaml.safe_load(MPIJOB.read_text())
    return job


def test_the_manifest() -> None:
    check_mpijob(load())


def worker_of(job: dict[str, Any]) -> dict[str, Any]:
    return dict(job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"])


def launcher_of(job: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]
    return container


MISTAKES: dict[str, Callable[[dict[str, Any]], object]] = {
    "the first API": lambda job: job.update(apiVersion="kubeflow.org/v1"),
    "another kind": lambda job: job.update(kind="PyTorchJob"),
    "v1's place of cleanPodPolicy": lambda job: job["spec"].update(cleanPodPolicy="Running"),
    "a misspelt field": lambda job: job["spec"].update(slotPerWorker=job["spec"].pop("slotsPerWorker")),
    "a number as text": lambda job: job["spec"].update(slotsPerWorker="4"),
    "truth as a number": lambda job: job["spec"].update(slotsPerWorker=True),
    "small letters": lambda job: job["spec"]["mpiReplicaSpecs"].update(
        worker=job["spec"]["mpiReplicaSpecs"].pop("Worker")
    ),
    "an MPI that is none": lambda job: job["spec"].update(mpiImplementation="MVAPICH"),
    "no keys": lambda job: job["spec"].pop("sshAuthMountPath"),
    "another user's keys": lambda job: job["spec"].update(sshAuthMountPath="/root/.ssh"),
    "two launchers": lambda job: job["spec"]["mpiReplicaSpecs"]["Launcher"].update(replicas=2),
    "more workers than ranks": lambda job: job["spec"]["mpiReplicaSpecs"]["Worker"].update(replicas=3),
    "a number in the command": lambda job: launcher_of(job)["command"].__setitem__(2, 8),
    "no launcher of ours": lambda job: launcher_of(job)["command"].remove("distgrad.launch"),
    "-n a second time": lambda job: launcher_of(job)["command"].__setitem__(slice(-1, None), ["-n", "8", "train.py"]),
    "restarts inside": lambda job: launcher_of(job)["command"].insert(-1, "--max-restarts=3"),
    "an option that is none": lambda job: launcher_of(job)["command"].insert(-1, "--ranks=8"),
    "no script": lambda job: launcher_of(job)["command"].pop(),
    "fewer cores than ranks": lambda job: worker_of(job)["containers"][0]["resources"]["limits"].update(cpu=2),
    "shared memory on disk": lambda job: worker_of(job)["volumes"][0]["emptyDir"].pop("medium"),
    "shared memory elsewhere": lambda job: worker_of(job)["containers"][0]["volumeMounts"][0].update(mountPath="/shm"),
    "a volume that is none": lambda job: worker_of(job)["containers"][0]["volumeMounts"][0].update(name="shm"),
    "no limits": lambda job: worker_of(job)["containers"][0].pop("resources"),
    "more shared memory than memory": lambda job: worker_of(job)["volumes"][0]["emptyDir"].update(sizeLimit="64Gi"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_manifest_is_found(mistake: str) -> None:
    job = copy.deepcopy(load())
    MISTAKES[mistake](job)
    with pytest.raises((AssertionError, KeyError, ValueError, _request.LaunchError)):
        check_mpijob(job)


@MPIS
def test_the_manifests_command(mpi: Mpi, tmp_path: Path) -> None:
    """The launcher's command line, on two ranks of this machine instead of eight of the workers."""
    if mpi.name != "openmpi":
        pytest.skip("the manifest's options are those of Open MPI")
    hosts = tmp_path / "hostfile"
    hosts.write_text("localhost slots=2\n")
    _, (_, *program) = split_command(launcher_of(load())["command"])
    mpirun = [*mpi.mpirun, "-n", "2", "--hostfile", str(hosts), "-x", "PATH"]
    program[program.index("train.py")] = str(RENDEZVOUS)
    outcome = run_job([*mpirun, mpi.python, *program, str(tmp_path / "found.json")], 60, tmp_path)
    check_ranks(outcome, tmp_path / "found.json")


# ---- PBS ---------------------------------------------------------------------------------------------------------


def check_ranks(outcome: Outcome, found: Path) -> None:
    """Two ranks of one host met."""
    assert outcome.code == 0 and not outcome.timed_out, outcome.output
    assert outcome.left == []
    ranks = json.loads(found.read_text())["ranks"]
    assert [rank["RANK"] for rank in ranks] == [rank["LOCAL_RANK"] for rank in ranks] == ["0", "1"]
    assert all((rank["WORLD_SIZE"], rank["LOCAL_WORLD_SIZE"]) == ("2", "2") for rank in ranks)
    assert [rank["sum"] for rank in ranks] == [3, 3]


def submit(
    mpi: Mpi, folder: Path, *arguments: str, hosts: str = "localhost\nlocalhost\n", script: Path = PBS, **variables: str
) -> Outcome:
    """Run the script as PBS does: a copy of it, from the home directory, with what to run in a variable."""
    spool, work = folder / "spool", folder / "work"
    spool.mkdir()
    work.mkdir()
    shutil.copy(script, spool / "4711.SC")
    shutil.copy(RENDEZVOUS, work / "train.py")
    (spool / "nodes").write_text(hosts)
    given = {
        "PATH": f"{Path(mpi.python).parent}:/usr/bin:/bin",
        "PBS_JOBID": "4711.server",
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_NODEFILE": str(spool / "nodes"),
        "PBS_O_WORKDIR": str(work),
        "NCPUS": "64",
        "OMP_NUM_THREADS": "64",
        "RUN": f"train.py {folder / 'found.json'}",
        **variables,
    }
    return run_job(["bash", str(spool / "4711.SC"), *arguments], 60, spool, given)


@MPIS
def test_pbs(mpi: Mpi, tmp_path: Path) -> None:
    check_ranks(submit(mpi, tmp_path), tmp_path / "found.json")


def test_pbs_with_arguments(tmp_path: Path) -> None:
    """As in an interactive job; here an argument may hold a blank."""
    found = tmp_path / "found by all.json"
    check_ranks(submit(installed_mpis()[0], tmp_path, "train.py", str(found), RUN=""), found)


def test_pbs_and_a_mpiexec_of_its_own(tmp_path: Path) -> None:
    (mpi,) = [mpi for mpi in installed_mpis() if mpi.name == "mpich"]  # its mpiexec has PALS's options
    check_ranks(submit(mpi, tmp_path, LAUNCHER="mpiexec"), tmp_path / "found.json")


@MPIS
def test_pbs_leaves_the_threads_to_the_launcher(mpi: Mpi, tmp_path: Path) -> None:
    """PBS's own number is that of the whole node."""
    script = tmp_path / "threads.py"
    script.write_text("import os, distgrad\nprint('threads', os.environ['OMP_NUM_THREADS'])\n")
    outcome = submit(mpi, tmp_path, RUN=str(script))
    assert outcome.code == 0, outcome.output
    threads = [int(number) for number in re.findall(r"threads (\d+)", outcome.output)]
    assert len(threads) == 2 and max(threads) < 64


@MPIS
def test_pbs_with_a_wrong_host_fails(mpi: Mpi, tmp_path: Path) -> None:
    outcome = submit(mpi, tmp_path, hosts="localhost\nnowhere.invalid\n")
    assert outcome.code != 0 and not outcome.timed_out, outcome.output
    assert not (tmp_path / "found.json").exists()


@MPIS
@pytest.mark.parametrize("hosts", ["localhost\n", "localhost slots=two\n"], ids=["too few", "not PBS's"])
def test_pbs_with_a_wrong_host_file_is_found(mpi: Mpi, hosts: str, tmp_path: Path) -> None:
    outcome = submit(mpi, tmp_path, hosts=hosts)
    with pytest.raises(AssertionError):
        check_ranks(outcome, tmp_path / "found.json")


@MPIS
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('-n "$ranks"', "-n 1"),
        ('--hostfile "$PBS_NODEFILE"', "--hosts nowhere.invalid:2"),
        ('cd "${PBS_O_WORKDIR:-.}"', ":"),
        ("python -m distgrad.launch -n", "python -m distgrad.lunch -n"),
    ],
)
def test_a_bug_in_the_script_is_found(mpi: Mpi, before: str, after: str, tmp_path: Path) -> None:
    script = tmp_path / "wrong.sh"
    assert before in PBS.read_text()
    script.write_text(PBS.read_text().replace(before, after))
    outcome = submit(mpi, tmp_path, script=script)
    with pytest.raises(AssertionError):
        check_ranks(outcome, tmp_path / "found.json")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RUN": ""}, 'usage: qsub -v RUN="script.py [arguments]"'),
        ({"PBS_NODEFILE": ""}, "expected PBS_NODEFILE to name a file with a line for each rank, got ''"),
        ({"LAUNCHER": "aprun"}, "expected LAUNCHER to be distgrad or mpiexec, got aprun"),
    ],
    ids=["nothing to run", "no PBS", "another launcher"],
)
def test_pbs_says_what_is_missing(variables: dict[str, str], message: str, tmp_path: Path) -> None:
    outcome = submit(installed_mpis()[0], tmp_path, **variables)
    assert outcome.code == 2 and message in outcome.output

# ---- the pages ---------------------------------------------------------------------------------------------------

COMMAND_PAGES = [ROOT / "launch" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def launch_commands(page: str) -> list[list[str]]:
    """What stands after `python -m distgrad.launch` in code of one line."""
    commands = re.findall(r"`[^`\n]*python -m distgrad\.launch ([^`\n]*)`", page)
    commands += re.findall(r"^# after: .*python -m distgrad\.launch (.*)$", page, re.MULTILINE)
    return [command.split() for command in commands if command != "--help"]


@pytest.mark.parametrize("page", COMMAND_PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_the_launchers(page: Path) -> None:
    for command in launch_commands(page.read_text()):
        given = _request._parser().parse_args([{"N": "2", "K": "3"}.get(word, word) for word in command])
        assert given.script is None or given.script.endswith((".py", "..."))


def test_a_command_that_is_wrong_is_found() -> None:
    (command,) = launch_commands("`mpirun -n 8 -f hosts python -m distgrad.launch --nodes 2 train.py`\n")
    with pytest.raises(_request.LaunchError, match="--nodes"):
        _request._parser().parse_args(command)


def symptoms(page: str) -> list[str]:
    """The pieces of our own messages in the first column of the table of troubles, between "..." and numbers."""
    table = page.partition("## Troubleshooting")[2]
    quoted = re.findall(r'^\| "([^"|]*)" \|', table, re.MULTILINE)
    ours = [text for text in quoted if not text.startswith("No module")]
    pieces = [piece for text in ours for piece in re.split(r"\.\.\.|\(hydra\)|\bN\b|\b\d+\b|/dev/shm", text)]
    return [piece.strip(" .") for piece in pieces if len(piece.strip(" .")) > 8]


def missing(pieces: list[str]) -> list[str]:
    """Those that no module of ours says."""
    source = "".join(path.read_text() for path in (ROOT / "distgrad").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)  # a text that goes on in the next line
    return [piece for piece in pieces if piece not in joined]


def test_the_symptoms_are_our_messages() -> None:
    found = symptoms((ROOT / "docs" / "clusters.md").read_text())
    assert len(found) >= 8
    assert missing(found) == []
    assert missing(["the launcher has a headache"]) == ["the launcher has a headache"]
