"""Who keeps a copy of what, in a job that goes on when ranks die: of each rank's part, its buddy keeps one.

A copy costs no communication: the buddy has the same gradients, and makes the same step on the same part, with the same
bits. When a rank has died, its buddy has all that it had, as new as its own; and all parts are shared out anew.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Sequence

from .._shard import Shard
from ..comm import Communicator
from ..comm._elastic import as_elastic
from ..errors import CommError


def buddies(nodes: Sequence[int]) -> list[int]:
    """The buddy of each rank: on another node if there are several, and as many ranks away as can be.

    With an even number of ranks they form pairs: it takes the death of both of a pair to lose something.

    Args:
        nodes: the node of each rank.

    Returns:
        The number of a rank for each rank; its own, if it is alone.

    Example:
        >>> buddies([0, 0, 1, 1])
        [2, 3, 0, 1]
    """
    size = len(nodes)
    in_order = sorted(range(size), key=lambda rank: nodes[rank])
    found = {rank: in_order[(place + size // 2) % size] for place, rank in enumerate(in_order)}
    for rank, buddy in found.items():
        elsewhere = [other for other in range(size) if nodes[other] != nodes[rank]]
        if elsewhere and buddy not in elsewhere:  # more than half of the ranks are on one node
            counts = Counter(found.values())
            found[rank] = min(elsewhere, key=counts.__getitem__)
    return [found[rank] for rank in range(size)]


class Holders:
    """Which ranks hold each part, and who of them lives. There are as many parts as ranks.

    Args:
        group: the ranks; in one that does not survive deaths, each holds its own part.
    """

    def __init__(self, group: Communicator) -> None:
        elastic = as_elastic(group)
        self._group = group
        self._members = None if elastic is None else elastic.born_as
        others = range(group.size) if elastic is None else buddies(elastic.nodes)
        self._of = [list(dict.fromkeys(pair)) for pair in enumerate(others)]
        self.mine = [part for part, ranks in enumerate(self._of) if group.rank in ranks]

    def are_current(self) -> bool:
        """Whether the group has the members that it had."""
        elastic = as_elastic(self._group)
        return elastic is None or elastic.born_as == self._members

    def speakers(self) -> list[int]:
        """For each part the rank, by its number of today, that speaks for it: its owner, if that lives.

        Raises:
            CommError: all who held a part have died.
        """
        elastic = as_elastic(self._group)
        if elastic is None or self._members is None:
            return [*range(self._group.size)]
        today = {born: rank for rank, born in enumerate(elastic.born_as)}
        living = [[today[self._members[r]] for r in ranks if self._members[r] in today] for ranks in self._of]
        for part, ranks in enumerate(living):
            if not ranks:
                dead = " and ".join(str(self._members[rank]) for rank in self._of[part])
                raise CommError(
                    f"ZeroRedundancyOptimizer: ranks {dead} have died together, and with them both copies of a part of "
                    "the optimizer's state; expected one of them to live. Start again from the newest complete "
                    "checkpoint (CheckpointManager.load in the program; launch --max-restarts 1 starts it by itself)"
                )
        return [ranks[0] for ranks in living]


def until_agreed(group: Communicator, function: Callable[[], None]) -> None:
    """Calls a function that calls collectives, until it went well on all ranks that live then.

    In a group that does not survive deaths, once.
    """
    elastic = as_elastic(group)
    if elastic is None:
        function()
        return
    while not elastic.commit(elastic.attempt(function)):
        pass


class AfterDeaths:
    """Calls a method of an object when a step was void because a rank has died; a listener of `_shard`.

    Args:
        act: a bound method, whose object is not kept alive.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = weakref.WeakMethod(act)

    def begin_step(self, shards: int) -> None:
        """Nothing."""

    def begin_shard(self, shard: Shard) -> None:
        """Nothing."""

    def end_shard(self, shard: Shard) -> None:
        """Nothing."""

    def end_step(self) -> None:
        """Nothing."""

    def void_step(self) -> None:
        """Calls it."""
        act = self._act()
        if act is not None:
            act()

    def begin_again(self, blocks: Sequence[tuple[range, int]]) -> None:
        """Nothing."""
