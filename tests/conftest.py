"""What holds for all tests: MPI tests run in jobs of their own, and every rank can be asked for its stack."""

import faulthandler
import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("DISTGRAD_ONEDNN", "0")  # the NumPy kernels are tested; test_onednn*.py say when not

from distgrad._environment import job
from tests.rank_results import writer_for_this_rank

MPI_TESTS = Path(__file__).parent / "mpi"

# Test files and folders that start MPI jobs, by the group that runs them one after the other.
JOBS = {
    "test_mpi.py": "ranks",
    "test_hosts.py": "ranks",
    "test_hosts_diagnosis.py": "ranks",
    "launch": "launch",
    "examples": "programs",
    "bench": "programs",
}
FIRST = ("launch", "ranks")  # the groups that take longest

# Lines for the end of the run, such as what was skipped inside MPI jobs.
SUMMARY = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SUMMARY] = []
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `pytest &`; the jobs of tests would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if job.in_mpi_job:
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__, all_threads=True)
        writer = writer_for_this_rank(job.rank)
        if writer is not None:
            config.pluginmanager.register(writer)
    else:
        import hypothesis  # which ranks do without

        # Examples have no deadlines: a machine may be busy with other things.
        slow = [hypothesis.HealthCheck.too_slow]
        hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=slow)
        hypothesis.settings.load_profile("tests")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """tests/mpi is for ranks; without mpirun, tests/test_mpi.py starts the ranks that run it."""
    if collection_path.is_relative_to(MPI_TESTS) and not config.getoption("--with-mpi"):
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _is_for_ranks(item.path):
            item.add_marker("mpi")
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: FIRST.index(found) if (found := _group(item.path)) in FIRST else len(FIRST))


@cache  # thousands of tests are in few files
def _is_for_ranks(path: Path) -> bool:
    return path.is_relative_to(MPI_TESTS)


@cache
def _group(path: Path) -> str:
    """What `pytest -n` runs in one process, in order: a file, and all that starts MPI jobs of one kind."""
    if not path.is_relative_to(MPI_TESTS.parent):
        return str(path)  # a planted test
    parts = path.relative_to(MPI_TESTS.parent).parts
    return JOBS.get(parts[0], "/".join(parts))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of `pytest -n` hands its lines to the one that writes the report."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["summary"] = session.config.stash[SUMMARY]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the lines of a process that has ended."""
    node.config.stash[SUMMARY] += getattr(node, "workeroutput", {}).get("summary", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[SUMMARY]
    if lines:
        terminalreporter.section("MPI test jobs")
        for line in lines:
            terminalreporter.write_line(line)
