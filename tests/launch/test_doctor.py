"""`--doctor`: each problem from planted facts, the trial of an MPI that hangs or crashes, and reports of whole jobs."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distgrad._environment import SINGLE, Job
from distgrad.errors import LaunchError
from distgrad.launch import _cli, _doctor, _facts, _mpi_trial, _spawn
from distgrad.launch._findings import (
    Blas,
    Cores,
    Facts,
    Gpus,
    Launcher,
    Memory,
    Mpi,
    OneDnn,
    Problem,
    Software,
    problems,
)
from distgrad.launch._request import Request, parse
from tests.jobs import Mpi as InstalledMpi
from tests.jobs import Outcome, clean_environment, installed_mpis, run_job

MIB = 1 << 20
DEADLINE = 60.0  # seconds after which a job counts as hanging
SLOW = pytest.mark.skipif("'slow' not in config.option.markexpr", reason="takes a minute: pytest -m slow tests/launch")
MPIS = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)

# A machine without any problem.
ALONE = Facts(
    job=SINGLE,
    node="a",
    scheduler=None,
    software=Software("3.12.1", "0.1.0", "2.4.6", "4.1.2"),
    cores=Cores(frozenset(range(8)), 8, 8, None),
    blas=Blas("openblas 0.3.31", "SkylakeX", 8, None, None),
    memory=Memory(None, 4096 * MIB, 8192 * MIB, 4096),
    gpus=Gpus(False, (), "CuPy is not installed; pip install 'distgrad[cuda]'"),
    mpi=Mpi("MPICH 5.0.2", "multiple", False, backend="serial"),
    launcher=Launcher(8, 1, "mpirun -n 8"),
)


def ranks_of(*nodes: str, **changes: object) -> list[Facts]:
    """The ranks of a job without any problem, on the node of each; `changes` are to all of them."""
    found = []
    for rank, node in enumerate(nodes):
        local_rank, local_size = nodes[:rank].count(node), nodes.count(node)
        mine = ALONE._replace(
            job=Job("hydra", rank, len(nodes), local_rank, local_size),
            node=node,
            blas=ALONE.blas._replace(threads=8 // local_size),
            mpi=ALONE.mpi._replace(backend="shm" if len(set(nodes)) == 1 else "hierarchical"),
            launcher=None,
        )
        found.append(mine._replace(**changes))  # type: ignore[arg-type]
    return found


def only(facts: Facts | list[Facts]) -> Problem:
    """The one problem of these facts."""
    found = problems(facts if isinstance(facts, list) else [facts])
    assert len(found) == 1, found
    return found[0]


# ---- what stands in a job's way --------------------------------------------------------------------------------------


def test_a_sound_machine_and_sound_jobs_have_no_problem() -> None:
    assert problems([ALONE]) == []
    assert problems(ranks_of("a", "a", "a")) == []
    assert problems(ranks_of("a", "a", "b", "b")) == []


NO_MEMFD = Memory("Operation not permitted", 64 * MIB, 64 * MIB, 4096)
GPU = Gpus(True, ("NVIDIA H100",), None)
PLANTED = {
    "no mpi4py": (
        ALONE._replace(software=ALONE.software._replace(mpi4py=None), mpi=Mpi(), launcher=None),
        "mpi4py is not installed, so only one process can run",
        "pip install 'distgrad[mpich]'",
        True,
    ),
    "no library": (
        ALONE._replace(mpi=Mpi(problem="cannot load MPI library"), launcher=None),
        "mpi4py finds no MPI library: cannot load MPI library",
        "pip install 'distgrad[mpich]', or load your cluster's MPI",
        True,
    ),
    "a library that is named and is not there": (
        ALONE._replace(mpi=Mpi(chosen="/x.so", problem="cannot load MPI library"), launcher=None),
        "mpi4py finds no MPI library",
        "unset MPI4PY_LIBMPI",
        True,
    ),
    "broken library": (
        ALONE._replace(mpi=Mpi("MPICH 5", problem="it dies of SIGSEGV"), launcher=None),
        "MPI does not start: it dies of SIGSEGV",
        "`python -c 'from mpi4py import MPI'` shows it",
        True,
    ),
    "library without room": (
        ALONE._replace(
            mpi=Mpi("MPICH 5", problem="it dies of SIGBUS"), memory=Memory(None, MIB, MIB, 4096), launcher=None
        ),
        "MPI does not start: it dies of SIGBUS; /dev/shm has 1 MiB free, and MPI itself takes up to 16 MiB a rank",
        "--shm-size",
        True,
    ),
    "another mpirun": (
        ranks_of("a", mpi=Mpi("Open MPI v5.0.11", problem="it ends with status 1 (no message)")),
        "MPI does not start: it ends with status 1",
        "start the ranks with the mpirun of that MPI: `python -m distgrad.launch -n N` finds it",
        True,
    ),
    "hanging job": (
        ranks_of("a", mpi=Mpi("MPICH 5", problem="it takes longer than 60 s")),
        "MPI does not start: it takes longer than 60 s",
        "`python -m distgrad.launch --doctor` on each node, outside the job",
        True,
    ),
    "ranks apart": (
        ranks_of("a", mpi=Mpi("MPICH 5", "multiple", False, apart="MPI sees 1 rank; use the mpirun of MPICH")),
        "MPI sees 1 rank",
        "use the mpirun of MPICH",
        True,
    ),
    "no such backend": (
        ALONE._replace(mpi=Mpi("MPICH 5", apart="expected a backend of shm, got 'x'", asked="x"), launcher=None),
        "expected a backend of shm, got 'x'",
        "unset DISTGRAD_BACKEND",
        True,
    ),
    "no mpirun": (
        ALONE._replace(launcher=Launcher(8, 1, None, "expected an mpirun, found none; install one", stops=True)),
        "expected an mpirun, found none",
        "install one",
        True,
    ),
    "an MPI that -n does not know": (
        ALONE._replace(launcher=Launcher(8, 1, None, "-n knows MPICH, got Cray; start the ranks with its launcher")),
        "-n knows MPICH, got Cray",
        "start the ranks with its launcher",
        False,
    ),
    "no memfd": (ALONE._replace(memory=NO_MEMFD), "64 MiB free, and memfd does not work (Op", "--shm-size", False),
    "small /dev/shm": (
        ALONE._replace(memory=Memory(None, 64 * MIB, 64 * MIB, 4096)),
        "/dev/shm has 64 MiB free, and MPI itself takes up to 16 MiB a rank there",
        "--shm-size",
        False,
    ),
    "few files": (
        ALONE._replace(memory=ALONE.memory._replace(open_files=256)),
        "a process may open only 256 files",
        "ulimit -n 4096",
        False,
    ),
    "more ranks than cores": (
        ranks_of(*"aaa", cores=Cores(frozenset({0, 1}), 2, 2, None), blas=ALONE.blas._replace(threads=1)),
        "3 ranks share 2 cores, and wait for each other's time",
        "start no more than 2 ranks on this node: -n 2",
        False,
    ),
    "ranks on one core": (
        ranks_of(*"aa", cores=Cores(frozenset({3}), 8, 8, None), blas=ALONE.blas._replace(threads=1)),
        "2 ranks all stay on 1 core (3) of 8",
        "start them unbound (Open MPI: --bind-to none), or with -n N --bind auto",
        False,
    ),
    "threads of a whole node": (
        ranks_of(*"aa", blas=ALONE.blas),
        "2 ranks with 16 BLAS threads in all share 8 cores",
        "export OMP_NUM_THREADS=4, or unset it",
        False,
    ),
    "threads beyond a quota": (
        ALONE._replace(cores=Cores(frozenset(range(8)), 2, 8, 2)),
        "1 rank with 8 BLAS threads in all shares 2 cores",
        "export OMP_NUM_THREADS=2",
        False,
    ),
    "slow kernel": (
        ALONE._replace(blas=ALONE.blas._replace(problem="OPENBLAS_CORETYPE=Haswell forces; unset it.")),
        "OPENBLAS_CORETYPE=Haswell forces",
        "unset OPENBLAS_CORETYPE",
        False,
    ),
    "oneDNN that cannot be loaded": (
        ALONE._replace(onednn=OneDnn(None, "cannot be used: /x.so: no such file; set DISTGRAD_ONEDNN=0")),
        "oneDNN cannot be used: /x.so: no such file",
        "set DISTGRAD_ONEDNN=0",
        False,
    ),
    "oneDNN on some ranks": (
        [
            ranks_of(*"aa", onednn=OneDnn("3.2.0"))[0],
            ranks_of(*"aa", onednn=OneDnn(None, "not installed"))[1],
        ],
        "ranks have different versions of oneDNN: 3.2.0 (rank 0); not installed (rank 1)",
        "use one environment for all",
        False,
    ),
    "unused GPU": (
        ALONE._replace(gpus=ALONE.gpus._replace(driver=True)),
        "a GPU is here and not used: CuPy is not installed",
        "pip install 'distgrad[cuda]'",
        False,
    ),
    "no NCCL": (
        ALONE._replace(gpus=GPU, mpi=ALONE.mpi._replace(transports=(("nccl", "CuPy found no NCCL; pip install n"),))),
        "GPUs do not talk through NCCL: CuPy found no NCCL",
        "pip install n",
        False,
    ),
    "a GPU for two": (
        ranks_of(*"aa", gpus=GPU),
        "2 ranks share 1 GPU, so they do not talk through NCCL",
        "start no more than 1 rank on this node",
        False,
    ),
    "no shared memory": (
        ranks_of(*"aa", mpi=ALONE.mpi._replace(backend="mpi")),
        "the ranks of a node do not share memory, and go through MPI (DISTGRAD_BACKEND=shm says why)",
        "--shm-size",
        False,
    ),
}


@pytest.mark.parametrize(("facts", "text", "fix", "stops"), PLANTED.values(), ids=PLANTED)
def test_a_planted_problem_is_the_only_one(facts: Facts | list[Facts], text: str, fix: str, stops: bool) -> None:
    found = only(facts)
    assert text in found.text and fix in found.fix and found.stops == stops, found
    assert "\n" not in found.text + found.fix


def test_what_was_asked_for_is_no_problem() -> None:
    assert problems(ranks_of(*"aa", mpi=ALONE.mpi._replace(backend="mpi", asked="mpi"))) == []


def test_what_stops_a_job_comes_first() -> None:
    files = ALONE.memory._replace(open_files=256)
    broken = ALONE._replace(memory=files, mpi=Mpi("MPICH 5", problem="it dies of SIGSEGV"), launcher=None)
    assert [problem.stops for problem in problems([broken])] == [True, False]


def test_ranks_and_nodes_with_a_problem_are_named() -> None:
    ranks = ranks_of(*"aabb")
    few = ALONE.memory._replace(open_files=256)
    ranks[1:] = [facts._replace(memory=few) for facts in ranks[1:]]
    assert only(ranks).text == "ranks 1-3: a process may open only 256 files"
    ranks = ranks_of(*"aabb")
    ranks[2:] = [facts._replace(memory=NO_MEMFD) for facts in ranks[2:]]
    assert only(ranks).text.startswith("b: /dev/shm has 64 MiB free")


def test_different_versions_are_a_problem() -> None:
    ranks = ranks_of(*"abc")
    ranks[1] = ranks[1]._replace(software=ranks[1].software._replace(numpy="2.0.0"))
    assert only(ranks).text == "ranks have different versions of NumPy: 2.4.6 (ranks 0,2); 2.0.0 (rank 1)"


# ---- the report ------------------------------------------------------------------------------------------------------


def test_report_of_a_machine() -> None:
    lines = _doctor.report([ALONE._replace(onednn=OneDnn("3.2.0"))]).splitlines()
    assert "  oneDNN          3.2.0" in lines
    assert "  MPI             MPICH 5.0.2, thread level multiple, not CUDA-aware" in lines
    assert "  cores           0-7 (8 of 8)" in lines
    assert "  -n auto         8 ranks, backend shm, 1 BLAS thread each" in lines
    assert "  through         mpirun -n 8" in lines
    assert lines[-1] == "No problem: a job can run."


def test_report_of_several_nodes_with_gpus() -> None:
    mpi = Mpi("MPICH 5", "multiple", True, backend="hierarchical", transports=(("nccl", "no"), ("mpi", None)))
    text = _doctor.report(ranks_of(*"ab", gpus=GPU, mpi=mpi))
    assert "  backend         hierarchical: 2 ranks on 2 nodes" in text
    assert "  between GPUs    MPI, on addresses of GPUs" in text
    assert "  GPUs            NVIDIA H100" in text


def test_report_names_ranks_that_differ() -> None:
    ranks = ranks_of(*"aaa")
    ranks[1] = ranks[1]._replace(blas=Blas("openblas 0.3.31", "Haswell", 2, "Haswell", None))
    lines = _doctor.report(ranks).splitlines()
    assert "  BLAS            ranks 0,2: openblas 0.3.31, kernel SkylakeX, 2 threads" in lines
    assert "                  rank 1: openblas 0.3.31, kernel Haswell (OPENBLAS_CORETYPE=Haswell), 2 threads" in lines


def test_report_of_many_ranks_that_differ_is_short() -> None:
    ranks = [facts._replace(cores=Cores(frozenset({facts.job.rank}), 64, 64, None)) for facts in ranks_of(*"a" * 64)]
    assert "and 60 more" in _doctor.report(ranks)
    assert len(_doctor.report(ranks).splitlines()) < 40


def test_lines_are_short_and_words_whole() -> None:
    mpi = Mpi("MPICH 5", problem=f"it ends with status 1 ({'/a/path/with-hyphens' * 4} {'word ' * 40})")
    report = _doctor.report([ALONE._replace(mpi=mpi, launcher=None)])
    assert "/a/path/with-hyphens" * 4 in report
    assert max(map(len, report.splitlines())) <= _doctor.WIDTH
    assert report.splitlines()[-1] == "1 problem must be solved before a job can run."


# ---- the machine -----------------------------------------------------------------------------------------------------


def test_facts_of_this_machine() -> None:
    facts = _facts.look()
    assert facts.software.mpi4py and re.match(r"\d+\.\d+", facts.software.numpy)
    assert facts.cores.own == os.sched_getaffinity(0)
    assert facts.memory.open_files > 0 and facts.memory.memfd_problem is None
    assert facts.mpi.library is None  # not loaded


def test_forbidden_memfd_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(_facts, "memfd_create", forbidden)
    assert _facts.look().memory.memfd_problem == "[Errno 1] Operation not permitted"


def test_launchers_of_other_mpis() -> None:
    launcher = _facts.find_launcher("Fujitsu MPI 4")
    assert launcher.command is None and not launcher.stops
    assert "own launcher" in str(launcher.problem)


# ---- an MPI that hangs or crashes ------------------------------------------------------------------------------------

PLACES = ("/opt/lib/libmpi.so", "libmpi.so.12", "libmpi.so.40")

ANSWER = """
import os, pickle, sys, time
sys.path.insert(0, {root!r})
from distgrad.launch import _mpi_trial
facts = pickle.load(sys.stdin.buffer)
_mpi_trial._answer([facts._replace(mpi=facts.mpi._replace(library="MPICH 5"))])
"""


def trial(code: str, deadline: float = 30.0) -> Mpi:
    """What is found out by a trial with this code."""
    (facts,) = _mpi_trial.try_mpi(ALONE._replace(mpi=Mpi()), deadline, (sys.executable, "-c", code))
    return facts.mpi


def test_a_trial_that_hangs_is_ended_with_all_its_children(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '100'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{child.pid}} {{os.getpid()}} ')\n"
        "time.sleep(100)"
    )
    begin = time.monotonic()
    assert trial(code, deadline=1.0).problem == "it takes longer than 1 s"
    assert time.monotonic() - begin < 30
    for pid in (tmp_path / "pids").read_text().split():
        assert not is_alive(int(pid))


def is_alive(pid: int) -> bool:
    """Whether a process has not ended within a moment."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return False
        except OSError:
            return False
        time.sleep(0.02)
    return True


def test_a_trial_that_crashes() -> None:
    crash = f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})"
    assert trial(crash).problem == "it dies of SIGSEGV"


def test_a_trial_that_fails_says_why() -> None:
    assert trial("import sys; print('x'); sys.exit('no network')").problem == "it ends with status 1 (no network)"
    assert trial("raise SystemExit(7)").problem == "it ends with status 7 (no message)"


def test_open_mpi_has_given_its_reason_to_mpirun() -> None:
    """What the trial itself sees of it does not help anybody."""
    last = "[a:7] Local abort before MPI_INIT completed completed successfully, but am not able to"
    problem = trial(f"import sys; print({last!r}, file=sys.stderr); sys.exit(14)").problem
    assert problem == (
        "Open MPI gives up in MPI_Init, with status 14; what it says on this screen, above, is the reason"
    )


def test_the_places_without_a_library_are_not_listed() -> None:
    none = "cannot load MPI library\n" + "".join(
        f"{name}: cannot open shared object file: No such file\n" for name in PLACES
    )
    assert (
        _mpi_trial._missing(none)
        == f"cannot load MPI library: {PLACES[0]}: cannot open shared object file: No such file"
    )
    broken = f"{none}/opt/libmpi.so.12: libfabric.so.1: cannot open shared object file\n"
    assert _mpi_trial._missing(broken).endswith(
        "library: /opt/libmpi.so.12: libfabric.so.1: cannot open shared object file"
    )
    assert _mpi_trial._missing("No module named 'mpi4py.MPI'") == "No module named 'mpi4py.MPI'"


def test_what_was_learnt_before_a_crash_is_kept() -> None:
    code = ANSWER.format(root=str(Path(__file__).parents[2])) + "os._exit(3)"
    found = trial(code)
    assert (found.library, found.problem) == ("MPICH 5", "it ends with status 3 (no message)")


# ---- as its user has it ----------------------------------------------------------------------------------------------


def doctor(*argv: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "distgrad.launch", "--doctor", *argv]
    environment = {**clean_environment(), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE)


def ended(command: list[str], **environment: str) -> Outcome:
    """How a job ended that must end by itself and leave nothing."""
    outcome = run_job(command, DEADLINE, environment=environment)
    assert not outcome.timed_out and outcome.left == [], outcome
    return outcome


@MPIS
def test_outside_a_job(mpi: InstalledMpi) -> None:
    outcome = ended([mpi.python, "-m", "distgrad.launch", "--doctor"])
    assert outcome.code == 0, outcome.output
    assert {"mpich": "MPICH ", "openmpi": "Open MPI v"}[mpi.name] in outcome.output
    assert "one process     backend serial" in outcome.output
    assert re.search(rf"through +{re.escape(str(Path(mpi.mpirun[0])))} -n", outcome.output)
    assert "a job can run" in outcome.last_line.lower()


@MPIS
def test_inside_a_job_rank_0_reports_on_all(mpi: InstalledMpi) -> None:
    outcome = ended(mpi.job(3, "-m", "distgrad.launch", "--doctor"), OPENBLAS_CORETYPE="Nehalem")
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("found\n") == 1
    assert re.search(r"backend +shm: 3 ranks on 1 node", outcome.output)
    assert outcome.output.count("unset OPENBLAS_CORETYPE") == 1  # not named by rank: all have it
    assert "rank 0: " not in outcome.output


def test_no_mpi_library() -> None:
    done = doctor(MPI4PY_LIBMPI="/nonexistent/libmpi.so")
    assert done.returncode == 1, done.stdout
    assert "problem: mpi4py finds no MPI library: cannot load MPI library: /nonexistent/libmpi.so" in done.stdout
    assert "fix:     unset MPI4PY_LIBMPI" in done.stdout
    assert done.stdout.endswith("1 problem must be solved before a job can run.\n")


@MPIS
def test_no_mpi_library_inside_a_job(mpi: InstalledMpi) -> None:
    command = mpi.job(2, "-m", "distgrad.launch", "--doctor")
    outcome = ended(command, MPI4PY_LIBMPI="/nonexistent/libmpi.so")
    assert outcome.code == 1, outcome.output
    assert outcome.output.count("fix:     unset MPI4PY_LIBMPI") == 1


def test_srun_without_pmi() -> None:
    names = {"PROCID": "0", "NTASKS": "2", "LOCALID": "0", "NODEID": "0", "STEP_ID": "0", "STEP_TASKS_PER_NODE": "2"}
    done = doctor(**{f"SLURM_{name}": value for name, value in names.items()})
    assert done.returncode == 1, done.stderr
    assert "job             2 ranks, started by slurm" in done.stdout
    assert "problem: srun offers its tasks no PMI" in done.stdout and "srun --mpi=pmix" in done.stdout


@pytest.mark.slow
@SLOW
@MPIS
def test_one_rank_without_mpi(mpi: InstalledMpi) -> None:
    """The others wait for it in MPI_Init, and rank 0 says so when the time is up."""
    rank = [mpi.python, "-m", "distgrad.launch", "--doctor", "--timeout", "15"]
    broken = ["env", "MPI4PY_LIBMPI=/nonexistent", *rank]
    outcome = ended([*mpi.mpirun, "-n", "1", *rank, ":", "-n", "1", *broken])
    assert outcome.code == 1, outcome.output
    assert "[rank 1] MPI does not start: cannot load MPI library" in outcome.output
    assert "problem: MPI does not start: it takes longer than 15 s, as when a rank does not come" in outcome.output


@pytest.mark.slow
@SLOW
@MPIS
def test_a_job_of_its_own(mpi: InstalledMpi) -> None:
    outcome = ended([mpi.python, "-m", "distgrad.launch", "-n", "2", "--doctor"])
    assert outcome.code == 0, outcome.output
    assert re.search(r"backend +shm: 2 ranks on 1 node", outcome.output)


@pytest.mark.parametrize("sound", [True, False])
def test_a_job_is_started_only_where_nothing_stops_it(sound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def spawn(request: Request) -> int:
        started.append(_spawn._rank_command(request, "inbox", 0))
        return 0

    monkeypatch.setattr(_cli, "spawn", spawn)
    found = ALONE if sound else ALONE._replace(mpi=Mpi(problem="no library"))
    monkeypatch.setattr(_doctor, "_try_mpi", lambda facts, request: [found])
    monkeypatch.setattr(_doctor, "find_launcher", lambda library: ALONE.launcher)
    assert _cli.main(["-n", "2", "--doctor", "--timeout", "9"]) == int(not sound)
    rank = [sys.executable, "-m", "distgrad.launch", "--inbox", "inbox", "--timeout", "9.0", "--doctor"]
    assert started == ([rank] if sound else [])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--doctor", "train.py"], r"expected no script with --doctor, which runs none, got 'train\.py'"),
        (["--doctor", "-m"], r"expected --doctor without -m"),
        (["--doctor", "--max-restarts", "2"], r"expected --doctor without --max-restarts"),
        (["--doctor", "--log-dir", "logs"], r"expected --doctor without --log-dir"),
    ],
)
def test_wrong_usage(argv: list[str], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        parse(argv)


def test_wrong_usage_has_status_2() -> None:
    done = doctor("train.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected no script with --doctor" in done.stderr
