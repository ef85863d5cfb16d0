"""torch's own files, read without torch, and what is refused in them."""

import io
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad.errors import CheckpointError

FIXTURES = Path(__file__).parent / "fixtures"


def test_training_state() -> None:
    loaded = distgrad.load(FIXTURES / "training.pt")
    assert loaded["epoch"] == 3 and loaded["best"] == 0.5
    model = loaded["model"]
    assert list(model)[:2] == ["0.weight", "0.bias"] and model._metadata["1"] == {"version": 2}
    assert model["0.weight"].shape == (4, 3) and model["1.num_batches_tracked"].item() == 2
    assert loaded["optimizer"]["state"][5]["step"].item() == 2
    assert loaded["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_training_goes_on_from_torchs_state() -> None:
    """The third step from torch's file is the rule's third step."""
    loaded = distgrad.load(FIXTURES / "training.pt")
    params = [distgrad.Parameter(t) for name, t in loaded["model"].items() if name.endswith(("weight", "bias"))]
    optimizer = distgrad.optim.Adam(params)
    optimizer.load_state_dict(loaded["optimizer"])
    for p in params:
        p.grad = distgrad.ones(*p.shape)
    before, state = params[0].detach().numpy().copy(), optimizer.state[params[0]]
    m, v = 0.9 * state["exp_avg"].numpy() + 0.1, 0.999 * state["exp_avg_sq"].numpy() + 0.001
    optimizer.step()
    want = before - 0.01 * (m / (1 - 0.9**3)) / (np.sqrt(v / (1 - 0.999**3)) + 1e-8)
    np.testing.assert_allclose(params[0].detach().numpy(), want, rtol=1e-5)


def test_every_kind_of_value() -> None:
    v = distgrad.load(FIXTURES / "values.pt")
    assert type(v) is OrderedDict
    assert type(v["parameter"]) is distgrad.Parameter and v["parameter"].requires_grad
    assert type(v["frozen"]) is distgrad.Parameter and not v["frozen"].requires_grad
    np.testing.assert_array_equal(v["base"].numpy(), np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(v["transposed"].numpy(), v["base"].numpy().T)
    v["base"][1, 0] = -1
    assert v["row"][0] == -1 and v["transposed"][0, 1] == -1
    assert v["size"] == distgrad.Size((1, 2)) and type(v["size"]) is distgrad.Size
    assert v["dtype"] is distgrad.float64 and v["device"] == distgrad.device("cuda:1")
    assert v["counter"] == Counter("aab") and v["data"] == b"\x00\xff" and v["complex"] == 1 + 2j
    assert v["set"] == {1} and v["frozen_set"] == frozenset([2])
    assert v["nested"] == [(1, None, True), {"a": "b", 2: float("inf")}]
    assert v["default"] == defaultdict(list, x=[1]) and v["default"]["new"] == []
    want = {"uint16": [1, 65535], "half": [0.5], "bool": [True, False], "int64": 7, "complex64": [1 + 2j]}
    want["double"] = [0.1]
    for name, values in want.items():
        np.testing.assert_array_equal(v[name].numpy(), values)
    kinds = {"half": "float16", "double": "float64"}
    assert all(v[name].dtype.name == kinds.get(name, name) for name in want)
    assert v["empty"].shape == (0, 3)


def test_bfloat16() -> None:
    pytest.importorskip("ml_dtypes")
    v = distgrad.load(FIXTURES / "values.pt")
    assert v["bfloat16"].dtype.name == "bfloat16" and v["bfloat16"].float().tolist() == [1.0, -2.5]


def test_the_old_format() -> None:
    v = distgrad.load(FIXTURES / "legacy.pt")
    np.testing.assert_array_equal(v["w"].numpy(), np.arange(12.0).reshape(3, 4))
    v["w"][1, 0] = -1
    assert v["row"][0] == -1 and v["n"] == 5 and type(v["p"]) is distgrad.Parameter


def test_whole_models_are_refused() -> None:
    for weights_only in (True, False):
        with pytest.raises(CheckpointError, match=r"holds torch\.nn\.modules\.container\.Sequential.*state_dict"):
            distgrad.load(FIXTURES / "whole_model.pt", weights_only=weights_only)


@pytest.mark.parametrize("name", ["training.pt", "values.pt", "legacy.pt"])
def test_truncated(name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    for part in range(20):
        with pytest.raises(CheckpointError, match=r"truncated|damaged|empty|no checkpoint|holds"):
            distgrad.load(io.BytesIO(content[: len(content) * part // 20]))


@pytest.mark.parametrize("name", ["training.pt", "values.pt", "legacy.pt"])
def test_flipped_bytes_raise_nothing_else(name: str) -> None:
    """What the zip's checksums do not cover may go unseen, but whatever is raised is a CheckpointError."""
    content = (FIXTURES / name).read_bytes()
    found = 0
    for place in range(0, len(content), max(7, len(content) // 150)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        try:
            distgrad.load(io.BytesIO(bytes(damaged)), "cpu")
        except CheckpointError:
            found += 1
    assert found > 10


# ---- hostile pickles ----
def archive(data: bytes, **files: bytes) -> io.BytesIO:
    """A zip of torch's form around a pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", data)
        for name, content in files.items():
            file.writestr(f"archive/data/{name}", content)
    out.seek(0)
    return out


MARKS: list[int] = []


def mark() -> None:
    MARKS.append(1)


class Evil:
    """Unpickling this calls `mark`."""

    def __reduce__(self) -> Any:
        return mark, ()


def test_a_sound_pickle_in_that_form_is_read() -> None:
    assert distgrad.load(archive(pickle.dumps({"a": [1, 2]}))) == {"a": [1, 2]}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("evil", [Evil(), [{"x": (Evil(),)}], print, Path("x"), np.zeros(2)])
def test_code_is_not_executed(evil: Any, protocol: int) -> None:
    with pytest.raises(CheckpointError):
        distgrad.load(archive(pickle.dumps(evil, protocol)))
    assert MARKS == []
    pickle.loads(pickle.dumps(Evil()))
    assert MARKS.pop() == 1


# Opcodes by hand: c = global, R = call, b = set state, } = empty dict, ) = empty tuple, Q = persistent id.
HOSTILE = {
    "attribute of a module": b"\x80\x02ctorch\n_utils.os.system\nX\x04\x00\x00\x00true\x85R.",
    "a dotted name": b"\x80\x04\x8c\x05torch\x94\x8c\x12serialization.load\x94\x93.",
    "state of a name": b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00xK\x01sb.",
    "slot state of a name": b"\x80\x02ccollections\nCounter\nN}X\x06\x00\x00\x00updateK\x01s\x86b.",
    "a new object of a name": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "state of a tensor": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x01tQK\x00K\x01\x85K\x01\x85\x89}tR}X\x05\x00\x00\x00_dataK\x01sb."
    ),
    "beyond the storage": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x01tQK\x00K\x09\x85K\x01\x85\x89}tR."
    ),
    "a negative offset": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x01tQJ\xff\xff\xff\xffK\x01\x85K\x01\x85\x89}tR."
    ),
    "more elements than bytes": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x09tQK\x00K\x01\x85K\x01\x85\x89}tR."
    ),
    "a tensor that is no storage": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))\x89}tR.",
    "an unknown id": b"\x80\x02(X\x05\x00\x00\x00otherK\x01K\x01K\x01K\x01tQ.",
    "a default factory": b"\x80\x02ccollections\ndefaultdict\nc_codecs\nencode\n\x85R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_opcodes(name: str) -> None:
    with pytest.raises(CheckpointError):
        distgrad.load(archive(HOSTILE[name], **{"0": b"\0" * 4}))
    assert Counter.update is not None and not hasattr(OrderedDict, "x")


def test_the_same_opcodes_in_order_give_a_tensor() -> None:
    """So that the cases above fail for their own reason."""
    sound = HOSTILE["state of a tensor"].partition(b"R}X")[0] + b"R."
    assert distgrad.load(archive(sound, **{"0": b"\0\0\x80?"})).tolist() == [1.0]


def test_big_endian_archives() -> None:
    sound = HOSTILE["state of a tensor"].partition(b"R}X")[0] + b"R."
    file = archive(sound, **{"0": b"?\x80\0\0"})
    with zipfile.ZipFile(file, "a") as out:
        out.writestr("archive/byteorder", b"big")
    file.seek(0)
    assert distgrad.load(file).tolist() == [1.0]


def test_other_zip_files_are_named() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a.txt", "x")
    with pytest.raises(CheckpointError, match=r"it has no data\.pkl"):
        distgrad.load(io.BytesIO(out.getvalue()))
    with zipfile.ZipFile(out, "a") as file:
        file.writestr("m/data.pkl", b"")
        file.writestr("m/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="is a TorchScript archive"):
        distgrad.load(io.BytesIO(out.getvalue()))


def test_objects_of_other_packages_with_the_callers_word() -> None:
    file = archive(pickle.dumps({"path": Path("x")}, 2))
    with pytest.raises(CheckpointError, match=r"holds pathlib.*pass weights_only=False"):
        distgrad.load(file)
    file.seek(0)
    assert distgrad.load(file, weights_only=False) == {"path": Path("x")}
