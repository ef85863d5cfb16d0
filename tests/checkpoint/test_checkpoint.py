"""save and load: what goes in comes out, and shared memory stays shared."""

import io
import math
import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distgrad
from distgrad.errors import CheckpointError, DistgradError

DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["bool", "complex64", "complex128"]


def through(obj: Any, **options: Any) -> Any:
    """The object after a trip through a file in memory."""
    file = io.BytesIO()
    distgrad.save(obj, file)
    file.seek(0)
    return distgrad.load(file, **options)


def same(a: Any, b: Any) -> bool:
    """Equal in value and in type, all the way down; nan equals nan."""
    if type(a) is not type(b):
        return False
    if isinstance(a, distgrad.Tensor):
        equal = a.dtype == b.dtype and a.shape == b.shape and a.requires_grad == b.requires_grad
        return equal and same(a.detach().numpy(), b.detach().numpy())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (float, np.floating)):
        return (math.isnan(a) and math.isnan(b)) or (bool(a == b) and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)


# ---- values ----
numbers = st.integers() | st.floats(allow_nan=False)
keys = st.none() | st.booleans() | numbers | st.text() | st.tuples(st.integers(), st.text())
leaves = keys | st.floats() | st.complex_numbers(allow_nan=False) | st.binary()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner) | st.frozensets(keys),
    max_leaves=8,
)


@settings(max_examples=60)
@given(values)
def test_plain_values(value: Any) -> None:
    assert same(through(value), value)


def test_same_finds_differences() -> None:
    for a, b in [(1, 1.0), (0.0, -0.0), ([1], (1,)), ({1: 2}, {1: 3}), (np.zeros(2), np.zeros((2, 1)))]:
        assert same(a, a) and not same(a, b)


def test_special_containers_and_scalars() -> None:
    value = {
        "ordered": OrderedDict(b=1, a=2),
        "counter": Counter("aab"),
        "default": defaultdict(list, {"x": [1]}),
        "set": {1, "a"},
        "size": distgrad.Size((2, 3)),
        "dtype": distgrad.float16,
        "device": distgrad.device("cpu"),
        "scalar": np.float32(0.1),
        "bytearray": bytearray(b"\x00\xff"),
        "big": 2**100,
    }
    result = through(value)
    assert same(result, value) and result["default"]["new"] == []


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_dtypes(dtype: str, tmp_path: Path) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    tensor = distgrad.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype=dtype)
    zero, empty = tensor[0, 0].clone(), tensor[:0].clone()
    state = {"tensor": tensor, "array": tensor.numpy().copy(), "zero": zero, "empty": empty}
    assert same(through(state), state)
    distgrad.save(state, tmp_path / "x")
    assert same(distgrad.load(tmp_path / "x", mmap=True)["tensor"], tensor)


def test_tensors_of_every_form() -> None:
    base = distgrad.arange(24.0).reshape(2, 3, 4)
    state = [
        base.permute(2, 0, 1),
        base[:, ::2],
        base[:, 1, 2],
        distgrad.tensor(5.0).expand(3, 2),
        distgrad.Parameter(distgrad.ones(2)),
        distgrad.Parameter(distgrad.ones(2), requires_grad=False),
        distgrad.ones(2, requires_grad=True),
        distgrad.ones(2, requires_grad=True) * 2,
        np.arange(6)[::-1],
    ]
    for item in state:
        assert same(through(item), item)
    assert same(through(state), state)


# ---- sharing ----
def test_views_share_memory_after_loading() -> None:
    w = distgrad.arange(6.0).reshape(2, 3)
    loaded = through({"w": w, "row": w[1], "transposed": w.t()})
    loaded["w"][1, 0] = 100
    assert loaded["row"][0] == 100 and loaded["transposed"][0, 1] == 100


def test_one_tensor_twice_is_one_tensor_after_loading() -> None:
    p = distgrad.Parameter(distgrad.ones(3))
    loaded = through({"encoder": p, "decoder": p})
    assert loaded["encoder"] is loaded["decoder"]


def test_parameters_in_an_arena_do_not_drag_it_along() -> None:
    """A view of a part of flat memory is stored as that part, and copies of tied parameters only once."""
    flat = distgrad.zeros(1_000_000)
    file = io.BytesIO()
    sparse = distgrad.zeros(1_000_000)[::100_000]
    distgrad.save({"a": flat[10:20], "b": flat[500:600].reshape(10, 10), "c": sparse}, file)
    assert len(file.getvalue()) < 3000
    file = io.BytesIO()
    distgrad.save({str(i): flat for i in range(5)}, file)
    assert len(file.getvalue()) < 4_010_000


def test_optimizer_state_goes_through_a_file(tmp_path: Path) -> None:
    """Resume equals going on, bit for bit."""

    def train(params: Any, optimizer: Any, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            sum((p**4).sum() for p in params).backward()
            optimizer.step()

    params = [distgrad.Parameter(distgrad.arange(float(n)) / 10) for n in (3, 5)]
    optimizer = distgrad.optim.AdamW(params, lr=0.1)
    train(params, optimizer, 3)
    distgrad.save({"params": params, "optimizer": optimizer.state_dict()}, tmp_path / "c")
    train(params, optimizer, 3)
    loaded = distgrad.load(tmp_path / "c")
    other = distgrad.optim.AdamW(loaded["params"], lr=0.5)
    other.load_state_dict(loaded["optimizer"])
    train(loaded["params"], other, 3)
    assert all(map(same, params, loaded["params"]))


# ---- files ----
def test_paths_and_file_objects(tmp_path: Path) -> None:
    for target in (tmp_path / "a", str(tmp_path / "b")):
        distgrad.save([1, 2], target)
        assert distgrad.load(target) == [1, 2]
    with open(tmp_path / "c", "wb") as file:
        file.write(b"before")
        distgrad.save([3], file)
    with open(tmp_path / "c", "rb") as file:
        file.seek(6)
        assert distgrad.load(file) == [3]


def test_a_pipe_can_be_read() -> None:
    reader, writer = os.pipe()
    with open(writer, "wb") as out:
        distgrad.save({"x": 1}, out)
    with open(reader, "rb") as file:
        assert distgrad.load(file) == {"x": 1}


def test_mapped_files_are_not_written_to(tmp_path: Path) -> None:
    distgrad.save({"w": distgrad.zeros(5)}, tmp_path / "x")
    mapped = distgrad.load(tmp_path / "x", mmap=True)["w"]
    mapped[0] = 1
    assert distgrad.load(tmp_path / "x")["w"][0] == 0
    with pytest.raises(CheckpointError, match="expected a path where mmap=True"):
        distgrad.load(io.BytesIO(), mmap=True)


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for value in (1, 2):
        distgrad.save(value, path)
    assert distgrad.load(path) == 2 and os.listdir(tmp_path) == ["x"]
    link = tmp_path / "link"
    link.symlink_to(path)
    distgrad.save(3, link)
    assert link.is_symlink() and distgrad.load(path) == 3


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    distgrad.save("old", path)

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        distgrad.save("new", path)
    assert distgrad.load(path) == "old" and os.listdir(tmp_path) == ["x"]


KILLED = """
import os, signal, sys
import distgrad
from distgrad.checkpoint import _checkpoint

path, moment = sys.argv[1:]
write = _checkpoint.write

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying:
    "A file that kills its process at a certain write."
    def __init__(self, file):
        self.file, self.left = file, int(moment)
    def write(self, data):
        self.left -= 1
        if not self.left:
            self.file.flush()
            die()
        return self.file.write(data)

if moment == "rename":
    os.replace = die
else:
    _checkpoint.write = lambda file, *rest, **named: write(Dying(file), *rest, **named)
distgrad.save({"a": distgrad.ones(100000), "b": distgrad.ones(100000)}, path)
"""


@pytest.mark.parametrize("moment", ["1", "2", "4", "rename"])
def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "x"
    distgrad.save("old", path)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], cwd=os.getcwd(), timeout=60, check=False)
    assert ended.returncode == -9
    assert distgrad.load(path) == "old"


def test_a_missing_directory_or_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the directory .* does not exist"):
        distgrad.save(1, tmp_path / "no" / "x")
    with pytest.raises(FileNotFoundError):
        distgrad.load(tmp_path / "no")


# ---- damage ----
@pytest.fixture(scope="module")
def sound() -> bytes:
    file = io.BytesIO()
    state = {"w": distgrad.arange(40.0), "b": distgrad.tensor([1, 2, 3]), "lr": 0.1, "name": "x", "n": [1, None]}
    distgrad.save(state, file)
    return file.getvalue()


def test_truncated_anywhere(sound: bytes) -> None:
    for part in range(20):
        with pytest.raises(CheckpointError, match=r"truncated|empty|damaged"):
            distgrad.load(io.BytesIO(sound[: len(sound) * part // 20]))
    with pytest.raises(CheckpointError, match=rf"truncated: expected {len(sound)} bytes, got {len(sound) - 1}"):
        distgrad.load(io.BytesIO(sound[:-1]))
    with pytest.raises(CheckpointError, match="damaged: expected"):
        distgrad.load(io.BytesIO(sound + b"x"))


def test_every_flipped_byte_is_found(sound: bytes) -> None:
    for place in range(len(sound)):
        for flip in (0x01, 0xFF):
            damaged = bytearray(sound)
            damaged[place] ^= flip
            with pytest.raises(CheckpointError):
                distgrad.load(io.BytesIO(bytes(damaged)))


def test_flipped_byte_names_the_tensor(sound: bytes) -> None:
    damaged = sound[:-1] + b"x"
    with pytest.raises(CheckpointError, match=r"checksum of '[wb]' does not match"):
        distgrad.load(io.BytesIO(damaged))


@pytest.mark.parametrize("content", [b"", b"x", b"hello world, this is text", b"\0" * 100, b"PK\x03\x04" + b"\0" * 50])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x"):
        distgrad.load(tmp_path / "x")


def test_a_later_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from distgrad.checkpoint import _checkpoint

    file = io.BytesIO()
    monkeypatch.setattr(_checkpoint, "VERSION", 9)
    distgrad.save(1, file)
    monkeypatch.undo()
    file.seek(0)
    with pytest.raises(CheckpointError, match="format 9, of a later version"):
        distgrad.load(file)


# ---- pickles ----
class Thing:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and same(self.value, other.value)

    __hash__ = None  # type: ignore[assignment]


class Evil:
    """Unpickling this calls `mark`."""

    def __reduce__(self) -> Any:
        return mark, ()


MARKS: list[int] = []


def mark() -> None:
    MARKS.append(1)


def test_objects_need_the_callers_word() -> None:
    state = {"epoch": 1, "things": [Thing(distgrad.ones(2))]}
    with pytest.raises(CheckpointError, match=r"Thing at 'things\.0', which can only be unpickled.*weights_only=False"):
        through(state)
    assert through(state, weights_only=False) == state


def test_loading_does_not_execute() -> None:
    with pytest.raises(CheckpointError):
        through(Evil())
    with pytest.raises(CheckpointError):
        distgrad.load(io.BytesIO(pickle.dumps(Evil())))
    assert MARKS == []
    through(Evil(), weights_only=False)
    assert MARKS == [1]


def test_an_object_that_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    result = through(loop, weights_only=False)
    assert result[0] is result
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert through(deep) == deep


def test_a_whole_model(tmp_path: Path) -> None:
    model = distgrad.nn.Sequential(distgrad.nn.Linear(3, 2), distgrad.nn.ReLU())
    distgrad.save(model, tmp_path / "m")
    with pytest.raises(CheckpointError, match="Sequential"):
        distgrad.load(tmp_path / "m")
    loaded = distgrad.load(tmp_path / "m", weights_only=False)
    x = distgrad.ones(4, 3)
    np.testing.assert_array_equal(loaded(x).detach().numpy(), model(x).detach().numpy())


# ---- places ----
def test_map_location() -> None:
    state = {"w": distgrad.ones(2)}
    for location in ("cpu", distgrad.device("cpu"), {"cpu": "cpu"}, lambda t, where: t, lambda t, where: None):
        assert same(through(state, map_location=location), state)
    doubled = through(state, map_location=lambda t, where: t * 2 if where == "cpu" else t)
    np.testing.assert_array_equal(doubled["w"].numpy(), 2)


@pytest.mark.skipif(distgrad.cuda.is_available(), reason="this is about machines without a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match=r"cannot load a tensor onto cuda.*map_location='cpu'"):
        through({"w": distgrad.ones(2)}, map_location="cuda")


def test_errors_are_of_our_tree() -> None:
    assert issubclass(CheckpointError, DistgradError) and issubclass(CheckpointError, RuntimeError)
