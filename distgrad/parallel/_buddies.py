"""Who keeps a copy of what, in a job that goes on when ranks die: of each rank's part, its buddies keep one each.

A copy costs no communication: a buddy has the same gradients, and makes the same step on the same part, with the same
bits. When a rank has died, its buddies have all that it had, as new as their own; and all parts are shared out anew.
"""

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Sequence

from .._shard import Listener
from ..comm import Communicator
from ..comm._elastic import as_elastic
from ..errors import CommError


def holders_of(nodes: Sequence[int], copies: int) -> list[list[int]]:
    """Which ranks have the part of each rank: itself, then its buddies, as many ranks away from each other as can be.

    If there are several nodes, one of them is on another node. It takes the death of all of them at once to lose it.

    Args:
        nodes: the node of each rank.
        copies: how many ranks shall have each part, if there are so many.

    Returns:
        The numbers of ranks for each rank.

    Example:
        >>> holders_of([0, 0, 1, 1], 2)
        [[0, 2], [1, 3], [2, 0], [3, 1]]
    """
    size = len(nodes)
    copies = min(copies, size)
    in_order = sorted(range(size), key=lambda rank: nodes[rank])
    steps = [number * size // copies for number in range(copies)]
    found = {rank: [in_order[(place + step) % size] for step in steps] for place, rank in enumerate(in_order)}
    for rank, ranks in found.items():
        elsewhere = [other for other in range(size) if nodes[other] != nodes[rank]]
        if copies > 1 and elsewhere and not set(ranks) & set(elsewhere):  # more than half of the ranks are on one node
            counts = Counter(itertools.chain.from_iterable(found.values()))
            ranks[-1] = min(elsewhere, key=counts.__getitem__)
    return [found[rank] for rank in range(size)]


class Holders:
    """Which ranks hold each part, and who of them lives. There are as many parts as ranks.

    Args:
        group: the ranks; in one that does not survive deaths, each holds its own part.
        copies: how many ranks hold each part in one that does.
    """

    def __init__(self, group: Communicator, copies: int) -> None:
        elastic = as_elastic(group)
        self._group = group
        self._members = None if elastic is None else elastic.born_as
        self._of = holders_of([0] * group.size, 1) if elastic is None else holders_of(elastic.nodes, copies)
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
                dead = sorted(self._members[rank] for rank in self._of[part])
                raise CommError(
                    f"ZeroRedundancyOptimizer: ranks {', '.join(map(str, dead))} have died together, and with them all "
                    f"{len(dead)} copies of a part of the optimizer's state; expected one of them to live. Start again "
                    "from the newest complete checkpoint (CheckpointManager.load in the program; launch --max-restarts "
                    "1 starts it by itself), and ask for more copies (ZeroRedundancyOptimizer(copies=...))"
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


class AfterDeaths(Listener):
    """Calls a method of an object when a step was void because a rank has died.

    Args:
        act: a bound method, whose object is not kept alive.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = weakref.WeakMethod(act)

    def void_step(self) -> None:
        """Calls it."""
        act = self._act()
        if act is not None:
            act()
