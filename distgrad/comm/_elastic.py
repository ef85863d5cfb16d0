"""A group that goes on when ranks die: over MPI with user-level failure mitigation (ULFM), which Open MPI has.

A collective with a dead rank fails on the others, on some of them before others, and not on all. So nothing that
ranks have exchanged counts before `commit`, where all live ranks agree whether everything went well on each of them;
where it did not, or a rank is missing, they leave the dead behind and go on as a smaller group. Their numbers close up
in order. The group stays the same object, with another `rank` and `size`.

Bland et al., Post-failure recovery of MPI communication capability, IJHPCA 2013; mpirun must have been started with
``--with-ft ulfm``, and a rank must end by a signal (see `launch/_mpirun.py`): other ends are not noticed.
"""

import functools
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from .._typing import Array
from ..errors import CommError
from ._checks import is_own_part
from ._communicator import Communicator
from ._groups import groups
from ._mpi import MpiCommunicator
from ._segment import Segment, padded, share
from ._shm import aligned_slice
from ._statistics import Statistics
from ._topology import Topology
from ._tree import Tree, add_along
from ._types import Options, ReduceOp
from ._wait import Patience
from .diagnosis._meeting import Deadline, WireMeeting

_MEETING_TAG = 32002  # apart from the tags that users choose

# Bits in the agreement of all live ranks.
_WENT_WELL, _COMPLETE = 1, 2

_LAST_WAIT = 2.0  # seconds at the end of the program, before who waits for this rank is told that it will not come

_SHORT = 4096  # bytes; a shorter message goes through MPI, wherever it lies


class MessageMeeting(WireMeeting):
    """Meetings by messages: a non-blocking all-reduce would work, too, but Open MPI prints when one fails."""

    def maximum(self, values: Array, doing: str) -> Array:
        """The maximum of each value over all ranks; `doing` is what they do, in words."""
        rank, size, distance = self._comm.rank, self._comm.size, 1
        while distance < size:  # after each round, a rank knows of twice as many before it
            received = np.empty_like(values)
            source = self._comm.Irecv(received, (rank - distance) % size, _MEETING_TAG)
            target = self._comm.Isend(values, (rank + distance) % size, _MEETING_TAG)
            self._poll(source, doing)
            self._poll(target, doing)
            values, distance = np.maximum(values, received), 2 * distance
        return values


class ElasticCommunicator(MpiCommunicator):
    """A group over an MPI communicator, from which dead ranks are removed.

    In an `attempt`, collectives fail where a rank has died. Outside, `all_reduce`, `broadcast`, `barrier` and those on
    objects but scatter and gather repair the group and begin again, without the dead; others raise.

    Args:
        comm: an mpi4py communicator of this group alone.
    """

    name: ClassVar[str] = "elastic"

    def __init__(
        self,
        comm: Any,
        ranks: Sequence[int] | None = None,
        options: Options | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(comm, ranks, options, statistics)
        comm.Set_errhandler(self._mpi.ERRORS_RETURN)
        self._lane, self._lanes = self.rank, self.size  # in segments, for good
        self._segments: list[weakref.ref[Segment]] = []
        self.born_as = tuple(range(self.size))  # what the ranks were called in the beginning
        self._wire = self._meeting = self._messages = MessageMeeting(comm, self.options, self._mpi)
        self._attempting = False
        self._wreck: BaseException | None = None  # holds the buffers of what has failed: a late message may come
        self._noticed: float | None = None  # when the first failure was that has not been repaired
        self._at = 0.0  # the same, in seconds since the epoch
        self._lost: list[int] = []  # who has died since the last report
        self._repairing = 0.0  # seconds since the last report
        self._replaced = 0  # workers since the last report
        self._wanted = self.size  # workers
        self._node_of = dict.fromkeys(self.born_as, 0)

    def reserve(self, spares: int) -> None:
        """Let the last so many ranks own no logical shards, until they have the number of one that died."""
        self._wanted = self.size - spares

    @property
    def workers(self) -> int:
        """How many ranks own logical shards: as many as in the beginning, for as long as there are spares."""
        return min(self.size, self._wanted)

    def look_around(self) -> None:
        """Ask all ranks on which node they are. A collective call."""
        topology = Topology.discover(self)
        for node, ranks in enumerate(topology.nodes):
            self._node_of.update((self.born_as[rank], node) for rank in ranks)

    @property
    def nodes(self) -> list[int]:
        """The number of each rank's node."""
        return [self._node_of[born] for born in self.born_as]

    def use_board(self) -> None:
        """Nothing: a board takes a dead rank for the end of the job."""

    # ---- attempts and commits ------------------------------------------------------------------------------------

    def attempt(self, function: Callable[[], None]) -> bool:
        """Call a function that calls collectives; False where a rank has died before they were through."""
        self._attempting = True
        try:
            function()
        except self._mpi.Exception as error:
            if not self._tells_of_a_death(error):
                raise
            self._notice()
            self._wreck = error
            self._comm.Revoke()  # whoever still waits in a collective of the attempt gets an error, too
            return False
        finally:
            self._attempting = False
        return True

    def commit(self, went_well: bool) -> bool:
        """Agree with all live ranks whether an attempt went well on each of them, and leave dead ranks behind.

        Returns:
            The same on every live rank. After False, nothing of the attempt counts: `rank` and `size` are others now.
        """
        flags = self._agree(went_well, Deadline(self.rank, "an agreement of all ranks", self.options.timeout).look)
        if went_well:
            self._wreck = None
        if flags != _WENT_WELL | _COMPLETE:
            self._shrink()
        return bool(flags & _WENT_WELL)

    def settle(self) -> bool:
        """Return when all live ranks have come here: to the end of their program. A collective call.

        Returns:
            False where others were not at their end, and waited for this rank: they go on as if it had died.
        """
        return bool(self._agree(True, self._stop_waiting) & _WENT_WELL)

    def _stop_waiting(self, waited: float) -> None:
        """Let go of those who wait for this rank in a collective, which it will never come to."""
        if waited > _LAST_WAIT and not self._comm.Is_revoked():
            self._comm.Revoke()

    def report(self, where: str, again: float = 0.0) -> None:
        """Say on the lowest live rank who has died since the last report, if anybody has.

        Args:
            where: when it was noticed, in words.
            again: seconds that were spent on doing work again.
        """
        lost, seconds, self._lost, self._repairing = self._lost, self._repairing, [], 0.0
        replaced, self._replaced = self._replaced, 0
        if not lost or self.rank:
            return
        names = f"rank {lost[0]}" if len(lost) == 1 else f"ranks {', '.join(map(str, lost))}"
        ranks = "1 rank goes" if self.workers == 1 else f"{self.workers} ranks go"
        spares = {0: "", 1: "a spare takes its place and "}.get(replaced, f"{replaced} spares take their places and ")
        at = f"{time.strftime('%H:%M:%S', time.localtime(self._at))}.{int(self._at % 1 * 1e3):03d}"
        worked = f" and {again * 1e3:.0f} ms to do its work" if again else ""
        print(
            f"distgrad: {names} died, noticed at {at} {where}; {spares}{ranks} on; it took {seconds * 1e3:.0f} ms to "
            f"repair the group{worked}",
            file=sys.stderr,
            flush=True,
        )

    def _notice(self) -> float:
        """When the first failure was noticed that has not been repaired: now, if there was none."""
        if self._noticed is None:
            self._noticed, self._at = time.monotonic(), time.time()
        return self._noticed

    def _agree(self, went_well: bool, look: Callable[[float], None]) -> int:
        """The flags that all live ranks have; the same on each of them.

        Args:
            went_well: on this rank.
            look: called in a long wait; a blocking agreement would keep the core busy, and wait for ever for a rank
                that is stopped.
        """
        while True:
            failed = self._comm.Get_failed()
            flags = np.array([_WENT_WELL * went_well | _COMPLETE * (failed.Get_size() == 0)], np.intc)
            failed.Free()
            try:
                request, patience = self._comm.Iagree(flags), Patience(look)
                while not request.Test():
                    patience.pause()
                return int(flags[0])
            except self._mpi.Exception:  # on all live ranks alike: one has died that not all knew of
                self._notice()
                self._comm.Ack_failed()

    def _shrink(self) -> None:
        """Make this the group of those who live."""
        began = self._notice()  # else another rank has
        everyone = self._comm.Get_group()
        comm = self._comm.Shrink()
        comm.Set_errhandler(self._mpi.ERRORS_RETURN)
        alive = comm.Get_group()
        places = everyone.Translate_ranks(list(range(self.size)), alive)
        survives = [place != self._mpi.UNDEFINED for place in places]
        self._lost += [born for born, lives in zip(self.born_as, survives, strict=True) if not lives]
        self.born_as = tuple(born for born, lives in zip(self.born_as, survives, strict=True) if lives)
        before, worked = self.workers, survives[: self.workers].count(True)
        self._comm = comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._replaced += min(self.workers, before) - worked
        self.ranks = tuple(range(self.size))
        self._meeting = self._messages = self._wire = MessageMeeting(comm, self.options, self._mpi)
        self._broken = None
        self._noticed = None
        self._repairing += time.monotonic() - began

    def _tells_of_a_death(self, error: Any) -> bool:
        """Whether an error of MPI comes from a dead rank, or from another rank that has noticed one.

        Some collectives of Open MPI (5.0.11: Alltoallv) have no more to say than "another error" when they are revoked.
        """
        deaths = self._mpi.ERR_PROC_FAILED, self._mpi.ERR_PROC_FAILED_PENDING, self._mpi.ERR_REVOKED
        return error.Get_error_class() in deaths or bool(self._comm.Is_revoked())

    # ---- collectives that repair the group -----------------------------------------------------------------------

    def all_reduce(self, buffer: Array, op: ReduceOp = ReduceOp.SUM) -> None:
        """As everywhere, over the live ranks."""
        self._until_it_works(lambda mine: MpiCommunicator.all_reduce(self, mine, op), buffer)

    def tree_sum(self, buffer: Array, tree: Tree) -> None:
        """As everywhere; it cannot be repaired, since the tree names ranks."""
        if not self._attempting:
            raise CommError("an elastic group: expected tree_sum within a step of DataLoader.steps, got it outside")
        MpiCommunicator.tree_sum(self, buffer, tree)

    def broadcast(self, buffer: Array, root: int = 0) -> None:
        """As everywhere; where the root has died, from who has its number now."""
        self._until_it_works(lambda mine: MpiCommunicator.broadcast(self, mine, min(root, self.size - 1)), buffer)

    def barrier(self) -> None:
        """As everywhere, over the live ranks."""
        self._until_it_works(lambda mine: MpiCommunicator.barrier(self), np.empty(0))

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """As everywhere; where the root has died, from who has its number now."""
        return self._object(lambda: MpiCommunicator.broadcast_object(self, value, min(root, self.size - 1)))

    def all_gather_object(self, value: Any) -> list[Any]:
        """As everywhere, from the live ranks."""
        found: list[Any] = self._object(lambda: MpiCommunicator.all_gather_object(self, value))
        return found

    def _object(self, collective: Callable[[], Any]) -> Any:
        result: list[Any] = []

        def call(mine: Array) -> None:
            result[:] = [collective()]

        self._until_it_works(call, np.empty(0))
        return result[0]

    def _until_it_works(self, collective: Callable[[Array], None], buffer: Array) -> None:
        """Within an attempt, call the collective; else until it went well on all live ranks, each time on a copy."""
        if self._attempting:
            collective(buffer)
            return
        mine = buffer.copy()
        while not self.commit(self.attempt(functools.partial(collective, mine))):
            mine = buffer.copy()
        buffer[...] = mine
        self.report("outside of a step")

    # ---- memory that the ranks share -----------------------------------------------------------------------------

    def _empty(self, n: int, dtype: "np.dtype[np.generic]") -> Array:
        """A lane of a segment, which has one for every rank that there ever was; else memory of this rank."""
        try:
            segment = share(self, self._lanes * padded(n * dtype.itemsize))
        except CommError:  # on all ranks alike
            return np.empty(n, dtype)
        self._segments.append(weakref.ref(segment))
        return segment.array(self._lane * padded(n * dtype.itemsize), n, dtype)

    def _tree_sum(self, buffer: Array, tree: Tree) -> None:
        """In place, in memory that all share, by slices.

        A rank that dies meanwhile leaves a mixture, on others too; but all have left this function when they agree that
        nothing of it counts.
        """
        self._meeting.meet()
        lanes = self._lanes_of(buffer, "a sum in shared memory")
        if lanes is None:
            super()._tree_sum(buffer, tree)
            return
        mine = aligned_slice(buffer.size, self.size, self.rank)
        parts = [lane[mine] for lane in lanes]
        add_along(tree, parts, parts)
        self._wire.maximum(np.zeros(1), "a sum in shared memory")

    def _all_gather(self, output: Array, input: Array) -> None:
        """In place: from the lanes of the others, else in other memory, so that nothing is written that is not whole.

        What this rank keeps for others, in case they die, may lie in the output.
        """
        if not is_own_part(output, input, self.rank):
            super()._all_gather(output, input)
            return
        self._meeting.meet()
        parts = [slice(number * input.size, (number + 1) * input.size) for number in range(self.size)]
        lanes = self._lanes_of(output, "a gather in shared memory")
        if lanes is None:
            lanes = [output.copy()] * self.size
            super()._all_gather(lanes[0], lanes[0][parts[self.rank]])
        for number, part in enumerate(parts):
            if number != self.rank:
                output[part] = lanes[number][part]
        self._wire.maximum(np.zeros(1), "a gather in shared memory")

    def _broadcast(self, buffer: Array, root: int) -> None:
        """As `_all_gather` in place, where it is no short message."""
        if buffer.nbytes < _SHORT:
            super()._broadcast(buffer, root)
            return
        self._meeting.meet()
        lanes = self._lanes_of(buffer, "a broadcast in shared memory")
        source = buffer.copy() if lanes is None else lanes[root]
        if lanes is None:
            super()._broadcast(source, root)
        if self.rank != root:
            buffer[...] = source
        self._wire.maximum(np.zeros(1), "a broadcast in shared memory")

    def _lanes_of(self, buffer: Array, doing: str) -> list[Array] | None:
        """The buffers of all ranks, where they lie at one place in the ranks' lanes of a segment; else None.

        A meeting: when it returns, all ranks have come so far with what is in their buffers.
        """
        place = self._locate(buffer)
        extremes = self._wire.maximum(np.array([*place, *(-x for x in place)]), doing)
        if place[0] < 0 or not np.array_equal(extremes[:2], -extremes[2:]):
            return None
        segment = self._segments[place[0]]()
        assert segment is not None  # the buffer, which lies in it, keeps it alive
        lane = segment.nbytes // self._lanes
        return [segment.array(born * lane + place[1], buffer.size, buffer.dtype) for born in self.born_as]

    def _locate(self, buffer: Array) -> tuple[int, int]:
        """The number of the segment in whose lane of this rank the buffer lies, and its offset; else (-1, 0)."""
        address = buffer.__array_interface__["data"][0]
        for number, reference in enumerate(self._segments):
            segment = reference()
            if segment is not None:
                lane = segment.nbytes // self._lanes
                offset = address - segment.start - self._lane * lane
                if offset >= 0 and offset + buffer.nbytes <= lane:
                    return number, offset
        return -1, 0

    def _split(self, color: int | None, key: int, options: Options) -> "MpiCommunicator | None":
        raise CommError("an elastic group cannot be split: expected a program that uses the default group alone")

    def _close(self) -> None:
        """Nothing that would need the dead."""


def elastic_group() -> ElasticCommunicator | None:
    """The default group, where it is one that survives the death of a rank."""
    world = groups().world
    return world if isinstance(world, ElasticCommunicator) else None


def as_elastic(group: Communicator) -> ElasticCommunicator | None:
    """The group, if it is one that survives the death of a rank."""
    return group if isinstance(group, ElasticCommunicator) else None
