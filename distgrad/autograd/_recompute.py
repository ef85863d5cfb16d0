"""Regions of the graph that keep nothing of their forward pass, and run it again when backward first reaches them.

The nodes of a region stay, so gradients, hooks and edges are those of a graph that was never cut; only what the nodes
would have saved is missing. In its place a node has its region. Running the function again makes the same nodes in the
same order, and what these save is handed to the old ones.

Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
"""

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import AutogradError
from ._base import TensorBase
from ._mode import enable_grad, intercepts, mode, set_autocast

T = TypeVar("T")
_Item = Any  # a Node or a Region


class Region:
    """What one call recorded without keeping it.

    Args:
        again: runs the function once more, on the same inputs.
        inputs: tensors whose values must not change until then.
        strict: compare the shapes and dtypes of what the two runs save.
    """

    __slots__ = ("__weakref__", "_again", "_forms", "_inputs", "_items", "_outer", "_policy", "_strict", "_versions")

    def __init__(self, again: Callable[[], Any], inputs: Sequence[TensorBase], strict: bool) -> None:
        self._again: Callable[[], Any] | None = again
        self._inputs: Sequence[TensorBase] = inputs
        self._versions = [t._cell[0] for t in inputs]
        self._strict = strict
        self._policy = mode.autocast
        self._outer: Region | None = None
        self._items: list[weakref.ref[Any]] = []
        self._forms: list[Any] = []

    # ---- while the function runs for the first time --------------------------------------------------------------

    def add(self, item: _Item) -> None:
        """Takes a node in, or a region inside this one, and what it holds from it."""
        self._items.append(weakref.ref(item))
        self._forms.append(_form(item))
        if isinstance(item, Region):
            item._outer = self
        else:
            item.forget(self)

    def close(self) -> None:
        """The function has returned: a region inside another lets go of its inputs, which are the other's to keep."""
        if self._outer is not None:
            self._again, self._inputs = None, ()

    # ---- when backward has come ------------------------------------------------------------------------------------

    def refill(self) -> None:
        """Runs the function again and gives the nodes what they lack.

        Raises:
            AutogradError: the second run was not like the first.
        """
        if self._again is None and self._outer is not None:
            self._outer.refill()
        again = self._again
        if again is None:
            raise AutogradError("checkpoint: the recomputation of the surrounding checkpoint did not come this far")
        if [t._cell[0] for t in self._inputs] != self._versions:
            raise AutogradError(
                "checkpoint: an input of the function was modified by an inplace operation before the function could "
                "be computed again; clone() it first, also inside the function"
            )
        found = _Found()
        with enable_grad(), _Policy(self._policy):
            _collect(found, again)
        self._check(found.items)
        for reference, new in zip(self._items, found.items, strict=True):
            old = reference()
            if isinstance(old, Region):
                old._again, old._inputs, old._versions = new._again, new._inputs, new._versions
            elif old is not None and old.saved is self:
                old.remember(new)
        self._again, self._inputs = None, ()

    def _check(self, found: list[_Item]) -> None:
        if len(found) != len(self._forms):
            raise AutogradError(
                "checkpoint: A different number of tensors was saved during the original forward and recomputation: "
                f"{len(self._forms)} operations were recorded first, and {len(found)} when the function was computed "
                "again; it must do the same both times"
            )
        for number, (form, item) in enumerate(zip(self._forms, found, strict=True)):
            again = _form(item)
            if (form != again) if self._strict else (form[0] != again[0]):
                raise AutogradError(
                    "checkpoint: Recomputed values for the following tensors have different metadata than during the "
                    f"forward pass: those of operation {number}, {_said(form)} first and {_said(again)} when the "
                    "function was computed again; it must do the same both times"
                )


class _Found:
    """What a second run records; nothing is taken from it."""

    def __init__(self) -> None:
        self.items: list[_Item] = []

    def add(self, item: _Item) -> None:
        self.items.append(item)


class _Policy:
    """Sets the autocast policy while it lasts."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def __enter__(self) -> None:
        self._before = mode.autocast
        set_autocast(self._policy)

    def __exit__(self, *exc: object) -> None:
        set_autocast(self._before)


def run_forgetting(
    function: Callable[[], T], again: Callable[[], Any], inputs: Sequence[TensorBase], strict: bool
) -> T:
    """Calls `function` so that nothing is kept for backward, which calls `again` to have it.

    Args:
        function: what to do.
        again: does the same, and restores what it depends on before.
        inputs: the tensors that it works on.
        strict: compare the shapes and dtypes of what the two runs save.
    """
    region = Region(again, inputs, strict)
    if mode.collector is not None:
        mode.collector.add(region)
    result = _collect(region, function)
    region.close()
    return result


def _collect(collector: Region | _Found, function: Callable[[], T]) -> T:
    before = mode.collector
    mode.collector = collector
    _count(1)
    try:
        return function()
    finally:
        _count(-1)
        mode.collector = before


_lock = threading.Lock()


def _count(change: int) -> None:
    with _lock:
        intercepts.collecting += change


def _form(item: _Item) -> Any:
    """What must be the same in both runs."""
    if isinstance(item, Region):
        return ("a checkpoint",)
    return (item.name(), item.needs, *item.saved_forms())


def _said(form: Any) -> str:
    return " ".join([str(form[0]), *(f"{dtype} {list(shape)}" for shape, dtype in form[2:])])
