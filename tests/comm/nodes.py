"""Several nodes on one machine: ranks as threads that take themselves for ranks of different nodes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from distgrad.comm import Communicator, _hierarchical, get_default, run_threads
from distgrad.comm._hierarchical import HierarchicalCommunicator
from distgrad.comm._topology import pretend

T = TypeVar("T")
WINDOW = 2 << 20  # bytes


@contextmanager
def small_windows() -> Iterator[None]:
    """Groups that are made here have small windows: large buffers pass in stages, and no huge pages must be cleared."""
    usual = _hierarchical.WINDOW_BYTES
    _hierarchical.WINDOW_BYTES = WINDOW
    try:
        yield
    finally:
        _hierarchical.WINDOW_BYTES = usual


def run_nodes(nodes: Sequence[int], function: Callable[[Communicator], T]) -> list[T]:
    """Run a function on threads, of which number r takes itself for a rank of node `nodes[r]`."""

    def run() -> T:
        group = HierarchicalCommunicator(get_default())
        try:
            result = function(group)
        except AssertionError as error:
            group._fail(str(error))  # as the exit of a process would tell its peers
            raise
        group.close()
        return result

    pretend(nodes)
    try:
        with small_windows():
            return run_threads(len(nodes), run)
    finally:
        pretend(())
