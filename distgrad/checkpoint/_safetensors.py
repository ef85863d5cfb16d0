"""The safetensors container: a length, a JSON header, and the bytes of named tensors without gaps.

Our checkpoints are such files too, so that other tools can read the tensors; what safetensors cannot express is in the
header's metadata. There is a checksum of the header at a fixed place in it, and one of each tensor's bytes.
https://huggingface.co/docs/safetensors describes the format.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .._typing import Shape
from ..backend import as_dtype
from ..errors import CheckpointError, DTypeError

START = b'{"__metadata__":{"distgrad":"'  # how the header of our own files begins; the checksum comes next
DIGITS = 8
BLANK = b"0" * DIGITS
ALIGNMENT = 64  # bytes, of the first tensor in the file
LARGEST_HEADER = 1 << 30

NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
}
DTYPES = {name: dtype for dtype, name in NAMES.items()}


class Entry(NamedTuple):
    """One tensor's bytes.

    Attributes:
        name: unique in the file.
        dtype: one of `DTYPES`.
        shape: its own.
        data: the bytes, as a flat uint8 array.
    """

    name: str
    dtype: str
    shape: Shape
    data: "np.ndarray[Any, Any]"


class Stored(NamedTuple):
    """Where one tensor's bytes lie: ``start : stop`` from the beginning of the file."""

    name: str
    dtype: str
    shape: Shape
    start: int
    stop: int


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        stored: its tensors.
        metadata: text by name.
        own: whether distgrad wrote it, with checksums.
        size: bytes that the whole file must have.
    """

    stored: list[Stored]
    metadata: dict[str, str]
    own: bool
    size: int


def checksum(data: Any) -> str:
    """CRC-32 in eight hexadecimal digits."""
    return f"{zlib.crc32(data):08x}"


def write(file: BinaryIO, entries: Sequence[Entry], metadata: Mapping[str, str], own: bool) -> None:
    """Writes a file.

    Args:
        file: open for writing.
        entries: the tensors; the widest dtypes should come first, so that all are aligned.
        metadata: text by name.
        own: mark it as ours and add a checksum of the header.
    """
    head: dict[str, Any] = {"__metadata__": {**({"distgrad": BLANK.decode()} if own else {}), **metadata}}
    position = 0
    for entry in entries:
        offsets = [position, position + entry.data.size]
        head[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
        position = offsets[1]
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    if own:
        text = text.replace(START + BLANK, START + checksum(text).encode(), 1)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for entry in entries:
        file.write(entry.data.data)


def looks_like(beginning: bytes) -> bool:
    """Whether a file that begins so can be a safetensors file."""
    return len(beginning) > 8 and beginning[8:9] == b"{"


def read_header(file: BinaryIO, size: int, name: str) -> Header:
    """Reads and checks the header of a file.

    Args:
        file: open for reading, at the beginning.
        size: of the whole file, in bytes.
        name: for messages.

    Raises:
        CheckpointError: the file is truncated or damaged.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise CheckpointError(f"{name} is truncated or damaged: its header has {length} bytes, the whole file {size}")
    if length > LARGEST_HEADER:
        raise CheckpointError(f"{name} is damaged: its header claims {length} bytes")
    text = file.read(length)
    own = text.startswith(START)
    if own:
        digits = text[len(START) : len(START) + DIGITS]
        if checksum(text.replace(START + digits, START + BLANK, 1)).encode() != digits:
            raise CheckpointError(f"{name} is damaged: the checksum of its header does not match")
    try:
        header = _parse(json.loads(text), 8 + length, own)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{name} is damaged: its header cannot be read ({reason})") from error
    if header.size != size:
        problem = "truncated" if size < header.size else "damaged"
        raise CheckpointError(f"{name} is {problem}: expected {header.size} bytes, got {size}")
    return header


def _parse(head: dict[str, Any], start: int, own: bool) -> Header:
    metadata = head.pop("__metadata__", {})
    if not own and "tree" in metadata:
        raise ValueError("it was written by distgrad, but the mark of that is damaged")
    stored = []
    for name, item in head.items():
        first, last = item["data_offsets"]
        entry = Stored(name, str(item["dtype"]), tuple(map(int, item["shape"])), start + int(first), start + int(last))
        if min(entry.shape, default=0) < 0:
            raise ValueError(f"{name!r} has the shape {list(entry.shape)}")
        stored.append(entry)
    stored.sort(key=lambda entry: (entry.start, entry.stop))
    end = start
    for entry in stored:
        if entry.start != end or entry.stop < entry.start:
            raise ValueError(f"{entry.name!r} does not begin where the tensor before it ends")
        end = entry.stop
    return Header(stored, metadata, own, end)


def numpy_dtype(name: str, where: str) -> "np.dtype[Any]":
    """The NumPy dtype of a safetensors one.

    Raises:
        CheckpointError: there is none here.
    """
    if name not in DTYPES:
        known = ", ".join(DTYPES)
        raise CheckpointError(f"{where} has the dtype {name}, which is not supported; supported are {known}")
    return dtype_of(DTYPES[name], where)


def dtype_of(name: str, where: str) -> "np.dtype[Any]":
    """The NumPy dtype of one of our names.

    Raises:
        CheckpointError: it is not known, or its package is missing.
    """
    try:
        return as_dtype(name).numpy
    except DTypeError as error:
        hint = "; install ml_dtypes" if name == "bfloat16" else ""
        raise CheckpointError(f"{where} has the dtype {name}, which is not available{hint}") from error
