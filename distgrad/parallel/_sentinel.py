"""Looks for ranks whose parameters are not those of the others: bad memory, or code that depends on the rank."""

import sys
import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._tensor import Tensor
from .._typing import Array
from ..backend import backend_of
from ..comm import Communicator, get_default
from ..errors import ReplicaError
from ..nn import Module
from ..optim import Optimizer
from ._broadcast import broadcast_optimizer_state, broadcast_parameters
from ._ddp import DistributedDataParallel

_SHOWN = 4  # parameters that a message lists


class Sentinel:
    """Compares the parameters of all ranks every so many optimizer steps; replicas must be equal to the last bit.

    A rank in the minority is named, with the parameters that differ. What it costs is one pass over the parameters and
    a message of 16 bytes.

    Args:
        model: the model, or the `DistributedDataParallel` around it.
        optimizer: its steps are counted.
        every: how many steps lie between two comparisons.
        heal: copy parameters, buffers and optimizer state from a rank of the majority to all, and go on with a line on
            the lowest rank; False raises.
        process_group: the ranks; those of the model, or all.

    Raises:
        ReplicaError: from `optimizer.step()`, on every rank, where replicas differ and `heal` is False, or where there
            is no majority.

    Example:
        >>> sentinel = Sentinel(model, optimizer, every=100, heal=True)
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        every: int = 100,
        heal: bool = False,
        process_group: Communicator | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"Sentinel: expected to compare every 1 or more steps, got every={every}")
        wrapped = isinstance(model, DistributedDataParallel)
        if process_group is None:
            process_group = model.process_group if wrapped else get_default()
        self.model: Module = model.module if wrapped else model
        self.optimizer = optimizer
        self.every = every
        self.heal = heal
        self._group = process_group
        self._steps = 0
        reference = weakref.ref(self)

        def after_step(*_: Any) -> None:
            sentinel = reference()
            if sentinel is not None:
                sentinel._count()

        self._handle = optimizer.register_step_post_hook(after_step)

    def _count(self) -> None:
        self._steps += 1
        if self._steps % self.every == 0:
            self.check()

    def check(self) -> list[int]:
        """Compares now. A collective call.

        Returns:
            the ranks that differed, and were healed; an empty list where all are equal.

        Raises:
            ReplicaError: see above.
        """
        hashes = self._gather([_hash(self.model.parameters())])[:, 0].tolist()
        counts = Counter(hashes)
        if len(counts) == 1:
            return []
        good, times = counts.most_common(1)[0]
        wrong = [rank for rank, value in enumerate(hashes) if value != good]
        text = f"after {self._steps} steps {self._describe(wrong)}"
        if 2 * times <= self._group.size:
            raise ReplicaError(f"{text}; no majority of {self._group.size} ranks agrees, so none is known to be good")
        if not self.heal:
            raise ReplicaError(
                f"{text}; expected the parameters of all ranks to be equal to the last bit. Look for code that depends "
                "on the rank, or for a broken machine; Sentinel(heal=True) copies from a good rank and goes on"
            )
        source = self._group.ranks[hashes.index(good)]
        broadcast_parameters(self.model, source, self._group)
        broadcast_optimizer_state(self.optimizer, source, self._group)
        if self._group.rank == 0:
            print(f"distgrad: {text}; healed from rank {source}", file=sys.stderr, flush=True)
        return [self._group.ranks[rank] for rank in wrong]

    def _describe(self, wrong: list[int]) -> str:
        """Who differs from the rest, and in which parameters."""
        named = list(self.model.named_parameters())
        table = self._gather([_hash([p]) for _, p in named])
        good = next(rank for rank in range(self._group.size) if rank not in wrong)
        different = [
            name for (name, _), column in zip(named, table.T, strict=True) if (column[wrong] != column[good]).any()
        ]
        more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        ranks = ", ".join(str(self._group.ranks[rank]) for rank in wrong)
        return f"rank {ranks} has other parameters than the rest: {', '.join(different[:_SHOWN])}{more}"

    def _gather(self, hashes: list[int]) -> Any:
        """Row r: the hashes of rank r."""
        mine = np.array(hashes, np.uint64)
        everyone = np.empty(self._group.size * mine.size, np.uint64)
        self._group.all_gather(everyone, mine)
        return everyone.reshape(self._group.size, mine.size)


def _hash(tensors: Iterable[Tensor]) -> int:
    """64 bits of the values: any single change of a bit changes them, as does any change of a word."""
    total = np.uint64(0)
    with np.errstate(over="ignore"):
        for number, t in enumerate(tensors):
            total = total * _FACTOR + _sum_of_words(t._data) + np.uint64(number)
    return int(total)


_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing


def _sum_of_words(array: Array) -> Any:
    backend = backend_of(array)
    xp = backend.xp
    flat = xp.ascontiguousarray(array).reshape(-1).view("uint8")
    whole = flat.size - flat.size % 8
    total = xp.sum(flat[:whole].view("uint64"), dtype="uint64") + xp.sum(flat[whole:], dtype="uint64")
    return np.uint64(int(total))
