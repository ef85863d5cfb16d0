"""A script under the launcher finds what it would find under plain Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs import ROOT, Mpi, clean_environment, installed_mpis, run_job

MPIS = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)

REPORT = """
import json, os, pickle, sys
import helper

class Mine: ...

pickle.loads(pickle.dumps(Mine()))
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
print(json.dumps({
    "name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path[0], "helper": helper.value,
    "main": sys.modules["__main__"].Mine is Mine, "environment": [os.environ.get(name) for name in names],
    "timeouts": [os.environ.get("DISTGRAD_TIMEOUT"), os.environ.get("DISTGRAD_STALL_WARN")],
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a script that reports on itself, and a module beside it."""
    (tmp_path / "report.py").write_text(REPORT)
    (tmp_path / "helper.py").write_text("value = 42\n")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(REPORT)
    return tmp_path


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=clean_environment(), capture_output=True, text=True, timeout=60
    )


def reported(result: "subprocess.CompletedProcess[str]") -> dict[str, object]:
    assert result.returncode == 0, result.stderr
    report: dict[str, object] = json.loads(result.stdout)
    return report


@pytest.mark.parametrize(
    "arguments",
    [["report.py", "--lr", "0.1", "-n", "3"], ["package/../report.py"], ["-m", "package.train", "--lr", "0.1"]],
    ids=["script", "path", "module"],
)
def test_alone_as_plain_python(folder: Path, arguments: list[str]) -> None:
    plain = reported(run(*arguments, cwd=folder))
    launched = reported(run("-m", "distgrad.launch", *arguments, cwd=folder))
    assert launched.pop("environment")[:5] == ["0", "0", "1", "1", "127.0.0.1"]
    assert plain.pop("environment") == [None] * 6
    if Path(str(launched["file"])) != Path(str(plain["file"])):  # plain Python makes the script's path absolute
        assert folder / str(launched.pop("file")) == Path(str(plain.pop("file")))
    assert launched == plain


def test_options_reach_the_script(folder: Path) -> None:
    report = reported(run("-m", "distgrad.launch", "--timeout", "60", "--stall-warn", "2", "report.py", cwd=folder))
    assert report["timeouts"] == ["60.0", "2.0"]


@pytest.mark.parametrize(
    "ending",
    [
        "sys.exit(3)",
        "sys.exit(0)",
        "sys.exit()",
        "sys.exit('a message')",
        "raise ValueError('oh')",
        "sys.exit(256 + 7)",
    ],
)
def test_alone_ends_as_plain_python(tmp_path: Path, ending: str) -> None:
    script = tmp_path / "end.py"
    script.write_text(f"import sys, atexit\natexit.register(print, 'bye')\n{ending}\n")
    plain, launched = run(str(script), cwd=tmp_path), run("-m", "distgrad.launch", str(script), cwd=tmp_path)
    assert (launched.returncode, launched.stdout, launched.stderr) == (plain.returncode, plain.stdout, plain.stderr)


@MPIS
@pytest.mark.parametrize("by_launcher", [False, True], ids=["mpirun", "launch_n"])
def test_ranks_as_under_torchrun(mpi: Mpi, by_launcher: bool, folder: Path) -> None:
    script = ["--timeout", "60", "report.py", "--lr", "0.1"]
    command = [mpi.python, "-m", "distgrad.launch", "-n", "3", *script]
    outcome = run_job(command if by_launcher else mpi.job(3, "-m", "distgrad.launch", *script), 60, folder)
    assert outcome.code == 0, outcome.output
    assert outcome.left == []
    reports = [json.loads(line) for line in outcome.output.splitlines() if line.startswith("{")]
    found = sorted(report["environment"] for report in reports)
    ports = {environment[5] for environment in found}
    assert [environment[:5] for environment in found] == [[str(r), str(r), "3", "3", "127.0.0.1"] for r in range(3)]
    assert len(ports) == 1 and 1024 <= int(ports.pop()) < 65536
    assert all(report["argv"] == ["report.py", "--lr", "0.1"] for report in reports)
    assert all(report["timeouts"] == ["60.0", None] for report in reports)


HOSTFILES = {"mpich": "localhost:2\n", "openmpi": "localhost slots=2\n"}


@MPIS
@pytest.mark.parametrize("option", ["--hosts", "--hostfile"])
def test_hosts_reach_mpirun(mpi: Mpi, option: str, folder: Path) -> None:
    (folder / "hosts").write_text(HOSTFILES[mpi.name])
    value = "localhost:2" if option == "--hosts" else "hosts"
    outcome = run_job([mpi.python, "-m", "distgrad.launch", "-n", "2", option, value, "report.py"], 60, folder)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count('"2", "2", "127.0.0.1"') == 2


@MPIS
def test_site_script(mpi: Mpi, folder: Path) -> None:
    """launch/mpirun.sh, for those who write their own mpirun lines."""
    path = f"{Path(mpi.python).parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(ROOT / "launch" / "mpirun.sh"), "report.py"]
    outcome = run_job(command, 60, folder, {"PATH": path, "RANKS": "3"})
    assert outcome.code == 0, outcome.output
    assert outcome.output.count('"3", "3", "127.0.0.1"') == 3


@MPIS
def test_tagged_lines(mpi: Mpi, tmp_path: Path) -> None:
    script = tmp_path / "talk.py"
    script.write_text("import sys\nprint('one', 'two')\nprint('to stderr', file=sys.stderr)\nprint('no end', end='')\n")
    outcome = run_job([mpi.python, "-m", "distgrad.launch", "-n", "2", "--tag-output", str(script)], 60, tmp_path)
    assert outcome.code == 0, outcome.output
    for rank in (0, 1):
        assert f"[{rank}] one two\n" in outcome.output
        assert f"[{rank}] to stderr\n" in outcome.output
        assert f"[{rank}] no end" in outcome.output


@MPIS
@pytest.mark.parametrize("first", ["", "import numpy\n"], ids=["distgrad first", "numpy first"])
def test_four_ranks_share_the_cores(mpi: Mpi, first: str, tmp_path: Path) -> None:
    """Started by a parent that runs distgrad itself, and with NumPy loaded before distgrad.

    In a script under the launcher nothing comes before distgrad, so there the two are one case.
    """
    pytest.importorskip("threadpoolctl", reason="the threads of the BLAS can be read only with threadpoolctl")
    script = tmp_path / "threads.py"
    script.write_text(
        f"{first}import distgrad, numpy, threadpoolctl\nfrom distgrad._environment import job, usable_cores\n"
        "blas = [i['num_threads'] for i in threadpoolctl.threadpool_info() if i['user_api'] == 'blas']\n"
        "print(f'threads {max(blas)} {usable_cores(job)}\\n', end='', flush=True)\n"  # one write: lines stay whole
    )
    launched = "distgrad.launch", str(script)
    for command in (
        mpi.job(4, str(script)),
        mpi.job(4, "-m", *launched) if first else [mpi.python, "-m", launched[0], "-n", "4", launched[1]],
    ):
        outcome = run_job(command, 60, tmp_path)
        assert outcome.code == 0, outcome.output
        lines = [line.split()[1:] for line in outcome.output.splitlines() if line.startswith("threads")]
        assert len(lines) == 4 and all(used == share for used, share in lines), outcome.output


@MPIS
def test_n_inside_a_job_is_refused(mpi: Mpi) -> None:
    outcome = run_job(mpi.job(2, "-m", "distgrad.launch", "-n", "2", __file__), 30)
    assert outcome.code == 2
    assert "leave it out" in outcome.output and "Traceback" not in outcome.output


@MPIS
def test_a_script_that_one_rank_lacks_ends_the_job(mpi: Mpi, tmp_path: Path) -> None:
    """As on a cluster whose hosts do not share their files. The other rank waits in MPI_Init by then."""
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(
        "import runpy, sys\nfrom distgrad._environment import job\n"
        "sys.argv = ['launch', 'there.py' if job.rank == 0 else 'not_there.py']\n"
        "runpy.run_module('distgrad.launch', run_name='__main__', alter_sys=True)\n"
    )
    (tmp_path / "there.py").write_text("print('ran')\n")
    outcome = run_job(mpi.job(2, str(wrapper)), 20, tmp_path)
    assert not outcome.timed_out
    assert outcome.code == 2
    assert "[rank 1] distgrad.launch: error: expected a script, but 'not_there.py' does not exist" in outcome.output


@MPIS
def test_the_summary_has_the_fingerprint(mpi: Mpi) -> None:
    script = str(Path(__file__).parent / "fingerprint.py")
    outcome = run_job([mpi.python, "-m", "distgrad.launch", "-n", "2", script], 60.0)
    lines = [line for line in outcome.output.splitlines() if "fingerprint(model)" in line]
    assert outcome.code == 0 and len(lines) == 2 and lines[0] == lines[1] == outcome.last_line, outcome.output
