"""Optimizer steps whose batches and parts do not depend on the number of ranks."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from .._shard import Listener, Shard, listeners, set_current_shard
from ..comm import get_default
from ..comm._elastic import ElasticCommunicator, elastic_group
from ..comm._tree import Block, handed_over, owned
from ..ops._generator import stream_of
from ._dataset import Indices
from ._resume import resumption


class Cursor:
    """Where a loop over batches or steps is: in which epoch, and after how many of its samples, of all ranks together.

    A new loop begins the next epoch; the first one after `go_to` goes on from there.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.sample = 0
        self._began = False

    def go_to(self, epoch: int, sample: int = 0) -> None:
        """Says where the next loop begins."""
        self.epoch, self.sample, self._began = epoch, sample, False

    @property
    def is_amid(self) -> bool:
        """Whether the next loop begins in the middle of an epoch."""
        return not self._began and self.sample > 0

    def begin(self) -> None:
        """A loop begins."""
        if self._began:
            self.epoch, self.sample = self.epoch + 1, 0
        self._began = True

    def stay(self) -> None:
        """A loop begins that goes on where the last one was left."""
        self._began = True

    def end(self) -> None:
        """A loop has come to the end of its epoch."""
        self.go_to(self.epoch + 1)

    def state_dict(self) -> dict[str, int]:
        """Where it is."""
        return {"epoch": self.epoch, "sample": self.sample}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes there."""
        self.go_to(state_dict["epoch"], state_dict["sample"])

    def go_on(self, batch_size: int, leap: bool = False) -> bool:
        """In a job that was started again, go where this loop was; False where its epoch had been done before.

        Args:
            batch_size: samples of a step.
            leap: go to the epoch at once, and not from loop to loop.
        """
        going_on = resumption()
        place = None if going_on is None else going_on.place_of(self)
        if going_on is None or place is None:
            return True
        if self.epoch < place.epoch and not leap:
            self.end()
            return False
        self.epoch, self.sample = place.epoch, place.sample
        going_on.arrive(place, f"after {-(-self.sample // batch_size)} steps of epoch {self.epoch}")
        return True


class Step:
    """One optimizer step: iterating over it gives the batches of the logical shards that this rank owns.

    When the last has been worked on, the gradients of all models that take part are summed over all ranks.

    In an elastic job (`launch --elastic`) the step counts when all live ranks agree that it does. Where one has died,
    its shards come on others, in the same loop: what comes after the loop over the batches runs once, for a step that
    counts.

    Attributes:
        epoch: the number of the epoch.
        number: the number of the step in the epoch.
        samples: how many samples the whole step has.
    """

    def __init__(
        self, cursor: Cursor, number: int, order: Indices, shards: int, fetch: Callable[[Indices], Any]
    ) -> None:
        self.epoch = cursor.epoch
        self.number = number
        self.samples = len(order)
        self.done = False
        self._order = order
        self._shards = shards
        self._fetch = fetch
        self._cursor = cursor

    def __len__(self) -> int:
        """How many batches this rank gets."""
        return sum(shard.samples > 0 for shard in self._shards_of(self._block()))

    def __iter__(self) -> Iterator[Any]:
        if self.done:
            raise RuntimeError("a step can be worked on once; its gradients have been summed over the ranks")
        taking_part, group = listeners(), elastic_group()
        if group is None:
            self._begin(taking_part)
            yield from self._work(taking_part, self._block())
            _end(taking_part)
        else:
            yield from self._until_it_counts(taking_part, group)
        self._cursor.sample += self.samples
        self.done = True

    def _until_it_counts(self, taking_part: list[Listener], group: ElasticCommunicator) -> Iterator[Any]:
        """What this rank owns, then the sum over the ranks; where some have died, what they owned, and again."""
        members: tuple[int, ...] = ()
        while group.born_as != members:  # whoever begins may have to talk with the others, and find somebody dead
            if members:
                _void(taking_part)
            members, mine = group.born_as, self._block()
            blocks = [Block(*pair) for pair in zip(owned(self._shards, group.workers), members, strict=False)]
            self._begin(taking_part)
        yield from self._work(taking_part, mine)
        began = 0.0
        while not group.commit(group.born_as == members and group.attempt(lambda: _end(taking_part))):
            began = began or time.monotonic()
            _void(taking_part)
            before, members = blocks, group.born_as
            blocks = handed_over(before, members)
            for listener in taking_part:
                listener.begin_again([(leaves, members.index(born)) for leaves, born in blocks])
            for block in blocks:
                if block not in before and members.index(block.rank) == group.rank:
                    yield from self._work(taking_part, block.leaves)
        group.report(f"in step {self.number} of epoch {self.epoch}", time.monotonic() - began if began else 0.0)

    def _begin(self, taking_part: list[Listener]) -> None:
        for listener in taking_part:
            listener.begin_step(self._shards)

    def _work(self, taking_part: list[Listener], leaves: range) -> Iterator[Any]:
        """The batches of some shards."""
        start = sum(shard_sizes(self.samples, self._shards)[: leaves.start])
        for shard in self._shards_of(leaves):
            if shard.samples:
                yield from self._work_on(shard, self._order[start : start + shard.samples])
            for listener in taking_part:
                listener.end_shard(shard)
            start += shard.samples

    def _work_on(self, shard: Shard, order: Indices) -> Iterator[Any]:
        """The batch of a shard; until its work has ended, random numbers follow from the shard, not from history."""
        for listener in listeners():
            listener.begin_shard(shard)
        stream = stream_of(None)
        here = stream.branch(shard.number, shard.step, shard.epoch)
        set_current_shard(shard)
        try:
            yield self._fetch(order)
        finally:
            set_current_shard(None)
            stream.rejoin(here)

    def _block(self) -> range:
        group = get_default()
        blocks = owned(self._shards, group.workers)
        return blocks[group.rank] if group.rank < len(blocks) else range(0)  # of a spare

    def _shards_of(self, leaves: range) -> list[Shard]:
        sizes = shard_sizes(self.samples, self._shards)
        return [
            Shard(i, self._shards, sizes[i] if i < len(sizes) else 0, self.samples, self.epoch, self.number)
            for i in leaves
        ]


def _end(taking_part: list[Listener]) -> None:
    for listener in taking_part:
        listener.end_step()


def _void(taking_part: list[Listener]) -> None:
    for listener in taking_part:
        listener.void_step()


def steps_of(
    order: Indices, batch_size: int, shards: int, fetch: Callable[[Indices], Any], cursor: Cursor, stop: int
) -> Iterator[Step]:
    """The steps of the epoch that the cursor is in, from its sample on.

    Args:
        order: the sample numbers of the epoch, the same on all ranks.
        batch_size: samples of a step.
        shards: into how many parts a step is cut.
        fetch: makes a batch of sample numbers.
        cursor: moves on with each step that was worked on.
        stop: the number of samples after which the loop ends, be it the end of the epoch or not.

    Raises:
        RuntimeError: a step was left before its end.
    """
    while cursor.sample < stop:
        start = cursor.sample
        step = Step(cursor, start // batch_size, order[start : start + batch_size], shards, fetch)
        yield step
        if not step.done:
            raise RuntimeError(
                "DataLoader.steps: expected the loop over the batches of a step to run to its end, where gradients are "
                "summed over the ranks, got a new step before; to leave steps out, leave the outer loop"
            )
        going_on = resumption()
        if going_on is not None:
            going_on.keep(cursor)
    if cursor.sample >= len(order):
        cursor.end()


def shard_sizes(samples: int, shards: int) -> list[int]:
    """How many of so many samples each logical shard gets: as equal as can be, the larger ones first.

    Example:
        >>> shard_sizes(10, 4)
        [3, 3, 2, 2]
    """
    return [samples // shards + (i < samples % shards) for i in range(shards)]
