"""Profiles are measured and merged; predictions from one say where the knee is."""

import sys
from pathlib import Path
from typing import Any

import pytest

from distgrad import comm
from distgrad.bench import BenchError, _files, _profile
from distgrad.bench._predict_command import knee, validation_text
from distgrad.bench._trainer import build
from tests.jobs import installed_mpis, run_job

MIB = 1 << 20


def part(ranks: int) -> dict[str, Any]:
    """What a job of this many ranks measures: a step of 60 ms with a gradient of 8 MiB."""
    machine = {"cpu": "a", "cores": 2, "python": "3", "numpy": "2", "blas": ["b"]}
    record = {"forward": 0.02, "backward": 0.03, "optimizer": 0.01, "ready": [[[2 * MIB], 0.03]]}
    steps = {"steps": [0.06, 0.06], "single": [] if ranks == 1 else [0.06]}
    found = {
        "ranks": ranks,
        "machine": machine,
        "bandwidth": {str(ranks): 1e10 * ranks},
        "records": {"mlp": {**record, **steps, "broadcasts": 0, "on_gpu": False}},
    }
    fit = {"alpha": 1e-5, "alpha_shared": 1e-4, "alpha_beside": 1e-3, "beta": [[1024, 1e-10], [64 * MIB, 1e-10]]}
    return {**found, "all_reduce": fit} if ranks == 2 else found


def test_a_recorded_step_adds_up() -> None:
    found = _profile.record(comm.get_default(), "tiny", 0.1, "cpu")
    assert found["ready"][-1][0] in ([32, 2], [32])  # backward ends with the first layer
    moments = [moment for _, moment in found["ready"]]
    assert len(moments) == 6 and moments == sorted(moments) and moments[0] > 0
    assert moments[-1] <= found["backward"]
    typical = sorted(found["steps"])[len(found["steps"]) // 2]
    assert found["forward"] + found["backward"] + found["optimizer"] == pytest.approx(typical, rel=0.2)


def test_long_records_are_thinned_evenly() -> None:
    assert _profile.thinned([1.0, 2.0]) == [1, 2]
    assert _profile.thinned([float(i) for i in range(2001)])[:3] == [0, 3, 6]


def test_buffers_that_follow_rank_zero_are_counted() -> None:
    """ResNet-20: means, variances (float32) and counts (int64) of 21 normalisations."""
    widths = 7 * 16 + 7 * 32 + 7 * 64
    assert _profile.buffer_bytes(build("resnet", 1, "cpu", 0).model) == 8 * widths + 8 * 21


def test_profiles_of_one_and_two_ranks_are_needed() -> None:
    merged = _profile.merge([part(2), part(1)])
    assert _profile.fits_of(merged).bandwidth == {1: 1e10, 2: 2e10}
    assert sorted(_profile.record_of(merged, "mlp").steps) == [1, 2]
    with pytest.raises(BenchError, match=r"expected profiles of jobs of 1 and of 2 ranks, got those of \[1\]"):
        _profile.fits_of(_profile.merge([part(1)]))
    with pytest.raises(BenchError, match="expected a record of 'gpt'"):
        _profile.record_of(merged, "gpt")


def test_a_machine_that_was_slower_in_the_second_job_is_no_slowdown() -> None:
    """All its steps took twice as long, and those of two ranks a tenth more than those of one."""
    second = part(2)
    second["records"]["mlp"] |= {"steps": [0.132, 0.132], "single": [0.12]}
    merged = _profile.merge([second, part(1)])
    assert _profile.record_of(merged, "mlp").steps[2] == pytest.approx((0.066, 0.066))


def test_the_knee_is_the_first_size_below_the_floor() -> None:
    rows = [{"ranks": ranks, "efficiency": value} for ranks, value in ((8, 0.7), (2, 0.95), (4, 0.79), (1, 1.0))]
    assert knee(rows, 0.8) == {"ranks": 4, "efficiency": 0.79}
    assert knee(rows, 0.5) is None


def test_errors_are_stated() -> None:
    rows = [
        {"workload": "mlp", "ranks": 2, "bucket_mb": mb, "overlap": mb is not None, "predicted": 0.011, "error": error}
        | {"measured": {"median": 0.01, "low": 0.009, "high": 0.012}}
        for mb, error in ((None, 0.1), (1.0, -0.3), (25.0, 0.02))
    ]
    text = validation_text(rows)
    assert "1 MiB in backward" in text and "-30.0 %" in text
    assert text.endswith("error: median 10.0 %, largest 30.0 %")


def test_predicts_from_the_files_of_two_jobs(tmp_path: Path) -> None:
    """A link of 1 Gbit/s needs 8 MiB x 8 bits x 2 x 3/4 = 101 ms between 4 nodes: the knee, and why."""
    files = [tmp_path / f"{ranks}.json" for ranks in (1, 2)]
    for file, ranks in zip(files, (1, 2), strict=True):
        _files.write(file, "part", part(ranks))
    target = tmp_path / "predict.json"
    options = [
        "--workloads",
        "mlp",
        "--nodes",
        "1,2,4",
        "--ranks-per-node",
        "1",
        "--link-gbit",
        "1",
        "--latency-us",
        "0",
    ]
    command = [sys.executable, "-m", "distgrad.bench", "predict", "--profile", *map(str, files), *options]
    outcome = run_job([*command, "--json", str(target)], 60)
    assert outcome.code == 0, outcome.output
    steps = {row["nodes"]: row["step"] for row in _files.read(target, "predict")["predictions"]}
    wire = 8 * MIB * 8 / 1e9
    assert steps == pytest.approx({1: 0.06, 2: 0.06 + wire, 4: 0.06 + 1.5 * wire})
    assert "the knee is at 2 ranks on 2 nodes" in outcome.output and "bytes between the nodes" in outcome.output
    assert target.with_suffix(".png").stat().st_size > 5000


def test_measures_validates_and_can_be_used_again(tmp_path: Path) -> None:
    target = tmp_path / "predict.json"
    options = ["--workloads", "tiny", "--seconds", "0.1", "--validate", "1,2", "--overlap", "--bucket-mb", "1"]
    command = [sys.executable, "-m", "distgrad.bench", "predict", *options, "--json", str(target), "--no-plot"]
    outcome = run_job(command, 180)
    assert outcome.code == 0, outcome.output
    validation = _files.read(target, "predict")["validation"]
    assert [(row["ranks"], row["overlap"]) for row in validation] == [(1, False), (1, True), (2, False), (2, True)]
    assert all(row["measured"]["median"] > 0 for row in validation)
    assert "error: median" in outcome.output and not outcome.left
    again = [
        *command[:4],
        "--workloads",
        "tiny",
        "--profile",
        str(target),
        "--json",
        str(tmp_path / "b.json"),
        "--no-plot",
    ]
    assert run_job(again, 60).code == 0


def test_a_job_of_ones_own_measures_its_part(tmp_path: Path) -> None:
    file = tmp_path / "part.json"
    inner = ["-m", "distgrad.bench", "predict", "--workloads", "tiny", "--seconds", "0.05", "--json", str(file)]
    outcome = run_job(installed_mpis()[0].job(2, *inner), 120)
    assert outcome.code == 0, outcome.output
    assert "--profile" in outcome.output
    found = _files.read(file, "part")
    assert found["all_reduce"]["alpha"] > 0 and len(found["all_reduce"]["beta"]) == 11
