"""Reads the files of torch.save without torch, executing nothing in them.

Such a file is a zip with a pickle, ``data.pkl``, and each storage's bytes in ``data/<key>``; before torch 1.6 it was a
row of pickles with the bytes after them. The unpickler here knows a short list of names. What it gives for them are
opaque `_Known` objects, never classes or functions, and it refuses to set attributes on anything, so that a pickle can
call what is on the list and nothing else.
"""

import os
import pickle
import sys
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .._parameter import Parameter
from .._tensor import Size, Tensor
from .._typing import Array
from ..autograd._base import LEAF_MARK, wrap
from ..backend import as_dtype, device
from ..errors import CheckpointError
from ._location import MapLocation, deliver
from ._safetensors import dtype_of

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number with which old files begin
STORAGES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "Untyped": "uint8",
}
DTYPES = {*STORAGES.values(), "uint16", "uint32", "uint64"}


def is_torch_file(beginning: bytes) -> bool:
    """Whether a file that begins so can be one of torch.save."""
    return beginning.startswith((ZIP, LEGACY))


def load_torch(file: BinaryIO, name: str, map_location: MapLocation, weights_only: bool) -> Any:
    """The object in a file of torch.save.

    Args:
        file: open for reading, seekable.
        name: for messages.
        map_location: see `load`.
        weights_only: False also takes classes that can be imported here; those of torch itself stay unknown.

    Raises:
        CheckpointError: the file is truncated or damaged, or holds something that is not on the list.
    """
    rules = _Rules(name, map_location, weights_only)
    try:
        if file.read(len(ZIP)) == ZIP:
            with zipfile.ZipFile(file) as archive:
                return _load_zip(archive, rules)
        file.seek(-len(ZIP), 1)
        return _load_legacy(file, rules)
    except CheckpointError:
        raise
    except EOFError as error:
        raise CheckpointError(f"{name} is truncated") from error
    except Exception as error:  # a damaged pickle or zip can raise anything
        raise CheckpointError(f"{name} is truncated or damaged: {type(error).__name__}: {error}") from error


class _Rules(NamedTuple):
    """What the caller of `load` said."""

    name: str
    map_location: MapLocation
    weights_only: bool


class _Known:
    """A name on the list. It can be called and has no attributes that could be set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a name on the list cannot be changed")


class _StorageKind:
    """The name of a typed storage, as a persistent id gives it."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class _Storage(NamedTuple):
    """A storage: its bytes, and the dtype and the device that it was saved with."""

    data: Array
    dtype: str
    device: str


class _Unpickler(pickle._Unpickler):
    """Reads the pickles of torch.save.

    Args:
        file: the pickle.
        rules: the caller's.
        find_storage: from ``(key, dtype, device, elements, rest of the id)`` to a `_Storage`.
    """

    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: RUF012 - pickle reads it from the class

    def __init__(self, file: Any, rules: _Rules, find_storage: Callable[..., _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self.rules = rules
        self.find_storage = find_storage

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for; most stand for nothing."""
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module == "torch._utils" and name in REBUILD:
            return _Known(lambda *args: REBUILD[name](self.rules, *args))
        if module in ("torch", "torch.storage", "torch.cuda") and name.removesuffix("Storage") in STORAGES:
            return _StorageKind(STORAGES[name.removesuffix("Storage")])
        if module == "torch" and name in DTYPES:
            return as_dtype(name)
        if self.rules.weights_only or module.partition(".")[0] == "torch":
            ours = module.partition(".")[0] != "torch"
            hint = "pass weights_only=False if you trust it" if ours else "save a state_dict() with torch instead"
            raise CheckpointError(f"{self.rules.name} holds {module}.{name}, which is not loaded; {hint}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage of an id ``("storage", kind, key, device, elements, ...)``."""
        tag, kind, key, where, elements, *rest = pid
        if tag != "storage" or not isinstance(kind, _StorageKind):
            raise pickle.UnpicklingError(f"unknown persistent id {tag!r}")
        return self.find_storage(str(key), kind.dtype, str(where), int(elements), rest)

    def load_build(self) -> None:
        """The opcode that gives an object its state: only to an OrderedDict, such as a state dict with `_metadata`."""
        state, target = self.stack.pop(), self.stack[-1]  # type: ignore[attr-defined]
        if type(target) is OrderedDict and isinstance(state, dict):
            if set(state) <= {"_metadata"}:
                target.__dict__.update(state)
        elif self.rules.weights_only:
            kind = type(target).__name__
            raise CheckpointError(f"{self.rules.name} sets the state of a {kind}, which is not allowed")
        else:
            self.stack.append(state)  # type: ignore[attr-defined]
            super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]


def _load_zip(archive: zipfile.ZipFile, rules: _Rules) -> Any:
    names = archive.namelist()
    pickles = [n for n in names if n.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise CheckpointError(f"{rules.name} is a zip file, but not one of torch.save: it has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise CheckpointError(f"{rules.name} is a TorchScript archive; use torch.save on the model's state_dict()")
    big = f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") == b"big"
    swap = big != (sys.byteorder == "big")
    storages: dict[str, _Storage] = {}

    def find_storage(key: str, dtype: str, where: str, elements: int, rest: Any) -> _Storage:
        if key not in storages:
            data = np.frombuffer(bytearray(archive.read(f"{folder}data/{key}")), np.uint8)
            storages[key] = _checked(_swapped(data, dtype) if swap else data, dtype, where, elements, rules)
        return storages[key]._replace(dtype=dtype)

    with archive.open(pickles[0]) as file:
        return _Unpickler(file, rules, find_storage).load()


def _load_legacy(file: BinaryIO, rules: _Rules) -> Any:
    """A file from before torch 1.6: magic number, version, system, object, keys of the storages, and these in turn."""
    storages: dict[str, _Storage] = {}
    start = file.tell()
    whole = file.seek(0, os.SEEK_END)
    file.seek(start)

    def find_storage(key: str, dtype: str, where: str, elements: int, rest: Any) -> _Storage:
        if key not in storages:
            size = elements * dtype_of(dtype, rules.name).itemsize
            if not 0 <= size <= whole:
                raise EOFError
            storages[key] = _Storage(np.zeros(size, np.uint8), dtype, _kind_of(where))
        if rest and rest[0] is not None:
            raise CheckpointError(f"{rules.name} holds views of storages in torch's oldest form; save it anew")
        return storages[key]

    def unpickle() -> Any:
        return _Unpickler(file, rules, find_storage).load()

    _magic, version, system, result, keys = (unpickle() for _ in range(5))
    if version != 1001 or not system["little_endian"]:
        raise CheckpointError(f"{rules.name} has torch's old format {version}; expected 1001 and little-endian")
    for key in keys:
        storage = storages[str(key)]
        size = int.from_bytes(file.read(8), "little") * dtype_of(storage.dtype, rules.name).itemsize
        data = file.read(size)
        if len(data) != storage.data.size:
            raise EOFError
        storage.data[:] = np.frombuffer(data, np.uint8)
    return result


def _checked(data: Array, dtype: str, where: str, elements: int, rules: _Rules) -> _Storage:
    expected = elements * dtype_of(dtype, rules.name).itemsize
    if data.size != expected:
        raise CheckpointError(f"{rules.name} is damaged: expected a storage of {expected} bytes, got {data.size}")
    return _Storage(data, dtype, _kind_of(where))


def _kind_of(where: str) -> str:
    """The device without its number: "cuda" is each rank's own."""
    return where.partition(":")[0]


def _swapped(data: Array, dtype: str) -> Array:
    width = as_dtype(dtype).itemsize // (2 if dtype.startswith("complex") else 1)
    return np.ascontiguousarray(data.reshape(-1, width)[:, ::-1]).reshape(-1)


# ---- what the names on the list do ----
def _tensor(
    rules: _Rules, storage: Any, offset: int, shape: Any, stride: Any, requires_grad: bool = False, hooks: Any = None,
    metadata: Any = None,
) -> Tensor:  # fmt: skip
    return _view(rules, storage, storage.dtype, offset, shape, stride, requires_grad)


def _tensor_of_dtype(
    rules: _Rules, storage: Any, offset: int, shape: Any, stride: Any, requires_grad: bool, hooks: Any, dtype: Any,
    metadata: Any = None,
) -> Tensor:  # fmt: skip
    return _view(rules, storage, as_dtype(dtype).name, offset, shape, stride, requires_grad)


def _view(
    rules: _Rules, storage: Any, dtype: str, offset: int, shape: Any, stride: Any, requires_grad: bool
) -> Tensor:
    """A tensor on a storage. `numpy.ndarray` checks that it lies within the bytes."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("expected a storage")
    kind = dtype_of(dtype, rules.name)
    strides = tuple(int(step) * kind.itemsize for step in stride)
    array = np.ndarray(tuple(map(int, shape)), kind, storage.data, int(offset) * kind.itemsize, strides)
    tensor = deliver(wrap(array), storage.device, rules.map_location)
    tensor._target = LEAF_MARK if requires_grad else None
    return tensor


def _parameter(rules: _Rules, data: Any, requires_grad: bool, hooks: Any, state: Any = None) -> Parameter:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError("expected a tensor")
    return Parameter(data, bool(requires_grad))


def _encode(text: str, encoding: str) -> bytes:
    """How pickle's protocol 2 writes bytes."""
    return text.encode(encoding)


def _device(kind: str, index: int | None = None) -> device:
    return device(kind, index)


def _default_dict(factory: Any = None) -> Any:
    if factory is not None and not isinstance(factory, _Known):
        raise pickle.UnpicklingError("expected a known class in a defaultdict")
    return defaultdict(None if factory is None else PYTHON[factory])


_dict, _list, _set, _int, _float = (_Known(kind) for kind in (dict, list, set, int, float))
PYTHON: dict[_Known, Callable[[], Any]] = {_dict: dict, _list: list, _set: set, _int: int, _float: float}
KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Known(OrderedDict),
    ("collections", "Counter"): _Known(Counter),
    ("collections", "defaultdict"): _Known(_default_dict),
    ("torch", "Size"): _Known(Size),
    ("torch", "device"): _Known(_device),
    ("_codecs", "encode"): _Known(_encode),
}
for _module in ("builtins", "__builtin__"):
    for _name, _value in {
        "dict": _dict,
        "list": _list,
        "set": _set,
        "int": _int,
        "float": _float,
        "frozenset": _Known(frozenset),
        "complex": _Known(complex),
        "bytearray": _Known(bytearray),
        "slice": _Known(slice),
    }.items():
        KNOWN[_module, _name] = _value
REBUILD: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_of_dtype,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
}
