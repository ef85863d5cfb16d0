"""Data sets: what samples there are, and how to get one."""

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from .. import ops
from .._tensor import Tensor
from ..errors import ShapeError
from ..ops import Generator

T = TypeVar("T", covariant=True)
Indices = np.ndarray[Any, np.dtype[np.int64]]


class Dataset(Generic[T]):
    """Samples by number: a subclass defines ``__getitem__`` and ``__len__``."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__")

    def __add__(self, other: "Dataset[Any]") -> "ConcatDataset":
        return ConcatDataset([self, other])

    def _collated(self, indices: Indices) -> Any:
        """The batch of these samples made in one piece, or None where they must be fetched and collated one by one."""
        return None


class IterableDataset(Dataset[T]):
    """Samples in a row: a subclass defines ``__iter__``."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")

    def __add__(self, other: Dataset[Any]) -> "ChainDataset":  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[Any]):
    """Sample i is row i of each tensor. A loader takes a batch of it by one indexing operation.

    Args:
        tensors: tensors with the same size in their first dimension.

    Raises:
        ShapeError: the sizes differ.
    """

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ValueError("TensorDataset: expected at least one tensor, got none")
        if any(t.ndim == 0 or t.shape[0] != tensors[0].shape[0] for t in tensors):
            shapes = ", ".join(str(list(t.shape)) for t in tensors)
            raise ShapeError(f"Size mismatch between tensors: expected one size in the first dimension, got {shapes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])

    def _collated(self, indices: Indices) -> Any:
        if type(self).__getitem__ is not TensorDataset.__getitem__:
            return None
        return [rows(t, indices) for t in self.tensors]


def rows(t: Tensor, indices: Indices) -> Tensor:
    """Copies of the rows with these numbers."""
    index = ops.from_numpy(indices)
    return ops.index_select(t, 0, index.to(t.device) if t.is_cuda else index)


class StackDataset(Dataset[Any]):
    """Sample i is sample i of each data set, as a tuple, or as a dict where they are given by keyword."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: expected data sets either by position or by keyword")
        self.datasets: Any = kwargs or args
        parts = list(kwargs.values()) or list(args)
        self._length = len(parts[0])
        if any(len(part) != self._length for part in parts):
            raise ValueError(f"Size mismatch between datasets: {[len(part) for part in parts]}")

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {key: dataset[index] for key, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[Any]):
    """Data sets one behind the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise AssertionError("ConcatDataset does not support IterableDataset; chain them with ChainDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __getitem__(self, index: int) -> Any:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"index {index} is out of range for {n} samples")
        index = index % n
        which = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][index - before]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset[Any]):
    """Iterable data sets one behind the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(len(d) for d in self.datasets)


class Subset(Dataset[Any]):
    """Some samples of a data set.

    Args:
        dataset: the data set.
        indices: their numbers there.
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)

    def _collated(self, indices: Indices) -> Any:
        if type(self).__getitem__ is not Subset.__getitem__ or not isinstance(self.dataset, Dataset):
            return None
        chosen = [int(self.indices[i]) for i in indices.tolist()]
        return self.dataset._collated(np.array(chosen, dtype=np.int64))


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Cuts a data set at random into parts that do not overlap.

    Args:
        dataset: a data set with a length.
        lengths: the size of each part, or fractions that sum to 1; what rounding leaves goes to the first parts.
        generator: default the global one.

    Raises:
        ValueError: the lengths do not sum to the size of the data set.
    """
    total = len(dataset)
    if lengths and math.isclose(sum(lengths), 1) and sum(lengths) <= 1 + 1e-9 and not _are_sizes(lengths, total):
        sizes = _sizes_of_fractions(lengths, total)
    else:
        sizes = [int(n) for n in lengths]
    if sum(sizes) != total:
        raise ValueError(
            f"Sum of input lengths does not equal the length of the input dataset: {sum(sizes)} and {total}"
        )
    order = ops.randperm(total, generator=generator).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _are_sizes(lengths: Sequence[float], total: int) -> bool:
    return total == 1 and all(isinstance(n, int) for n in lengths)


def _sizes_of_fractions(fractions: Sequence[float], total: int) -> list[int]:
    if any(not 0 <= f <= 1 for f in fractions):
        raise ValueError(f"expected fractions between 0 and 1, got {list(fractions)}")
    sizes = [math.floor(total * f) for f in fractions]
    for i in range(total - sum(sizes)):
        sizes[i % len(sizes)] += 1
    return sizes
