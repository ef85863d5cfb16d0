"""What scaling numbers mean, on hand-made times, and whole runs at toy size."""

import sys
from pathlib import Path
from typing import Any

import pytest

from distgrad import comm
from distgrad.bench import _files
from distgrad.bench._scaling import Plan, efficiency, measure, scaling
from distgrad.bench._scaling_command import merge, rows_of, text_of
from distgrad.bench._statistics import summarise
from distgrad.bench._workloads import WORKLOADS
from tests.jobs import installed_mpis, run_job


def test_efficiency_compares_samples_per_second() -> None:
    """Alone, ranks of 1 s and 2 s a step do 1.5 steps a second; together, at 2 s, one: two thirds."""
    assert efficiency([2.0], [[1.0, 1.0]]).median == pytest.approx(0.5)
    assert efficiency([2.0], [[1.0, 2.0]]).median == pytest.approx(2 / 3)


def test_waiting_for_a_slow_rank_is_a_loss() -> None:
    """A planted mistake: with the slowest rank as the measure this would be 100 %."""
    assert efficiency([2.0, 2.0], [[1.0, 2.0], [1.0, 2.0]]).high < 0.7


def test_weak_scaling_keeps_the_time_and_strong_scaling_divides_it() -> None:
    one, many = summarise([1.0, 1.0]), summarise([0.5, 0.5])
    assert scaling(one, one, 1.0).median == 1
    assert scaling(one, many, 1 / 2).median == 1
    assert scaling(one, many, 1 / 4).median == 0.5


def run(workload: str, mode: str, ranks: int, with_it: list[float]) -> dict[str, Any]:
    return {
        "workload": workload,
        "mode": mode,
        "ranks": ranks,
        "ranks_per_node": ranks,
        "bucket_mb": None,
        "overlap": False,
        "device": "cpu",
        "batch": 8,
        "with": with_it,
        "without": [[0.8] * ranks] * len(with_it),
    }


MACHINE = {"cpu": "a", "cores": 2, "python": "3", "numpy": "2", "blas": ["b"], "backends": ["serial"]}


def result(*runs: dict[str, Any], backend: str = "serial") -> dict[str, Any]:
    return {"machines": [{**MACHINE, "backends": [backend]}], "runs": list(runs), "skipped": {}}


def test_merging_puts_jobs_of_one_size_together() -> None:
    one, again = result(run("mlp", "weak", 1, [1.0, 1.0])), result(run("mlp", "weak", 1, [3.0]))
    two = result(run("mlp", "weak", 2, [1.25, 1.25]), backend="shm")
    merged = merge([one, two, again])
    assert [r["with"] for r in merged["runs"]] == [[1.0, 1.0, 3.0], [1.25, 1.25]]
    assert [m["backends"] for m in merged["machines"]] == [["serial", "shm"]]
    first, second = rows_of(merged)
    assert second["scaling"].median == pytest.approx(0.8) and second["of"] == 1
    assert second["efficiency"].median == pytest.approx(0.64)
    assert "80.0 % (80.0 % - 240.0 %)" in text_of(merged)
    assert first["step"].samples == 3


def test_strong_scaling_is_over_the_smallest_job_there_is() -> None:
    rows = rows_of(result(run("mlp", "strong", 2, [1.0]), run("mlp", "strong", 4, [0.625])))
    assert rows[1]["scaling"].median == pytest.approx(0.8) and rows[1]["of"] == 2


def test_what_is_measured_on_threads() -> None:
    """Three ranks: a batch of 32 has no third, which is said and not rounded."""
    plan = Plan(["tiny"], ["weak", "strong"], 0.05, 2)
    found = comm.run_threads(3, lambda: measure(comm.get_default(), 3, plan, lambda text: None))
    (weak,) = found[0]["runs"]
    assert (weak["mode"], weak["batch"], weak["ranks"]) == ("weak", WORKLOADS["tiny"].batch, 3)
    assert len(weak["with"]) == 2 and [len(everyone) for everyone in weak["without"]] == [3, 3]
    assert weak["with"] == found[2]["runs"][0]["with"]  # the slowest rank's, the same on all
    assert found[0]["skipped"] == {"tiny, strong, 3 ranks": "a batch of 32 cannot be cut into equal parts"}


def test_a_single_rank_is_timed_while_the_others_sleep() -> None:
    plan = Plan(["tiny"], ["weak"], 0.05, 2, single=True)
    found = comm.run_threads(2, lambda: measure(comm.get_default(), 2, plan, lambda text: None))
    assert found[0]["runs"][0]["single"] == found[1]["runs"][0]["single"]
    assert len(found[0]["runs"][0]["single"]) == 2


def test_one_rank_is_the_start_of_both_modes() -> None:
    plan = Plan(["tiny"], ["weak", "strong"], 0.02, 2)
    weak, strong = measure(comm.get_default(), 1, plan, lambda text: None)["runs"]
    assert {**weak, "mode": "strong"} == strong


TOY = ("--workloads", "tiny", "--modes", "weak", "--seconds", "0.1", "--rounds", "2")


def test_starts_jobs_and_merges_them(tmp_path: Path) -> None:
    file = tmp_path / "scaling.json"
    command = [
        sys.executable,
        "-m",
        "distgrad.bench",
        "scaling",
        "-n",
        "1,2",
        "--repeat",
        "2",
        *TOY,
        "--json",
        str(file),
    ]
    outcome = run_job(command, 120)
    assert outcome.code == 0, outcome.output
    runs = _files.read(file, "scaling")["runs"]
    assert [(r["ranks"], len(r["with"])) for r in runs] == [(1, 4), (2, 4)]
    assert "of alone" in outcome.output and file.with_suffix(".png").stat().st_size > 5000
    assert not outcome.left


def test_a_file_of_every_job_and_a_merge_of_them(tmp_path: Path) -> None:
    mpi, files = installed_mpis()[0], [tmp_path / f"{ranks}.json" for ranks in (2, 3)]
    for ranks, file in zip((2, 3), files, strict=True):
        inner = ["-m", "distgrad.bench", "scaling", *TOY, "--overlap", "--json", str(file), "--no-plot"]
        outcome = run_job(mpi.job(ranks, *inner), 120)
        assert outcome.code == 0, outcome.output
    merged = tmp_path / "merged.json"
    command = [sys.executable, "-m", "distgrad.bench", "merge", *map(str, files), "--json", str(merged)]
    outcome = run_job(command, 60)
    assert outcome.code == 0, outcome.output
    assert [(r["ranks"], r["overlap"]) for r in _files.read(merged, "scaling")["runs"]] == [(2, True), (3, True)]


def test_an_unknown_workload_is_named() -> None:
    outcome = run_job([sys.executable, "-m", "distgrad.bench", "scaling", "--workloads", "mlp,vgg"], 30)
    assert outcome.code == 2
    assert outcome.last_line.endswith("--workloads: expected some of tiny, mlp, cnn, resnet, gpt, lstm, got vgg")
