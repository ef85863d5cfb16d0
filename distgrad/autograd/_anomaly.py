"""Anomaly mode: errors of backward name the forward line, and a nan in a gradient is an error."""

import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from ._base import TensorBase, producer
from ._mode import add_observer, anomaly, remove_observer
from ._node import LEAF

_PACKAGE = str(Path(__file__).parent.parent)


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on."""
    return anomaly.enabled


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode looks for nan in gradients."""
    return anomaly.check_nan


class set_detect_anomaly:
    """Turns anomaly mode on or off at once; as a context manager, until its end.

    While it is on, each recorded operation remembers the lines of the user's program that called it. An error in
    backward then names them; and a gradient that contains nan is an error. It costs time: use it for debugging.

    Args:
        mode: on or off. What the calling thread records is remembered.
        check_nan: whether nan in a gradient is an error.
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = (anomaly.enabled, anomaly.check_nan)
        _switch(bool(mode), check_nan)

    def __enter__(self) -> None:
        """It was switched when the object was made."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _switch(*self._before)


class detect_anomaly:
    """Anomaly mode as a context manager; see `set_detect_anomaly`.

    Example:
        >>> with autograd.detect_anomaly():
        ...     model(x).sum().backward()
    """

    def __init__(self, check_nan: bool = True) -> None:
        self._check_nan = check_nan
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append((anomaly.enabled, anomaly.check_nan))
        _switch(True, self._check_nan)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _switch(*self._before.pop())


def _switch(enabled: bool, check_nan: bool) -> None:
    if enabled != anomaly.enabled:
        (add_observer if enabled else remove_observer)(_remember)
    anomaly.enabled, anomaly.check_nan = enabled, enabled and check_nan


def _remember(op: Any, node: Any, inputs: Any, result: Any) -> None:
    """Keeps the user's lines with a node that was recorded."""
    for t in result if isinstance(result, tuple) else (result,):
        if isinstance(t, TensorBase) and t._target is not None and t._target.kind != LEAF:
            producer(t._target)[0].get_extra().traceback = _users_lines()
            return


def _users_lines() -> str:
    """The stack without the frames of this package."""
    frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(_PACKAGE)]
    return "".join(traceback.format_list(frames))
