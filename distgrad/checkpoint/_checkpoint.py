"""save and load."""

import io
import json
import os
import pickle
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

import numpy as np

from .._parameter import Parameter
from .._tensor import Tensor
from .._typing import Array
from ..autograd._base import LEAF_MARK, wrap
from ..backend import OF_NUMPY, backend_of
from ..errors import CheckpointError
from ._atomic import atomic_write
from ._location import MapLocation, deliver
from ._safetensors import (
    DTYPES,
    NAMES,
    Entry,
    Header,
    Stored,
    checksum,
    dtype_of,
    looks_like,
    numpy_dtype,
    read_header,
    write,
)
from ._storage import Storage, arrange
from ._torch_file import is_torch_file, load_torch
from ._tree import Encoder, NotPlain, decode

Path = str | os.PathLike[str]
VERSION = 1
CHUNK = 1 << 24  # bytes read at once


# ---- saving ----
def save(obj: Any, f: Path | BinaryIO) -> None:
    """Writes an object to a file that appears whole or not at all.

    Nested dicts, lists, tuples and sets of tensors, arrays, numbers, strings and the like, which is what state dicts
    are, are written so that loading them executes nothing, and tensors that share memory share it after loading. The
    file is a safetensors file, with checksums. Any other object, such as a whole model, is pickled: it needs
    ``load(..., weights_only=False)``.

    Args:
        obj: what to save.
        f: a path, or a binary file open for writing.

    Raises:
        FileNotFoundError: the directory does not exist.

    Example:
        >>> save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, "checkpoint.dg")
    """
    entries, metadata = _entries(obj)
    with _opened(f) as file:
        write(file, entries, metadata, own=True)


def save_safetensors(
    tensors: Mapping[str, Tensor], f: Path | BinaryIO, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes named tensors as a plain safetensors file, for other tools.

    Args:
        tensors: by name, as ``model.state_dict()`` gives them; tensors that share memory are written each by itself.
        f: a path, or a binary file open for writing.
        metadata: text by name.
    """
    entries = []
    for name, tensor in tensors.items():
        array = np.ascontiguousarray(_host(tensor)).reshape(tensor._data.shape)
        entries.append(Entry(name, _safe_name(array), array.shape, array.reshape(-1).view(np.uint8)))
    entries.sort(key=lambda entry: -_width(entry))
    with _opened(f) as file:
        write(file, entries, dict(metadata or {}), own=False)


def _entries(obj: Any) -> tuple[list[Entry], dict[str, str]]:
    """The bytes and the metadata that stand for an object."""
    encoder = Encoder()
    try:
        tree = encoder.encode(obj)
    except (NotPlain, RecursionError) as error:
        return _pickled(obj, error)
    storages, placed = arrange(_hosts(encoder.leaves))
    order = sorted(range(len(storages)), key=lambda i: -_storage_width(storages[i]))
    names = _unique([encoder.paths[storages[i].owner] for i in order])
    entries = [_entry(name, storages[i]) for name, i in zip(names, order, strict=True)]
    number = {i: n for n, i in enumerate(order)}
    leaves = [
        {**_leaf(leaf), "storage": names[number[p.storage]], "offset": p.offset, "strides": p.strides}
        for leaf, p in zip(encoder.leaves, placed, strict=True)
    ]
    return entries, _metadata(entries, kind="tree", tree=tree, leaves=leaves)


def _pickled(obj: Any, reason: Exception) -> tuple[list[Entry], dict[str, str]]:
    """The bytes of an object that needs pickle, with what made it so for the message when it is loaded."""
    data = np.frombuffer(pickle.dumps(obj, protocol=5), np.uint8)
    why = "an object nested very deeply"
    if isinstance(reason, NotPlain):
        kind = type(reason.value)
        at = f" at {reason.path!r}" if reason.path else ""
        why = f"an object of class {kind.__module__}.{kind.__qualname__}{at}"
    entries = [Entry("pickle", "U8", data.shape, data)]
    return entries, _metadata(entries, kind="pickle", tree=why, leaves=[])


def _metadata(entries: list[Entry], kind: str, tree: Any, leaves: list[Any]) -> dict[str, str]:
    sums = {entry.name: checksum(entry.data.data) for entry in entries}
    content = {"version": VERSION, "kind": kind, "tree": tree, "leaves": leaves, "checksums": sums}
    return {"tree": json.dumps(content, separators=(",", ":"), allow_nan=False)}


def _host(leaf: Any) -> Array:
    return backend_of(leaf._data).to_numpy(leaf._data) if isinstance(leaf, Tensor) else leaf


def _hosts(leaves: list[Any]) -> list[Array]:
    """The leaves' arrays in host memory; two tensors on the same GPU memory become one array."""
    seen: dict[Any, Array] = {}
    hosts = []
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.is_cuda:
            key = (leaf.data_ptr(), leaf._data.shape, leaf._data.strides, leaf._data.dtype)
            if key not in seen:
                seen[key] = _host(leaf)
            hosts.append(seen[key])
        else:
            hosts.append(_host(leaf))
    return hosts


def _leaf(leaf: Any) -> dict[str, Any]:
    if isinstance(leaf, np.ndarray):
        return {"kind": "array", "dtype": OF_NUMPY[leaf.dtype].name, "shape": leaf.shape}
    return {
        "kind": "parameter" if isinstance(leaf, Parameter) else "tensor",
        "dtype": leaf.dtype.name,
        "shape": tuple(leaf.shape),
        "device": leaf.device.type,  # without the number: "cuda" is each rank's own
        "requires_grad": leaf.requires_grad,
    }


def _safe_name(array: Array) -> str:
    name = OF_NUMPY[array.dtype].name
    if name not in NAMES:
        raise CheckpointError(f"safetensors has no dtype for {name}; convert the tensor first, or use save()")
    return NAMES[name]


def _entry(name: str, storage: Storage) -> Entry:
    if storage.dtype in NAMES and storage.dtype != "complex64":  # which older readers do not know
        return Entry(name, NAMES[storage.dtype], storage.shape, storage.data)
    return Entry(name, "U8", storage.data.shape, storage.data)


def _storage_width(storage: Storage) -> int:
    return 0 if storage.dtype is None else dtype_of(storage.dtype, "").itemsize


def _width(entry: Entry) -> int:
    return dtype_of(DTYPES[entry.dtype], entry.name).itemsize


def _unique(paths: list[str]) -> list[str]:
    """The paths as names of which no two are equal."""
    used = {"__metadata__", ""}
    names = []
    for path in paths:
        name, n = path or "tensor", 1
        while name in used:
            n += 1
            name = f"{path or 'tensor'}#{n}"
        used.add(name)
        names.append(name)
    return names


# ---- loading ----
def load(f: Path | BinaryIO, map_location: MapLocation = None, weights_only: bool = True, *, mmap: bool = False) -> Any:
    """Reads what `save`, `torch.save` or safetensors wrote. By default nothing in the file is executed.

    Args:
        f: a path, or a binary file open for reading.
        map_location: where tensors go; None for the kind of device that they were saved on. See `deliver`.
        weights_only: False also unpickles objects, which lets the file run any code: only for files that you trust.
        mmap: leave the tensors of a file by `save` or safetensors in it until they are read, without checking their
            bytes.

    Returns:
        The object; of a safetensors file, a dict of tensors.

    Raises:
        CheckpointError: the file is truncated or damaged, none of these kinds, or holds pickled objects.
    """
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, os.fspath(f), map_location, weights_only, os.fspath(f) if mmap else None)
    if mmap:
        raise CheckpointError("load: expected a path where mmap=True, got a file object")
    return _load(_seekable(f), "the file", map_location, weights_only, None)


def load_safetensors(f: Path | BinaryIO, map_location: MapLocation = None) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file by name.

    Raises:
        CheckpointError: it is none, or damaged.
    """
    loaded = load(f, map_location)
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError("load_safetensors: expected a file of named tensors, got another object; use load()")
    return loaded


def _opened(f: Any) -> AbstractContextManager[BinaryIO]:
    """A file to write into: a new one of this path, or the one that the caller has open."""
    if isinstance(f, (str, os.PathLike)):
        return atomic_write(f)
    if not hasattr(f, "write"):
        raise TypeError(f"save: expected a path or a binary file open for writing, got {type(f).__name__}")
    return nullcontext(f)


def _seekable(f: Any) -> BinaryIO:
    if not hasattr(f, "read"):
        raise TypeError(f"load: expected a path or a binary file open for reading, got {type(f).__name__}")
    return f if f.seekable() else io.BytesIO(f.read())


def _load(file: BinaryIO, name: str, map_location: MapLocation, weights_only: bool, mapped: Path | None) -> Any:
    origin = file.tell()
    size = file.seek(0, os.SEEK_END) - origin
    file.seek(origin)
    if size == 0:
        raise CheckpointError(f"{name} is empty")
    beginning = file.read(16)
    file.seek(origin)
    if is_torch_file(beginning):
        return load_torch(file, name, map_location, weights_only)
    if not looks_like(beginning):
        raise CheckpointError(
            f"{name} is no checkpoint, or its beginning is damaged: expected one of save(), torch.save or safetensors"
        )
    header = read_header(file, size, name)
    if mapped is not None:
        whole = np.memmap(mapped, np.uint8, "c")
        blocks = {entry.name: whole[entry.start : entry.stop] for entry in header.stored}
    else:
        blocks = {entry.name: _read_block(file, entry.stop - entry.start, name) for entry in header.stored}
    try:
        return _content(header, blocks, name, map_location, weights_only, mapped is None)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{name} is damaged: {type(error).__name__}: {error}") from error


def _read_block(file: BinaryIO, size: int, name: str) -> Array:
    block = np.empty(size, np.uint8)
    for start in range(0, size, CHUNK):
        data = file.read(min(CHUNK, size - start))
        if len(data) != min(CHUNK, size - start):
            raise CheckpointError(f"{name} is truncated: expected {size - start} bytes more, got {len(data)}")
        block[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return block


def _content(
    header: Header, blocks: dict[str, Array], name: str, map_location: MapLocation, weights_only: bool, check: bool
) -> Any:
    if not header.own:
        return {e.name: deliver(_plain_tensor(e, blocks[e.name]), "cpu", map_location) for e in header.stored}
    content = json.loads(header.metadata["tree"])
    if content["version"] > VERSION:
        raise CheckpointError(f"{name} has format {content['version']}, of a later version of distgrad; upgrade it")
    for key, block in blocks.items() if check else ():
        if checksum(block.data) != content["checksums"][key]:
            raise CheckpointError(f"{name} is damaged: the checksum of {key!r} does not match")
    if content["kind"] == "pickle":
        return _unpickle(blocks["pickle"], content["tree"], name, weights_only)
    leaves = [_make_leaf(leaf, blocks, map_location) for leaf in content["leaves"]]
    return decode(content["tree"], leaves)


def _plain_tensor(stored: Stored, block: Array) -> Tensor:
    dtype = numpy_dtype(stored.dtype, f"the tensor {stored.name!r}")
    return wrap(block.view(dtype).reshape(stored.shape))


def _unpickle(block: Array, reason: str, name: str, weights_only: bool) -> Any:
    if weights_only:
        raise CheckpointError(
            f"{name} holds {reason}, which can only be unpickled, and that lets a file run any code. If you trust it, "
            "pass weights_only=False; better save state_dict()s of models and optimizers"
        )
    return pickle.loads(block.data)


def _make_leaf(leaf: dict[str, Any], blocks: dict[str, Array], map_location: MapLocation) -> Any:
    """A tensor or array on the bytes that were read. `numpy.ndarray` checks that it lies within them."""
    dtype = dtype_of(leaf["dtype"], "a tensor")
    block = blocks[leaf["storage"]]
    array = np.ndarray(tuple(leaf["shape"]), dtype, block, leaf["offset"], tuple(leaf["strides"]))
    if leaf["kind"] == "array":
        return array
    tensor = deliver(wrap(array), leaf["device"], map_location)
    if leaf["kind"] == "parameter":
        return Parameter(tensor, leaf["requires_grad"])
    tensor._target = LEAF_MARK if leaf["requires_grad"] else None
    return tensor
