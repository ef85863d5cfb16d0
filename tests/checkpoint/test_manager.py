"""Checkpoints in parts, in the background."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import nn, optim
from distgrad.checkpoint import CheckpointManager, _manager
from distgrad.comm import get_rank
from distgrad.comm._threads import run_threads
from distgrad.errors import CheckpointError
from tests.jobs import ROOT, clean_environment


def state_of(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    tensors = [distgrad.tensor(rng.standard_normal(n).astype(np.float32)) for n in (5, 300, 1, 70)]
    return {
        "model": {"a": tensors[0], "b": tensors[1]},
        "list": [tensors[2], (tensors[3], 4)],
        "epoch": seed,
        "x": None,
    }


def same(a: Any, b: Any) -> bool:
    return distgrad.fingerprint(a) == distgrad.fingerprint(b)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("readers", [1, 2])
def test_any_number_of_ranks_loads_it(ranks: int, readers: int, tmp_path: Path) -> None:
    run_threads(ranks, lambda: CheckpointManager(tmp_path).save(7, state_of(3), blocking=True))
    assert len(list(tmp_path.glob("step-0000000007/part-*"))) == ranks
    found = run_threads(readers, lambda: CheckpointManager(tmp_path).load())
    assert all(same(state, state_of(3)) for state in found)


def test_parts_are_shared_out_evenly(tmp_path: Path) -> None:
    state = {str(i): distgrad.zeros(1000) for i in range(8)}
    run_threads(4, lambda: CheckpointManager(tmp_path).save(0, state, blocking=True))
    sizes = [path.stat().st_size for path in tmp_path.glob("*/part-*")]
    assert max(sizes) < 1.2 * min(sizes)


def test_the_state_may_change_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(_manager, "save", lambda *args: (go_on.wait(10), distgrad.save(*args)))
    manager, state = CheckpointManager(tmp_path), {"w": distgrad.ones(3)}
    manager.save(1, state)
    state["w"].fill_(9)
    assert manager.latest() is None  # it is still being written
    go_on.set()
    manager.wait()
    assert manager.load()["w"].tolist() == [1, 1, 1]


def test_keeps_the_newest(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, keep=2)
    for step in (1, 2, 10, 3):
        manager.save(step, state_of(step), blocking=True)
    assert manager.steps() == [3, 10]
    assert manager.load()["epoch"] == 10 and manager.load(3)["epoch"] == 3
    with pytest.raises(CheckpointError, match="got those of steps: 3, 10"):
        manager.load(2)


def test_a_checkpoint_without_manifest_does_not_count(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path)
    assert manager.load() is None
    manager.save(1, state_of(1), blocking=True)
    manager.save(2, state_of(2), blocking=True)
    (tmp_path / "step-0000000002" / "manifest.json").unlink()
    assert manager.load()["epoch"] == 1


def test_parts_of_a_run_that_broke_off_are_not_taken(tmp_path: Path) -> None:
    for seed in (1, 2):
        run_threads(2, lambda seed=seed: CheckpointManager(tmp_path).save(5, state_of(seed), blocking=True))
    assert CheckpointManager(tmp_path).load()["epoch"] == 2
    assert len(list(tmp_path.glob("*/part-*"))) == 2


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path)
    manager.save(1, state_of(1), blocking=True)
    (part,) = tmp_path.glob("*/part-*")
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"expected [\d,]+ bytes in .*part-00000-of-00001-\w+.dg"):
        manager.load()


def test_an_error_in_the_background_comes_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    manager = CheckpointManager(tmp_path / "file" / "below")
    manager.save(1, state_of(1))
    with pytest.raises(CheckpointError, match=r"was not written: .*Not a directory"):
        manager.wait()
    manager.wait()  # told once


def test_a_rank_that_does_not_save_is_missed(tmp_path: Path) -> None:
    def body() -> str:
        manager = CheckpointManager(tmp_path, timeout=0.2)
        if get_rank() == 0:
            with pytest.raises(CheckpointError, match="part-00001-of-00002"):
                manager.save(1, state_of(1), blocking=True)
        return str(manager.latest())

    assert run_threads(2, body)[0] == "None"


KILLED = """
import os, sys, distgrad
from distgrad.checkpoint import CheckpointManager, _manager
manager = CheckpointManager(sys.argv[1])
manager.save(1, {"w": distgrad.ones(10)}, blocking=True)
_manager.json.dumps = lambda *a, **k: os._exit(9)  # the parts are there, the manifest is not
manager.save(2, {"w": distgrad.zeros(10)}, blocking=True)
"""


def test_killed_while_saving(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, env=clean_environment(), timeout=60)
    assert done.returncode == 9
    assert (tmp_path / "step-0000000002").exists()
    assert CheckpointManager(tmp_path).load()["w"].tolist() == [1] * 10


def test_training_goes_on_from_it(tmp_path: Path) -> None:
    def train(name: str, steps: int, resume: bool = False) -> tuple[str, int]:
        distgrad.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = optim.Adam(model.parameters())
        manager, first = CheckpointManager(tmp_path / name), 0
        if resume:
            state = manager.load()
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            first = state["step"]
        for step in range(first, steps):
            optimizer.zero_grad()
            model(distgrad.ones(4, 3)).sum().backward()
            optimizer.step()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            manager.save(step + 1, state)
        manager.wait()
        return distgrad.fingerprint(model, optimizer), first

    whole = train("whole", 6)[0]
    train("parts", 3)
    assert train("parts", 6, resume=True) == (whole, 3)
    manifest = json.loads((tmp_path / "parts" / "step-0000000006" / "manifest.json").read_text())
    assert manifest["step"] == 6 and len(manifest["parts"]) == 1
