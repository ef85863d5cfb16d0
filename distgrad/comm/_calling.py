"""The frame around every collective: order, announcement, time, and the end of the group after an error."""

import functools
import time
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from .._typing import Array
from . import _solo
from ._calls import ON_DEVICE, Call, Kind
from ._dtypes import lookup

if TYPE_CHECKING:
    from ._communicator import Communicator


@functools.lru_cache(maxsize=1024)  # a program makes few different calls, many times
def _call_on(kind: Kind, elements: int, dtype: "np.dtype[np.generic]", place: int, op: int, root: int) -> Call:
    return Call(kind, elements, lookup(dtype).code | place, op, root)


@functools.lru_cache(maxsize=1024)
def _plain_call(kind: Kind, elements: int, code: int, op: int, root: int) -> Call:
    return Call(kind, elements, code, op, root)


class Calling:
    """`with Calling(group, kind, buffer):` around what a public method of a communicator does.

    Args:
        communicator: the group.
        kind: the operation.
        buffer: what it works on; None for Python objects and meetings.
        op: the ReduceOp, where there is one.
        root: the root, where there is one.
        elements: the number to compare with the peers instead of the buffer's size.
        code: the dtype's code, where there is no buffer.
    """

    __slots__ = ("_call", "_communicator", "_nbytes", "_started")

    def __init__(
        self,
        communicator: "Communicator",
        kind: Kind,
        buffer: Array | None = None,
        op: int = -1,
        root: int = -1,
        elements: int = 0,
        code: int = 0,
    ) -> None:
        if buffer is None:
            self._call, self._nbytes = _plain_call(kind, elements, code, op, root), 0
        else:
            place = 0 if isinstance(buffer, np.ndarray) else ON_DEVICE
            self._call = _call_on(kind, elements or buffer.size, buffer.dtype, place, op, root)
            self._nbytes = buffer.nbytes
        self._communicator = communicator

    def __enter__(self) -> None:
        group = self._communicator
        if _solo.open_blocks:
            _solo.refuse(self._call)
        if group._fifo is not None:
            group._fifo.drain()
        group._check_usable()
        self._started = time.perf_counter()
        group._call = self._call
        group._begin(self._call)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group = self._communicator
        group.statistics.add(time.perf_counter() - self._started, self._nbytes)
        if error is not None:
            reason = f"{self._call} failed with {type(error).__name__}: {error}"
            group._broken = group._broken or reason  # the first cause is the one to know
            group._fail(f"{type(error).__name__}: {error}")
