"""Ranks as threads of one process: no launcher, no MPI, and errors that come straight to a test."""

import copy
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from .._typing import Array
from ..errors import CollectiveMismatchError, CommError, CommTimeoutError, PeerLostError
from ._calls import Call, Kind
from ._communicator import Communicator
from ._groups import Groups, set_thread_groups
from ._reduce import reduced
from ._statistics import Statistics
from ._types import CompletedWork, Options, ReduceOp, Work

T = TypeVar("T")


class Hub:
    """What the ranks of one group share: a meeting point, what each shows the others, and a mailbox.

    Args:
        size: number of ranks.
        options: the timeout.
    """

    def __init__(self, size: int, options: Options) -> None:
        self.changed = threading.Condition()
        self.shown: list[Any] = [None] * size
        self.mail: dict[tuple[int, int, int], deque[Array]] = defaultdict(deque)  # (source, dest, tag)
        self.left: dict[int, str] = {}
        self._steps = [0] * size
        self._calls = [[Call(Kind.NONE)] * 2 for _ in range(size)]  # of even and odd steps
        self._options = options

    def meet(self, rank: int, call: Call) -> None:
        """Return when all ranks have come, each with the same call."""
        with self.changed:
            self._steps[rank] = step = self._steps[rank] + 1
            self._calls[rank][step % 2] = call
            self.changed.notify_all()
            self.wait(lambda: min(self._steps) >= step, lambda: self._missing(step), rank, f"waiting in {call}")
            calls = [pair[step % 2] for pair in self._calls]
        if any(other != call for other in calls):
            lines = "\n".join(f"  rank {other}: {text}" for other, text in enumerate(calls))
            raise CollectiveMismatchError(
                f"expected all ranks in the same collective on equal sizes and dtypes, got:\n{lines}"
            )

    def wait(
        self, done: Callable[[], bool], missing: Callable[[], list[int]], rank: int, doing: str, limit: float = 0
    ) -> None:
        """Wait, holding `changed`, until `done`; raise when a missing rank has left, or after the timeout."""
        timeout = limit or self._options.timeout
        gone = self.changed.wait_for(lambda: done() or any(other in self.left for other in missing()), timeout)
        if done():
            return
        for other in missing():
            if other in self.left:
                raise PeerLostError(f"rank {rank} was {doing}, but rank {other} has left: {self.left[other]}")
        assert not gone
        raise CommTimeoutError(f"rank {rank} gave up {doing} after {timeout:g} s; missing: ranks {missing()}")

    def leave(self, rank: int, reason: str) -> None:
        """Free those who wait for `rank`, now and later."""
        with self.changed:
            self.left.setdefault(rank, reason)
            self.changed.notify_all()

    def _missing(self, step: int) -> list[int]:
        return [rank for rank, reached in enumerate(self._steps) if reached < step]


class ThreadsCommunicator(Communicator):
    """One rank of a group whose ranks are threads.

    Args:
        hub: what the ranks share.
        rank: this one.
    """

    name: ClassVar[str] = "threads"

    def __init__(
        self,
        hub: Hub,
        rank: int,
        ranks: Sequence[int] | None = None,
        options: Options | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(rank, len(hub.shown), ranks, options, statistics)
        self._hub = hub

    def _show(self, value: Any) -> list[Any]:
        """What every rank shows. Nobody may change it before the next meeting."""
        self._hub.shown[self.rank] = value
        self._hub.meet(self.rank, self._call)
        return list(self._hub.shown)

    def _done_reading(self) -> None:
        self._hub.meet(self.rank, self._call)

    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None:
        result = reduced(self._show(buffer), op)
        self._done_reading()
        buffer[...] = result

    def _broadcast(self, buffer: Array, root: int) -> None:
        shown = self._show(buffer)
        if self.rank != root:
            buffer[...] = shown[root]
        self._done_reading()

    def _all_gather(self, output: Array, input: Array) -> None:
        for row, source in zip(output.reshape(self.size, input.size), self._show(input), strict=True):
            row[...] = source
        self._done_reading()

    def _isend(self, buffer: Array, dest: int, tag: int) -> Work:
        with self._hub.changed:
            self._hub.mail[self.rank, dest, tag].append(buffer.copy())
            self._hub.changed.notify_all()
        return CompletedWork([buffer])

    def _irecv(self, buffer: Array, source: int, tag: int) -> Work:
        return _Receive(self._hub, buffer, (source, self.rank, tag))

    def _split(self, color: int | None, key: int, options: Options) -> "ThreadsCommunicator | None":
        entries = self._show((color, key, self.rank))
        self._done_reading()
        members = [rank for other, _, rank in sorted(entries, key=lambda entry: entry[1:]) if other == color]
        hubs = self._show(Hub(len(members), options))
        self._done_reading()
        if color is None:
            return None
        ranks = [self.ranks[rank] for rank in members]
        hub = hubs[members[0]]
        return ThreadsCommunicator(hub, members.index(self.rank), ranks, options, self.statistics)

    def _fail(self, reason: str) -> None:
        self._hub.leave(self.rank, reason)

    def _close(self) -> None:
        self._hub.leave(self.rank, "its function has returned, or it closed the group")


class _Receive(Work):
    """A message that may not have come yet."""

    def __init__(self, hub: Hub, buffer: Array, address: tuple[int, int, int]) -> None:
        self._hub = hub
        self._buffer = buffer
        self._address = address
        self._done = False
        self._error: BaseException | None = None

    def wait(self, timeout: float | None = None) -> bool:
        source, rank, _ = self._address
        with self._hub.changed:
            self._hub.wait(
                self.is_completed, lambda: [source], rank, f"receiving from rank {source}", limit=timeout or 0
            )
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        with self._hub.changed:
            if not self._done and self._hub.mail[self._address]:
                self._take(self._hub.mail[self._address].popleft())
        return self._done

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> list[Array]:
        return [self._buffer]

    def _take(self, message: Array) -> None:
        self._done = True
        if message.nbytes != self._buffer.nbytes:
            self._error = CommError(
                f"expected {self._buffer.nbytes:,} bytes from rank {self._address[0]}, got {message.nbytes:,}; make "
                "both ranks pass buffers of one size and dtype"
            )
        else:
            self._buffer[...] = message.view(self._buffer.dtype)


def run_threads(world_size: int, function: Callable[..., T], *args: Any, timeout: float = 60.0) -> list[T]:
    """Run `function(*args)` on `world_size` ranks, each a thread of this process with a default group of its own.

    Args:
        world_size: number of ranks.
        function: called once in every thread; `distgrad.comm` works in it as under a launcher.
        args: arguments; every rank gets the same objects, so shared arrays are copied with copy.deepcopy.
        timeout: seconds that a rank waits for another.

    Returns:
        What the function returned, by rank.

    Raises:
        BaseException: the first error of any rank; it frees the ranks that wait for that one.

    Example:
        >>> from distgrad import comm
        >>> run_threads(3, lambda: sum(comm.get_default().all_gather_object(comm.get_rank())))
        [3, 3, 3]
    """
    options = Options(timeout=timeout)
    hub = Hub(world_size, options)
    results: list[Any] = [None] * world_size
    errors: list[tuple[bool, float, BaseException]] = []

    def run(rank: int) -> None:
        group = ThreadsCommunicator(hub, rank, options=options)
        set_thread_groups(Groups(world=group, explicit=True))
        try:
            results[rank] = function(*copy.deepcopy(args))
            group.close()
        except BaseException as error:  # raised again in the caller's thread
            errors.append((isinstance(error, PeerLostError), time.monotonic(), error))
            hub.leave(rank, f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank-{rank}") for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise min(errors, key=lambda entry: entry[:2])[2]
    return results
