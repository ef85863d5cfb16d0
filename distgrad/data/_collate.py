"""Collation: many samples to one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import ops
from .._tensor import Tensor
from ..errors import ShapeError


def default_collate(batch: Sequence[Any]) -> Any:
    """A batch from a list of samples: tensors and arrays are stacked, numbers become a tensor, containers are kept.

    Args:
        batch: samples of one structure. Tuples become lists, as in torch; dicts and named tuples stay what they are;
            strings and bytes stay in a list.

    Raises:
        ShapeError: tensors of different shapes are to be stacked, or sequences of different lengths met.
        TypeError: samples are of a type that has no batch.

    Example:
        >>> default_collate([(1, 2.0), (3, 4.0)])
        [tensor([1, 3]), tensor([2., 4.], dtype=distgrad.float64)]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return _stacked(list(batch))
    if isinstance(first, (np.ndarray, np.generic)):
        return _stacked_arrays(batch)
    if isinstance(first, float):
        return ops.tensor(batch, dtype="float64")
    if isinstance(first, int):
        return ops.tensor(batch)
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return _like(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, Sequence):
        return _collate_sequences(batch)
    raise TypeError(
        f"default_collate: expected tensors, numpy arrays, numbers, dicts, tuples or lists as samples, got "
        f"{type(first).__name__}; give the DataLoader a collate_fn that makes a batch of them"
    )


def _stacked(tensors: list[Tensor]) -> Tensor:
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) > 1:
        first, other = sorted(shapes)[:2]
        raise ShapeError(
            f"default_collate: expected samples of one shape, got {list(first)} and {list(other)}; give the DataLoader "
            "a collate_fn that pads them"
        )
    return ops.stack(tensors)


def _stacked_arrays(batch: Sequence[Any]) -> Tensor:
    arrays = [np.asarray(sample) for sample in batch]
    if arrays[0].dtype.kind in "OSU":
        raise TypeError(f"default_collate: expected numeric arrays, got dtype {arrays[0].dtype}")
    return _stacked([ops.as_tensor(a) for a in arrays])


def _collate_sequences(batch: Sequence[Any]) -> Any:
    first = batch[0]
    if any(len(sample) != len(first) for sample in batch):
        raise ShapeError("each element in list of batch should be of equal size")
    columns = [default_collate(column) for column in zip(*batch, strict=True)]
    return type(first)(*columns) if _is_named_tuple(first) else columns


def default_convert(data: Any) -> Any:
    """One sample with its arrays as tensors, for a loader that makes no batches."""
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "OSU" else ops.as_tensor(np.asarray(data))
    if isinstance(data, Mapping):
        return _like(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple):
        converted = [default_convert(value) for value in data]
        return type(data)(*converted) if _is_named_tuple(data) else converted
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return [default_convert(value) for value in data]
    return data


def _like(mapping: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """`values` in a mapping of the given one's class, where that takes a dict."""
    if type(mapping) is dict:
        return values
    try:
        return type(mapping)(values)  # type: ignore[call-arg]
    except TypeError:
        return values


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and type(value) is not tuple and hasattr(value, "_fields")
