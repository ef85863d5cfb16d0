"""Our files and the safetensors library read each other's tensors."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

import distgrad
from distgrad.checkpoint import load_safetensors, save_safetensors
from distgrad.errors import CheckpointError

library = pytest.importorskip("safetensors.numpy", reason="the safetensors library is not installed")
reader = pytest.importorskip("safetensors")

TENSORS = {
    "half": np.arange(3, dtype="float16"),
    "w": np.arange(6, dtype="float32").reshape(2, 3),
    "n": np.array(7, dtype="int64"),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 2)),
}


def test_our_checkpoints_can_be_read_by_the_library(tmp_path: Path) -> None:
    state = {name: distgrad.tensor(array) for name, array in TENSORS.items()}
    distgrad.save({"model": state, "tied": state["w"].t(), "epoch": 3}, tmp_path / "x")
    with reader.safe_open(str(tmp_path / "x"), "np") as file:
        assert sorted(file.keys()) == sorted(f"model.{name}" for name in TENSORS)
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(file.get_tensor(f"model.{name}"), array)


def test_plain_files_both_ways(tmp_path: Path) -> None:
    save_safetensors({name: distgrad.tensor(a) for name, a in TENSORS.items()}, tmp_path / "x", {"by": "us"})
    for name, array in library.load_file(tmp_path / "x").items():
        np.testing.assert_array_equal(array, TENSORS[name])
    library.save_file(TENSORS, tmp_path / "y", {"by": "them"})
    for loaded in (load_safetensors(tmp_path / "y"), distgrad.load(tmp_path / "y", mmap=True)):
        assert sorted(loaded) == sorted(TENSORS)
        for name, tensor in loaded.items():
            np.testing.assert_array_equal(tensor.numpy(), TENSORS[name])
            assert tensor.numpy().dtype == TENSORS[name].dtype


def test_names_that_meet_are_told_apart() -> None:
    file = io.BytesIO()
    state = {"a": {"b": distgrad.ones(1)}, "a.b": distgrad.zeros(1), "__metadata__": distgrad.ones(2)}
    distgrad.save(state, file)
    assert sorted(library.load(file.getvalue())) == ["__metadata__#2", "a.b", "a.b#2"]
    loaded = distgrad.load(io.BytesIO(file.getvalue()))
    assert loaded["a"]["b"] == 1 and loaded["a.b"] == 0


def hostile(head: object, data: bytes = b"\0" * 8) -> io.BytesIO:
    text = json.dumps(head).encode()
    return io.BytesIO(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("entry", [
    {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]},
    {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
    {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
    {"dtype": "F4", "shape": [2], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": "no", "data_offsets": [0, 8]},
    {"shape": [2]},
    [1, 2],
])  # fmt: skip
def test_hostile_headers(entry: object) -> None:
    with pytest.raises(CheckpointError):
        distgrad.load(hostile({"x": entry}))


def test_a_sound_header_of_that_form_is_read() -> None:
    loaded = distgrad.load(hostile({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}))
    np.testing.assert_array_equal(loaded["x"].numpy(), [0, 0])


def test_errors() -> None:
    with pytest.raises(CheckpointError, match="safetensors has no dtype for complex128"):
        save_safetensors({"x": distgrad.tensor([1j]).to(dtype="complex128")}, io.BytesIO())
    file = io.BytesIO()
    distgrad.save([1], file)
    file.seek(0)
    with pytest.raises(CheckpointError, match="expected a file of named tensors"):
        load_safetensors(file)
