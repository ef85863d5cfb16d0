"""Results of one pytest run by several ranks: each rank writes a file, the parent reads them all."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

DIRECTORY = "DISTGRAD_TEST_RESULTS"  # the variable by which the parent tells the ranks where to write


class Result(NamedTuple):
    """How one test ended on one rank."""

    rank: int
    test: str
    outcome: str  # passed, failed or skipped
    detail: str  # why: the traceback or the reason


class Writer:
    """A pytest plugin that writes this rank's results line by line, so that those before a crash are kept.

    Args:
        directory: the folder that the parent reads.
        rank: the rank of this process.
    """

    def __init__(self, directory: Path, rank: int) -> None:
        self._file = (directory / f"rank{rank}.jsonl").open("a", buffering=1)
        self._rank = rank

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after each of the three phases of a test."""
        if report.when == "call" or report.outcome != "passed":
            detail = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self._file.write(json.dumps(Result(self._rank, report.nodeid, report.outcome, detail)) + "\n")

    def pytest_unconfigure(self) -> None:
        """Called by pytest at the end."""
        self._file.close()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Called by pytest for each file or class that it reads."""
        if report.outcome == "failed":
            self._file.write(json.dumps(Result(self._rank, report.nodeid, report.outcome, report.longreprtext)) + "\n")


def writer_for_this_rank(rank: int) -> Writer | None:
    """The plugin for this process, where a parent wants results."""
    directory = os.environ.get(DIRECTORY)
    return Writer(Path(directory), rank) if directory else None


def read(directory: Path) -> list[Result]:
    """All results of all ranks."""
    lines = [line for path in sorted(directory.glob("rank*.jsonl")) for line in path.read_text().splitlines()]
    return [Result(*json.loads(line)) for line in lines]


def problems(results: list[Result], ranks: int) -> list[str]:
    """What is wrong with the results of a job: failures first, then ranks that ran other tests than rank 0."""
    found = [f"[rank {r.rank}] {r.test}:\n{r.detail}" for r in results if r.outcome == "failed"]
    tests = [{r.test for r in results if r.rank == rank} for rank in range(ranks)]
    if not tests[0]:
        found.append("rank 0 ran no test")
    for rank in range(1, ranks):
        if tests[rank] != tests[0]:
            found.append(f"rank {rank} differs from rank 0 in the tests {sorted(tests[rank] ^ tests[0])}")
    return found


def skips(results: list[Result]) -> Counter[str]:
    """The reasons for which rank 0 skipped tests, with how many."""
    return Counter(r.detail for r in results if r.rank == 0 and r.outcome == "skipped")
