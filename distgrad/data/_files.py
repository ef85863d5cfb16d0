"""Readers for the files in which MNIST and CIFAR are distributed."""

import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DistgradError

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class DataFileError(DistgradError, ValueError):
    """A file is not what its reader expects: cut short, of another format, or holding what reading refuses."""


def read_idx(path: str | Path) -> "np.ndarray[Any, Any]":
    """An array from an IDX file, the format of MNIST.

    Two zero bytes, the type, the number of dimensions, the sizes, the values; big-endian.

    Args:
        path: the file; ``.gz`` is unpacked.

    Raises:
        DataFileError: it is no such file, or not complete.
    """
    data = _read(Path(path))
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
        raise DataFileError(
            f"{path}: expected an IDX file, which begins with 00 00 and a type, got {data[:4].hex(' ')}"
        )
    dtype = np.dtype(_IDX_TYPES[data[2]])
    start = 4 + 4 * data[3]
    shape = tuple(np.frombuffer(data[4:start], dtype=">u4").tolist()) if len(data) >= start else ()
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(data) != start + size:
        raise DataFileError(
            f"{path}: expected {start + size} bytes for an array of shape {list(shape)}, got {len(data)}; "
            "download it again"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _read(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise DataFileError(f"{path}: expected a complete gzip file: {error}; download it again") from None


class Images(NamedTuple):
    """What a CIFAR file holds."""

    data: "np.ndarray[Any, np.dtype[np.uint8]]"  # (N, 32, 32, 3)
    labels: list[int]


def read_cifar_binary(path: str | Path, label_bytes: int = 1) -> Images:
    """Images and labels of a CIFAR file in the binary version.

    Args:
        path: the file.
        label_bytes: bytes before each image: 1 for CIFAR-10; 2 for CIFAR-100, of which the second is the fine label.

    Raises:
        DataFileError: its size is not a multiple of a record's.
    """
    raw = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8)
    record = label_bytes + 3072
    if raw.size == 0 or raw.size % record:
        raise DataFileError(f"{path}: expected records of {record} bytes, got {raw.size} bytes; download it again")
    rows = raw.reshape(-1, record)
    return Images(_as_images(rows[:, label_bytes:]), rows[:, label_bytes - 1].tolist())


def read_cifar_pickle(path: str | Path, labels: str = "labels") -> Images:
    """Images and labels of a CIFAR file in the Python version, a pickle. Nothing in the file is executed.

    Args:
        path: the file.
        labels: the key of the labels: ``"labels"`` for CIFAR-10, ``"fine_labels"`` for CIFAR-100.

    Raises:
        DataFileError: it is no such file, or asks for more than arrays.
    """
    with open(path, "rb") as file:
        try:
            batch = _ArraysOnly(file, encoding="bytes").load()
        except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise DataFileError(f"{path}: expected a pickled CIFAR batch: {error}; download it again") from None
    entries = {_text(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    data = entries.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,) or labels not in entries:
        raise DataFileError(
            f"{path}: expected a CIFAR batch with 'data' (N, 3072) and {labels!r}, got {sorted(entries)}"
        )
    return Images(_as_images(data), [int(label) for label in entries[labels]])


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _as_images(rows: "np.ndarray[Any, Any]") -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _encode(text: Any, encoding: str) -> bytes:
    return bytes(text, encoding)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles what NumPy arrays are made of, and refuses all else."""

    _reconstruct = np.zeros(0).__reduce__()[0]
    _allowed = {  # noqa: RUF012 - a constant
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a file of arrays does not need")
        return self._allowed[module, name]


def find(root: str | Path, folders: Sequence[str], names: Sequence[str], where: str) -> Path:
    """The first of these names that exists in `root` or one of its folders.

    Raises:
        FileNotFoundError: none does; the message says where to get them.
    """
    places = [Path(root) / folder for folder in folders]
    for place in places:
        for name in names:
            if (place / name).is_file():
                return place / name
    listed = ", ".join(str(place) for place in places)
    raise FileNotFoundError(f"found no {' or '.join(names)} in {listed}. {where}")
