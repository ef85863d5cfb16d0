"""The arithmetic of the all-reduce benchmark, its check of results, and whole runs at toy size."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distgrad import comm
from distgrad.bench import BenchError, _allreduce, _files
from distgrad.bench._bandwidth import Bandwidth
from distgrad.bench._contenders import Local, expected_result, our_backends
from distgrad.comm import Communicator, ReduceOp
from tests.jobs import ROOT, Mpi, installed_mpis, run_job

MPIS = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)


def test_bandwidths_are_those_of_nccl_tests() -> None:
    """1 GB in 10 ms: 100 GB/s; on 8 ranks a ring carries 2 x 7/8 of it over each link."""
    assert _allreduce.algorithm_bandwidth(10**9, 0.01) == pytest.approx(100e9)
    assert _allreduce.bus_bandwidth(10**9, 0.01, 8) == pytest.approx(175e9)
    assert _allreduce.bus_bandwidth(10**9, 0.01, 2) == pytest.approx(100e9)
    assert _allreduce.bus_bandwidth(10**9, 0.01, 1) == 0


def test_share_of_memory_counts_a_read_of_each_rank_and_one_write() -> None:
    """Two ranks, 10 MB in 1 ms at 60 GB/s: 30 MB of 60."""
    assert _allreduce.memory_share(10**7, 1e-3, 2, 60e9) == pytest.approx(0.5)


def test_speedup_is_over_mpi_in_the_same_round() -> None:
    timings = [_allreduce.Timing("shm", [1.0, 2.0, 1.0]), _allreduce.Timing("MPI sum", [3.0, 6.0, 3.0])]
    ours, theirs = _allreduce.rows_of(1000, timings, 2, 2, 1e9)
    assert ours["speedup"] == {"median": 3, "low": 3, "high": 3, "samples": 3}
    assert theirs["speedup"]["median"] == 1
    assert ours["busbw"] == pytest.approx(1000)


def on_two_threads(function: Callable[[Communicator], Any]) -> list[Any]:
    return comm.run_threads(2, lambda: function(comm.get_default()))


def bandwidth(group: Communicator) -> Bandwidth:
    return Bandwidth(lambda value: _allreduce.slowest(group, value), group.barrier, group.size, nbytes=1 << 16)


@pytest.mark.parametrize("op", [ReduceOp.SUM, ReduceOp.AVG, ReduceOp.MAX, ReduceOp.MIN])
def test_a_run_has_a_row_for_every_size_and_contender(op: ReduceOp) -> None:
    def run(group: Communicator) -> dict[str, Any]:
        contenders, _ = our_backends(group, np.dtype(np.float32), op, [True, False], on_gpu=False)
        assert contenders[0].name == "threads"
        return _allreduce.run(group, contenders[:2], [4, 4096], np.dtype(np.float32), 3, group.size, lambda text: None)

    result = on_two_threads(run)[0]
    assert [(row["bytes"], row["name"]) for row in result["rows"]] == [
        (size, name) for size in (4, 4096) for name in ("threads", "threads private")
    ]
    assert all(row["seconds"]["median"] > 0 and row["seconds"]["samples"] == 3 for row in result["rows"])
    assert result["memory"]["bytes_per_second"]["median"] > 0


@pytest.mark.parametrize("op", [ReduceOp.SUM, ReduceOp.AVG, ReduceOp.MAX])
def test_an_all_reduce_that_forgets_a_rank_is_found_out(op: ReduceOp) -> None:
    """A planted bug: nobody is so fast as one who does nothing."""

    def run(group: Communicator) -> None:
        lazy = Local("lazy", group, op, lambda n: np.empty(n, np.float32), lambda buffer: None)
        _allreduce.measure(group, [lazy], 100, 1, bandwidth(group))

    with pytest.raises(BenchError, match="lazy: wrong result for 100 elements on 2 ranks"):
        on_two_threads(run)


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def contender(name: str, group: Communicator) -> Local:
        def reduce(buffer: Any) -> None:
            if group.rank == 0 and (not order or order[-1] != name):
                order.append(name)
            group.all_reduce(buffer)

        return Local(name, group, ReduceOp.SUM, lambda n: np.empty(n, np.float32), reduce)

    def run(group: Communicator) -> list[_allreduce.Timing]:
        return _allreduce.measure(group, [contender("a", group), contender("b", group)], 10, 4, bandwidth(group))

    on_two_threads(run)
    assert order == ["a", "b", *"ab", *"a", *"b", *"a"]  # warm-up, then a b, b a, a b, b a, equal neighbours once


def test_expected_results() -> None:
    assert expected_result(ReduceOp.SUM, 4) == 10 and expected_result(ReduceOp.AVG, 4) == 2.5


# ---- whole runs ------------------------------------------------------------------------------------------------------

TOY = ("--sizes", "4K,300K", "--rounds", "2")


@MPIS
def test_starts_its_own_job(mpi: Mpi, tmp_path: Path) -> None:
    file = tmp_path / "a" / "result.json"
    command = [mpi.python, "-m", "distgrad.bench", "allreduce", "-n", "2", *TOY, "--json", str(file), "--no-plot"]
    outcome = run_job(command, 120)
    assert outcome.code == 0, outcome.output
    result = _files.read(file, "allreduce")
    assert {row["name"] for row in result["rows"]} == {"shm", "mpi", "MPI sum", "MPI sum, division"}
    assert "hierarchical" in result["unavailable"]
    assert result["ranks"] == 2 and "MPI" in result["machine"]["mpi"]
    assert "busbw" in outcome.output and "300 KiB" in outcome.output
    assert not outcome.left


def test_runs_inside_a_job_and_on_pretended_nodes(tmp_path: Path) -> None:
    mpi, file = installed_mpis()[0], tmp_path / "result.json"
    options = [*TOY, "--op", "sum", "--dtype", "float16", "--buffers", "both", "--json", str(file), "--no-plot"]
    command = mpi.job(4, "-m", "distgrad.bench", "allreduce", *options)
    outcome = run_job(command, 120, environment={"DISTGRAD_TOPOLOGY": "2x2"})
    assert outcome.code == 0, outcome.output
    result = json.loads(file.read_text())
    assert {"hierarchical", "hierarchical private"} <= {row["name"] for row in result["rows"]}
    assert result["ranks_per_node"] == 2
    assert "float16" in result["unavailable"]["MPI"] and "one node" in result["unavailable"]["shm"]


def test_alone(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    options = [*TOY, "-n", "1", "--json", str(file), "--no-plot"]
    outcome = run_job([sys.executable, "-m", "distgrad.bench", "allreduce", *options], 60)
    assert outcome.code == 0, outcome.output
    assert {row["name"] for row in _files.read(file, "allreduce")["rows"]} == {"serial"}


def test_without_matplotlib_the_error_comes_after_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", "distgrad.bench", "allreduce", *TOY, "-n", "1", "--json", str(file)]
    outcome = run_job(command, 60, environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert outcome.code == 2
    assert outcome.last_line.startswith("distgrad.bench: error: the plot needs matplotlib (not here)")
    assert file.exists() and "busbw" in outcome.output


def test_files_say_what_they_hold(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    _files.write(file, "scaling", {"runs": []})
    with pytest.raises(BenchError, match=r"expected .* to be a result of 'allreduce', got one of 'scaling'"):
        _files.read(file, "allreduce")
    file.write_text("{")
    with pytest.raises(BenchError, match="expected a file of"):
        _files.read(file, "scaling")
