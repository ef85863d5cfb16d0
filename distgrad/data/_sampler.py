"""Samplers: in which order a data set is seen."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from .. import ops
from ..backend._random import Stream
from ..ops import Generator
from ..ops._generator import stream_of
from ._dataset import Indices

T = TypeVar("T", covariant=True)


class Sampler(Generic[T]):
    """An iterable of sample numbers; a subclass defines ``__iter__``, and ``__len__`` if it can."""

    def __init__(self, data_source: Any = None) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__")


class OrderedSampler(Sampler[int], ABC):
    """A sampler that knows the order of a whole epoch at once, from which a loader cuts its batches."""

    @abstractmethod
    def order(self) -> Indices:
        """The sample numbers of the next epoch."""

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())


class SequentialSampler(OrderedSampler):
    """From the first sample to the last."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def order(self) -> Indices:
        """0, 1, 2 ..."""
        return np.arange(len(self.data_source), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.data_source)


def _epoch_stream(generator: Generator | None) -> Stream:
    """Where the numbers of one epoch come from. Of the default generator only one number is taken, as a seed."""
    if generator is not None:
        return stream_of(generator)
    return Stream(int(stream_of(None).integers(0, 2**63 - 1, ())))


class RandomSampler(OrderedSampler):
    """Samples in random order, another one each epoch.

    Args:
        data_source: a data set.
        replacement: draw each sample from all, so that some come twice.
        num_samples: how many in an epoch; default all.
        generator: default the global one.
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if num_samples is not None and (not isinstance(num_samples, int) or num_samples < 0):
            raise ValueError(f"num_samples should be a non-negative integer, got {num_samples}")
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        """How many in an epoch."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def order(self) -> Indices:
        """A random order."""
        n, wanted = len(self.data_source), self.num_samples
        stream = _epoch_stream(self.generator)
        if self.replacement:
            return stream.integers(0, n, (wanted,)) if wanted else np.empty(0, dtype=np.int64)
        if wanted <= n:
            return stream.permutation(n)[:wanted]  # type: ignore[no-any-return]
        if n == 0:
            raise ValueError("RandomSampler: cannot draw from a data set without samples")
        rounds = [stream.permutation(n) for _ in range(-(-wanted // n))]
        return np.concatenate(rounds)[:wanted]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(OrderedSampler):
    """The samples of given numbers, in random order."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def order(self) -> Indices:
        """A random order of the indices."""
        return np.asarray(self.indices, dtype=np.int64)[_epoch_stream(self.generator).permutation(len(self.indices))]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(OrderedSampler):
    """Sample i with a probability proportional to ``weights[i]``.

    Args:
        weights: one for each sample; they need not sum to 1.
        num_samples: how many in an epoch.
        replacement: False draws each at most once.
        generator: default the global one.
    """

    def __init__(
        self, weights: Any, num_samples: int, replacement: bool = True, generator: Generator | None = None
    ) -> None:
        if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.weights = ops.as_tensor(weights, dtype="float64")
        if self.weights.ndim != 1:
            raise ValueError(f"weights should be a 1d sequence but given weights of shape {list(self.weights.shape)}")
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def order(self) -> Indices:
        """Sample numbers drawn by weight."""
        drawn = ops.multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator)
        return drawn.numpy()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` sample numbers each.

    Args:
        sampler: sample numbers in order.
        batch_size: how many in a list.
        drop_last: leave out a last list that is shorter.
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        check_batch_size(batch_size)
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler: Any = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        numbers = iter(self.sampler)
        while batch := list(itertools.islice(numbers, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        return batch_count(len(self.sampler), self.batch_size, self.drop_last)


def check_batch_size(batch_size: Any) -> None:
    """Raises where this is no batch size."""
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
        raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")


def batch_count(samples: int, batch_size: int, drop_last: bool) -> int:
    """How many batches an epoch has."""
    return samples // batch_size if drop_last else -(-samples // batch_size)
