"""benchmarks/: the runner at toy size, and the check against the last record with planted changes."""

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distgrad.bench import _files
from tests.jobs import ROOT, clean_environment, run_job

STEPS, CHECK = (str(ROOT / "benchmarks" / name) for name in ("steps.py", "check.py"))


def toy(tmp_path: Path, *more: str) -> tuple[str, dict[str, Any]]:
    file = tmp_path / "steps.json"
    options = ["--workloads", "tiny", "--rounds", "3", "--block", "0.01", "--json", str(file), *more]
    outcome = run_job([sys.executable, STEPS, *options], 120)
    assert outcome.code == 0, outcome.output
    assert not outcome.left
    return outcome.output, _files.read(file, "steps")


def test_measures_in_turn_and_says_who_is_missing(tmp_path: Path) -> None:
    """This Python has no torch, and the other name is no Python at all."""
    output, result = toy(tmp_path, "--torch", sys.executable, "--jax", "/nonexistent/python")
    assert [row["side"] for row in result["rows"]] == ["distgrad", "distgrad compile", "yardstick"]
    assert set(result["unavailable"]) == {"torch", "jax"}
    assert "No module named 'torch'" in result["unavailable"]["torch"]
    ours, compiled = result["rows"][:2]
    assert compiled["first_loss"] == ours["first_loss"] > compiled["loss"]
    assert len(ours["seconds"]) == 3 and ours["loss"] < ours["first_loss"]
    assert 30 < ours["peak_mib"] < 500
    assert "distgrad/it" in output and (tmp_path / "steps.png").exists()


def test_several_ranks_have_ddp(tmp_path: Path) -> None:
    _, result = toy(tmp_path, "--ranks", "2", "--no-plot")
    assert [row["side"] for row in result["rows"]] == ["distgrad", "distgrad compile"] and result["ranks"] == 2


def test_an_older_tree_takes_part(tmp_path: Path) -> None:
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True)
    if git.returncode:
        pytest.skip("the tests do not run in a git checkout")
    _, result = toy(tmp_path, "--against", "HEAD", "--no-plot")
    assert [row["side"] for row in result["rows"]] == ["distgrad", "HEAD"]


# ---- the check -------------------------------------------------------------------------------------------------------


def ratio(median: float, spread: float = 0.03) -> dict[str, float]:
    return {"median": median, "low": median * (1 - spread), "high": median * (1 + spread), "samples": 15}


def recorded() -> dict[str, Any]:
    rows = [
        {"workload": name, "side": side, "ratio": ratio(value)}
        for name in ("mlp", "cnn")
        for side, value in (("distgrad", 1.0), ("yardstick", 4.0), ("torch", 0.8), ("torch fused", 1.1))
    ]
    return {"machine": {"cpu": "a", "time": "then"}, "ranks": 1, "threads": 1, "rows": rows}


def changed(workload: str, factor: float, sides: tuple[str, ...] = ("yardstick", "torch"), spread: float = 0.03) -> Any:
    """A result in which distgrad takes this much longer."""
    result = copy.deepcopy(recorded())
    for row in result["rows"]:
        if row["workload"] == workload and row["side"] in sides:
            row["ratio"] = ratio(row["ratio"]["median"] * factor, spread)
    return result


def files(tmp_path: Path, new: dict[str, Any]) -> list[str]:
    """The arguments of the check: a new result, and an old one."""
    _files.write(tmp_path / "old.json", "steps", recorded())
    _files.write(tmp_path / "new.json", "steps", new)
    return [str(tmp_path / "new.json"), str(tmp_path / "old.json")]


@pytest.fixture(scope="module")
def program() -> Any:
    """benchmarks/check.py as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_check", CHECK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_workload_that_takes_30_percent_longer_is_found(tmp_path: Path) -> None:
    command = [sys.executable, CHECK, *files(tmp_path, changed("cnn", 1.3))]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    assert done.returncode == 1 and done.stdout.endswith("slower than recorded on then: cnn\n"), done.stderr


@pytest.mark.parametrize(
    "new",
    [
        changed("cnn", 1.0),
        changed("cnn", 0.5),
        changed("cnn", 1.08),  # below the tolerance
        changed("cnn", 1.3, spread=0.4),  # a day on which nothing can be said
        changed("cnn", 1.3, ("torch",)),  # torch has become faster, not distgrad slower
    ],
    ids=["same", "faster", "little", "noise", "torch"],
)
def test_what_is_no_regression_is_none(
    tmp_path: Path, new: dict[str, Any], program: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(files(tmp_path, new)) == 0
    assert capsys.readouterr().out.endswith("none\n")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("threads", 2, "expected the same threads, got 1 then and 2 now"),
        ("machine", {"cpu": "b"}, "expected the same processor, got a then and b now"),
        ("machine", {"cpu": "a", "onednn": "3.2.0"}, "expected the same oneDNN, got None then and 3.2.0 now"),
        ("rows", [], "no workload and reference are in both"),
    ],
)
def test_what_cannot_be_compared_is_not(
    tmp_path: Path, key: str, value: Any, words: str, program: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(files(tmp_path, {**recorded(), key: value})) == 2
    assert words in capsys.readouterr().err


def test_there_is_a_record_to_compare_with() -> None:
    record = json.loads((ROOT / "benchmarks" / "recorded" / "steps.json").read_text())
    assert {"distgrad", "yardstick", "torch"} <= {row["side"] for row in record["rows"]}


def test_a_library_that_breaks_is_left_out_with_its_last_words(tmp_path: Path) -> None:
    """Planted: a Python whose torch is broken inside. The others are measured."""
    (tmp_path / "torch.py").write_text("__version__ = '0'\ndef set_num_threads(n): raise OSError('no such threads')\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    output, result = toy(tmp_path, "--torch", str(python), "--no-plot")
    assert [row["side"] for row in result["rows"]] == ["distgrad", "distgrad compile", "yardstick"]
    assert "tiny: torch left out: OSError: no such threads" in output
