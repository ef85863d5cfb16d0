"""DataLoader: batches of a data set."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from ..comm import get_rank, get_world_size
from ..ops import Generator
from ._batch_share import BatchShare, published, shares
from ._collate import default_collate, default_convert
from ._dataset import Dataset, Indices, IterableDataset
from ._distributed_sampler import DistributedSampler, permutation
from ._sampler import (
    BatchSampler,
    OrderedSampler,
    RandomSampler,
    SequentialSampler,
    batch_count,
    check_batch_size,
)
from ._steps import Cursor, Step, steps_of

T = TypeVar("T", covariant=True)


@runtime_checkable
class FetchesMany(Protocol):
    """A data set that gives several samples by one call, under torch's name for it."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """The samples of these numbers."""
        ...


class DataLoader(Generic[T]):
    """Batches of a data set, in order or shuffled; under a process group each rank's part of them.

    Args:
        dataset: a `Dataset`, any sequence of samples, or an `IterableDataset`.
        batch_size: samples in a batch (on this rank); None gives single samples.
        shuffle: another random order each epoch.
        sampler: sample numbers in the order wanted, instead of shuffle.
        batch_sampler: lists of sample numbers, instead of batch_size, shuffle, sampler and drop_last.
        num_workers: 0; other processes are not supported yet.
        collate_fn: makes a batch of a list of samples; default `default_collate`.
        pin_memory: accepted as in torch, without effect; so are the arguments of workers.
        drop_last: leave out a last batch that is shorter.
        generator: where the order is drawn from; default the global one.
        sharded: each rank of the process group gets its part, from an order that follows from the seed (the
            generator's, or else 0) and the number of the epoch, which the loader counts. Of an `IterableDataset` it is
            every ``world_size``-th sample. `DistributedDataParallel` then weighs batches that differ in size between
            ranks (see there).
        logical_shards: into how many parts `steps` cuts each batch.
        exact: with `sharded`, each sample comes once on one rank, and some ranks may have a batch more than others:
            what an evaluation wants. False makes all ranks take the same number of steps by repeating a few samples:
            what training wants. Default: True where neither shuffled nor cut by `drop_last`.

    Raises:
        ValueError: arguments exclude each other.

    Example:
        >>> for x, y in DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True, sharded=True):
        ...     train(x, y)
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        sharded: bool = False,
        logical_shards: int = 8,
        exact: bool | None = None,
    ) -> None:
        _check_workers(num_workers, prefetch_factor, persistent_workers, timeout)
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.generator = generator
        self.sharded = sharded
        self.logical_shards = logical_shards
        self._cursor = Cursor()
        iterable = isinstance(dataset, IterableDataset)
        _check_order(iterable, sharded, shuffle, sampler, batch_sampler)
        _check_batches(batch_size, drop_last, shuffle, sampler, batch_sampler)
        self.batch_size = batch_size if batch_sampler is None else None
        self.shuffle = bool(shuffle)
        self.drop_last = drop_last
        self.exact = (not shuffle and not drop_last) if exact is None else exact
        order: Any = None if iterable else self._sampler_for(bool(shuffle), sampler)
        batches: Any = batch_sampler
        if batches is None and batch_size is not None and not iterable:
            batches = BatchSampler(order, batch_size, drop_last)
        self.sampler = order
        self.batch_sampler = batches
        batched = batches is not None or batch_size is not None
        self.collate_fn: Callable[[Any], Any] = collate_fn or (default_collate if batched else default_convert)

    def _sampler_for(self, shuffle: bool, sampler: Iterable[int] | None) -> Iterable[int]:
        if sampler is not None:
            return sampler
        if self.sharded:
            seed = 0 if self.generator is None else self.generator.initial_seed()
            return DistributedSampler(
                self.dataset, shuffle=shuffle, seed=seed, drop_last=self.drop_last, exact=self.exact
            )
        return RandomSampler(self.dataset, generator=self.generator) if shuffle else SequentialSampler(self.dataset)

    # ---- steps that do not depend on the number of ranks --------------------------------------------------------

    def steps(self, until: int | None = None) -> Iterator[Step]:
        """The optimizer steps of an epoch, alike on any number of ranks; the rest of it after `load_state_dict`.

        Here `batch_size` is that of the whole step, on all ranks together. Which samples a step has follows from the
        seed (the generator's, or else 0) and the numbers of epoch and step; it is cut into `logical_shards` parts, of
        which each rank gets some, as batches. With `DistributedDataParallel(model, logical_shards=...)`, gradients
        do not depend on the number of ranks, to the last bit.

        Args:
            until: how many steps the loader shall have made in the end, counted from its very first one, over as many
                epochs as that takes.

        Example:
            >>> for step in loader.steps():
            ...     for x, y in step:
            ...         F.cross_entropy(model(x), y).backward()
            ...     optimizer.step()
            ...     optimizer.zero_grad()
        """
        if self.batch_size is None or not self._has_steps():
            raise ValueError(
                "DataLoader.steps: expected a data set with a length, and an order from `shuffle` and `batch_size` "
                "alone, got an iterable data set, a sampler, a batch_sampler or batch_size=None"
            )
        if until is not None:
            return self._steps_until(until, self.batch_size)
        self._cursor.begin()
        return self._steps_of_epoch(self.batch_size) if self._cursor.go_on(self.batch_size) else iter(())

    def _steps_of_epoch(self, size: int, until: int | None = None) -> Iterator[Step]:
        n = len(self.dataset)
        order = permutation(n, self._seed(), self._cursor.epoch) if self.shuffle else np.arange(n, dtype=np.int64)
        if self.drop_last:
            order = order[: n - n % size]
        stop = len(order) if until is None else min(until * size, len(order))
        return steps_of(order, size, self.logical_shards, self._batch_of, self._cursor, stop)

    def _steps_until(self, until: int, size: int) -> Iterator[Step]:
        cursor, in_epoch = self._cursor, batch_count(len(self.dataset), size, self.drop_last)
        cursor.stay()
        cursor.go_on(size, leap=True)
        while in_epoch and cursor.epoch * in_epoch + cursor.sample // size < until:
            yield from self._steps_of_epoch(size, until - cursor.epoch * in_epoch)
            cursor.stay()

    def state_dict(self) -> dict[str, int]:
        """Where the loop is over `steps`, or over the batches of a sharded loader; it holds on any number of ranks.

        A batch counts from the moment when it was given out, a step when it was worked on.
        """
        return {"seed": self._seed(), "epoch": self._cursor.epoch, "sample": self._cursor.sample}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Lets the next loop go on where the state was taken, with what was left of that epoch.

        Raises:
            ValueError: it belongs to another seed.
        """
        if state_dict["seed"] != self._seed():
            raise ValueError(
                f"DataLoader: expected the state of a loader with seed {self._seed()}, got one with seed "
                f"{state_dict['seed']}, whose order is another; pass generator=Generator().manual_seed(seed)"
            )
        self._go_to(state_dict["epoch"], state_dict["sample"])

    def _has_steps(self) -> bool:
        known = isinstance(self.sampler, (RandomSampler, SequentialSampler, DistributedSampler))
        return known and type(self.batch_sampler) is BatchSampler

    def _seed(self) -> int:
        return 0 if self.generator is None else self.generator.initial_seed()

    def _batch_of(self, numbers: Indices) -> Any:
        batch = self._collated(numbers)
        return self._fetch(numbers.tolist()) if batch is None else batch

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch comes next in a sharded loader, which else counts them from 0: for resuming."""
        self._go_to(epoch)

    def _go_to(self, epoch: int, sample: int = 0) -> None:
        self._cursor.go_to(epoch, sample)
        if isinstance(self.sampler, DistributedSampler):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        if isinstance(self.dataset, IterableDataset):
            samples = self._iterable_length(len(self.dataset))  # type: ignore[arg-type]
            return samples if self.batch_size is None else batch_count(samples, self.batch_size, self.drop_last)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def _iterable_length(self, n: int) -> int:
        if not self.sharded:
            return n
        ranks, rank = get_world_size(), get_rank()
        return n // ranks if self.drop_last else (n - rank + ranks - 1) // ranks

    def __iter__(self) -> Iterator[Any]:
        if not self.sharded:
            if self._cursor.is_amid:
                raise ValueError(
                    "DataLoader: expected a loop over steps(), or sharded=True, after load_state_dict in the middle of "
                    "an epoch, got a loop over batches, whose order follows from no seed; set_epoch(0) forgets it"
                )
            return self._iterate()
        if isinstance(self.dataset, IterableDataset):
            return published(self._iterate_shares(iter(self.dataset)))
        return published(self._iterate_sampler(self.sampler))

    def _iterate_sampler(self, sampler: DistributedSampler) -> Iterator[tuple[Any, BatchShare]]:
        """This rank's batches of what is left of the epoch, each with its share."""
        self._cursor.begin()
        if sampler.epoch != self._cursor.epoch:  # somebody has said which
            self._cursor.go_to(sampler.epoch)
            self._cursor.begin()
        sampler.start = self._cursor.sample
        size = 1 if self.batch_size is None else self.batch_size
        parts = shares(sampler.total_size, size, sampler.rank, sampler.num_replicas)
        batches = self._iterate()
        sampler.start = 0
        sampler.set_epoch(sampler.epoch + 1)
        for batch, share in zip(batches, parts, strict=False):  # drop_last may leave out the last
            self._cursor.sample += share.total
            yield batch, share
        self._cursor.end()

    def _iterate(self) -> Iterator[Any]:
        if isinstance(self.dataset, IterableDataset):
            return self._iterate_row(iter(self.dataset))
        if self._cuts_batches():
            return self._iterate_order(self.sampler.order())
        if self.batch_sampler is None:
            numbers = self.sampler.order().tolist() if self.sharded else self.sampler
            return (self.collate_fn(self.dataset[i]) for i in numbers)
        return (self._fetch(list(batch)) for batch in self.batch_sampler)

    def _cuts_batches(self) -> bool:
        """Whether batches are plain pieces of an order that is known at once."""
        sampler, batches = self.sampler, self.batch_sampler
        known = isinstance(sampler, OrderedSampler) and type(sampler).__iter__ is OrderedSampler.__iter__
        return known and type(batches) is BatchSampler and batches.sampler is sampler

    def _iterate_order(self, order: Indices) -> Iterator[Any]:
        """Batches cut from the order of the epoch; made in one piece where the data set can."""
        size = self.batch_sampler.batch_size
        for i in range(batch_count(len(order), size, self.batch_sampler.drop_last)):
            yield self._batch_of(order[i * size : (i + 1) * size])

    def _collated(self, numbers: Indices) -> Any:
        """The batch in one piece where the data set can give it; else None."""
        if isinstance(self.dataset, Dataset) and self.collate_fn is default_collate:
            return self.dataset._collated(numbers)
        return None

    def _fetch(self, numbers: list[int]) -> Any:
        if isinstance(self.dataset, FetchesMany):
            return self.collate_fn(self.dataset.__getitems__(numbers))
        return self.collate_fn([self.dataset[i] for i in numbers])

    def _iterate_shares(self, row: Iterator[Any]) -> Iterator[tuple[Any, BatchShare]]:
        """This rank's batches of an iterable data set: of each stretch of it every ``world_size``-th sample."""
        ranks, rank, size = get_world_size(), get_rank(), self.batch_size or 1
        while True:
            samples, total = [], 0
            for total, sample in enumerate(itertools.islice(row, ranks * size), 1):
                if (total - 1) % ranks == rank:
                    samples.append(sample)
            if self.drop_last:
                total -= total % (ranks if self.batch_size is None else ranks * size)
                del samples[total // ranks :]
            if not samples:
                return
            batch = self.collate_fn(samples[0] if self.batch_size is None else samples)
            yield batch, BatchShare(len(samples), total, ranks)

    def _iterate_row(self, row: Iterator[Any]) -> Iterator[Any]:
        if self.batch_size is None:
            yield from map(self.collate_fn, row)
            return
        while samples := list(itertools.islice(row, self.batch_size)):
            if len(samples) == self.batch_size or not self.drop_last:
                yield self.collate_fn(samples)


def get_worker_info() -> None:
    """None, as torch's is in the main process: there are no others yet."""
    return None


def _check_order(iterable: bool, sharded: bool, shuffle: bool | None, sampler: Any, batch_sampler: Any) -> None:
    """Raises where more than one argument decides the order."""
    if iterable and (shuffle or sampler is not None or batch_sampler is not None):
        raise ValueError(
            "DataLoader with IterableDataset: expected unspecified shuffle, sampler and batch_sampler; the data set "
            "decides the order"
        )
    if sharded and (sampler is not None or batch_sampler is not None):
        raise ValueError("sharded=True makes its own sampler: leave out sampler and batch_sampler, or sharded")
    if sampler is not None and shuffle:
        raise ValueError("sampler option is mutually exclusive with shuffle")


def _check_batches(
    batch_size: int | None, drop_last: bool, shuffle: bool | None, sampler: Any, batch_sampler: Any
) -> None:
    """Raises where this is no way to make batches."""
    if batch_sampler is not None:
        if batch_size != 1 or shuffle or sampler is not None or drop_last:
            raise ValueError(
                "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
            )
    elif batch_size is not None:
        check_batch_size(batch_size)
    elif drop_last:
        raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")


def _check_workers(num_workers: int, prefetch_factor: int | None, persistent_workers: bool, timeout: float) -> None:
    if num_workers < 0 or timeout < 0:
        raise ValueError(f"num_workers and timeout must not be negative, got {num_workers} and {timeout}")
    if num_workers > 0:
        raise ValueError(
            f"DataLoader: num_workers={num_workers} is not supported yet; use num_workers=0, which loads in this "
            "process. A TensorDataset is batched by one indexing operation and gains nothing from workers"
        )
    if prefetch_factor is not None or persistent_workers:
        raise ValueError("prefetch_factor and persistent_workers need num_workers > 0")
