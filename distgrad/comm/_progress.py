"""Collectives in the background: one thread that runs them in the order of submission.

The thread works on the communicator itself, not on a duplicate. A synchronous call waits until the thread is idle, so
at any time one thread uses the communicator, every rank issues the same sequence of collectives, and buffers in the
communicator's own memory keep their zero-copy path.
"""

import queue
import threading
import weakref
from collections.abc import Callable

from .._typing import Array
from ..errors import CommTimeoutError
from ._process import call_site, set_call_site
from ._types import Work

OWN_ERROR = 10.0  # seconds after the timeout in which an operation ends by itself, in an error that says more

# Every queue of this process.
_queues: "weakref.WeakSet[Fifo]" = weakref.WeakSet()


def any_busy() -> bool:
    """Whether anything is being done in the background, or waits for it, in any group of this process."""
    return any(queue.is_busy for queue in list(_queues))


class Fifo:
    """A background thread that runs submitted functions one after the other; it starts at the first one.

    Args:
        name: the name of the thread, as a stack dump shows it.
        timeout: seconds that `QueuedWork.wait` waits when it is given none.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[[], None], QueuedWork] | None] = queue.SimpleQueue()
        self._last: QueuedWork | None = None
        self._timeout = timeout
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        _queues.add(self)

    def submit(self, function: Callable[[], None], arrays: list[Array]) -> "QueuedWork":
        """Append `function` to the queue."""
        work = QueuedWork(arrays, self._timeout, call_site())
        self._last = work
        self._tasks.put((function, work))
        return work

    @property
    def is_busy(self) -> bool:
        """Whether something that was submitted has not ended."""
        last = self._last
        return last is not None and not last.is_completed()

    def drain(self) -> None:
        """Wait until everything submitted so far has ended; errors stay in their `Work`."""
        if self._last is not None and threading.current_thread() is not self._thread:
            self._last.join()
            self._last = None

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            function, work = task
            set_call_site(f"{work.site}, in the background")
            try:
                function()
            except BaseException as error:  # handed to whoever waits for the work
                work.end(error)
            else:
                work.end(None)


class QueuedWork(Work):
    """The handle of a function in a `Fifo`."""

    def __init__(self, arrays: list[Array], timeout: float, site: str) -> None:
        self.site = site  # where in the program it was submitted
        self._arrays = arrays
        self._timeout = timeout
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def end(self, error: BaseException | None) -> None:
        """Record how the function ended and wake those who wait."""
        self._error = error
        self._ended.set()

    def join(self) -> None:
        """Wait for the end without raising what it ended with."""
        self._ended.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the operation has ended; raises what it failed with."""
        limit = self._timeout + OWN_ERROR if timeout is None else timeout
        if not self._ended.wait(limit):
            raise CommTimeoutError(f"the operation did not end within {limit:g} s")
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        """Whether the operation has ended."""
        return self._ended.is_set()

    def exception(self) -> BaseException | None:
        """What the operation failed with."""
        return self._error

    def result(self) -> list[Array]:
        """The arrays that the operation wrote."""
        return self._arrays
