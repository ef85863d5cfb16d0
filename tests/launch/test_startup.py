"""A job that is ended while it starts, at any moment: nothing is left behind, and Ctrl-C ends it with 130.

Between two runs the moment moves through imports, MPI_Init and the first meeting, which take about a second.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs import Job, Mpi, Outcome, installed_mpis

SCRIPT = str(Path(__file__).parent / "faults.py")
DEADLINE = 30.0  # seconds after which a job counts as hanging
MOMENTS = [0.05 + 0.07 * step for step in range(15)]  # seconds after the start
FEW = MOMENTS[2::4]

MPIS = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)


def launched(mpi: Mpi) -> list[str]:
    """`launch -n 3` of a script that goes on."""
    return [mpi.python, "-m", "distgrad.launch", "-n", "3", SCRIPT, "wait"]


def bare(mpi: Mpi) -> list[str]:
    """mpirun alone."""
    return mpi.job(3, SCRIPT, "wait")


def end_after(command: list[str], moment: float, end: Callable[[Job], None]) -> Outcome:
    """Run a job, and call `end` some time after its start."""
    job = Job(command)
    time.sleep(moment)
    end(job)
    outcome = job.finish(DEADLINE)
    assert not outcome.timed_out, outcome.output
    assert outcome.left == [], f"ended after {moment:.2f} s: {outcome.left}\n{outcome.output}"
    return outcome


def ctrl_c(job: Job) -> None:
    os.killpg(job.process.pid, signal.SIGINT)


def kill_a_rank(job: Job) -> None:
    """SIGKILL to the youngest process of the job that runs the script, if there is one yet."""
    ranks = [pid for pid in job.descendants() if pid != job.process.pid and SCRIPT.encode() in command_line(pid)]
    if ranks:
        os.kill(max(ranks), signal.SIGKILL)
    else:
        job.process.kill()


def command_line(pid: int) -> bytes:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return b""
    return b" ".join(words) if b"python" in words[0] else b""


@MPIS
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment:.2f}")
def test_ctrl_c_under_launch_n(mpi: Mpi, moment: float) -> None:
    outcome = end_after(launched(mpi), moment, ctrl_c)
    # Before any code of ours runs, Python has its own endings.
    in_python = any(words in outcome.output for words in ("init_import_site", "Could not import runpy module"))
    assert outcome.code in (130, -signal.SIGINT) or in_python, outcome.output  # a shell shows 130 for both
    assert "no rank left a word" not in outcome.output


@MPIS
@pytest.mark.parametrize("moment", FEW, ids=lambda moment: f"{moment:.2f}")
def test_ctrl_c_under_mpirun(mpi: Mpi, moment: float) -> None:
    outcome = end_after(bare(mpi), moment, ctrl_c)
    assert outcome.code != 0


@MPIS
@pytest.mark.parametrize("starter", [bare, launched], ids=["mpirun", "launch_n"])
@pytest.mark.parametrize("moment", FEW, ids=lambda moment: f"{moment:.2f}")
def test_the_starter_is_killed(mpi: Mpi, moment: float, starter: Callable[[Mpi], list[str]]) -> None:
    assert end_after(starter(mpi), moment, lambda job: job.process.kill()).code == -signal.SIGKILL


@MPIS
@pytest.mark.parametrize("starter", [bare, launched], ids=["mpirun", "launch_n"])
@pytest.mark.parametrize("moment", FEW, ids=lambda moment: f"{moment:.2f}")
def test_a_rank_is_killed(mpi: Mpi, moment: float, starter: Callable[[Mpi], list[str]]) -> None:
    assert end_after(starter(mpi), moment, kill_a_rank).code != 0


@MPIS
@pytest.mark.parametrize("moment", FEW, ids=lambda moment: f"{moment:.2f}")
def test_the_launcher_gets_sigterm(mpi: Mpi, moment: float) -> None:
    outcome = end_after(launched(mpi), moment, lambda job: job.process.terminate())
    assert outcome.code in (128 + signal.SIGTERM, -signal.SIGTERM)
