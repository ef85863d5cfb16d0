"""The frame around every collective: order, announcement, time, and the end of the group after an error."""

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
            self._call, self._nbytes = Call(kind, elements, code, op, root), 0
        else:
            code = lookup(buffer.dtype).code | (0 if isinstance(buffer, np.ndarray) else ON_DEVICE)
            self._call = Call(kind, elements or buffer.size, code, op, root)
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
