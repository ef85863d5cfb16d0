"""What autograd knows of a tensor: an array, where its gradient flows, and who shares its memory."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from .._typing import Array
from ..backend import backend_of
from ..errors import AutogradError
from ._node import LEAF, Node

if TYPE_CHECKING:
    from .._tensor import Tensor


class _LeafMark:
    """The `target` of a leaf that requires grad; an edge then holds the tensor itself, so no reference cycle arises."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "LEAF"


LEAF_MARK: Final = _LeafMark()


class TensorBase:
    """The state of a tensor that the engine works with. `Tensor` adds the public methods.

    Attributes:
        _data: the raw array.
        _target: None (no gradient), `LEAF_MARK`, or the Node / OutputOf that produced this tensor.
        _cell: ``[version, history]``, shared by all views of one memory: the count of in-place writes, and the count
            of those that changed the graph.
        _base: for a view made while recording, the tensor whose memory it shows.
        _grad: the accumulated gradient, a tensor or None.
        _extra: the rarely needed rest.
    """

    __slots__ = ("_base", "_cell", "_data", "_extra", "_grad", "_target")
    kind: ClassVar[int] = LEAF
    is_sparse: ClassVar[bool] = False

    _data: Array
    _target: Any
    _cell: list[int]
    _base: "TensorBase | None"
    _grad: Any
    _extra: "TensorExtra | None"

    def _get_extra(self) -> "TensorExtra":
        if self._extra is None:
            self._extra = TensorExtra()
        return self._extra


class Share(Protocol):
    """A part of a gradient whose other parts lie on other ranks; the rest of the tensor's memory does not count.

    Attributes:
        part: the elements that are here, a flat array; perhaps none.
    """

    part: Array

    def total(self, value: float) -> float:
        """The sum of the values of all ranks. A collective call."""
        ...

    def largest(self, value: float) -> float:
        """The largest of the values of all ranks. A collective call."""
        ...


def share_of(t: TensorBase) -> Share | None:
    """This rank's part, of a gradient of which only that is here."""
    return None if t._extra is None else t._extra.share


class TensorExtra:
    """Hooks, the arena's slot, and what a view saw of its base's history."""

    __slots__ = ("grad_slot", "hooks", "post_accumulate", "retains_grad", "seen", "share", "slot")

    def __init__(self) -> None:
        self.hooks: dict[int, Callable[..., Any]] = {}
        self.post_accumulate: dict[int, Callable[..., Any]] = {}
        self.retains_grad = False
        self.seen = 0  # the history count when this view's target was made
        self.grad_slot: Any = None  # a tensor on the arena's memory into which the gradient is written
        self.slot: Any = None  # the arena's own record of this parameter
        self.share: Share | None = None  # of a gradient that is whole over all ranks only: this rank's part


_new: Callable[[Any], Any] = TensorBase.__new__
_tensor_class: Any = TensorBase


def register_tensor_class(cls: Any) -> None:
    """Names the class of the tensors that operations return; `_tensor.py` calls this once."""
    global _tensor_class, _new
    _tensor_class, _new = cls, cls.__new__


def wrap(array: Array, target: Any = None) -> "Tensor":
    """A tensor on `array`, without a copy and without a question."""
    t: Tensor = _new(_tensor_class)
    t._data = array
    t._target = target
    t._cell = [0, 0]
    t._base = None
    t._grad = None
    t._extra = None
    return t


def wrap_result(value: Any, like: Array) -> "Tensor":
    """A tensor on an operation's result, which NumPy may have returned as a scalar."""
    return wrap(value if value.__class__ is like.__class__ else backend_of(like).asarray(value))


def target_of(t: TensorBase) -> Any:
    """Where the gradient of `t` flows as an edge: a Node, an OutputOf, the leaf itself, or None."""
    if t._base is not None:
        sync_view(t)
    return t if t._target is LEAF_MARK else t._target


_sync: Callable[[TensorBase], None] | None = None


def register_view_sync(function: Callable[[TensorBase], None]) -> None:
    """Names the function that brings a view's target up to date; `_inplace.py` calls this once."""
    global _sync
    _sync = function


def sync_view(t: TensorBase) -> None:
    """Makes a view follow its base when an in-place operation changed the graph of their common memory."""
    extra = t._extra
    if t._cell[1] != (0 if extra is None else extra.seen):
        assert _sync is not None
        _sync(t)


def check_can_require_grad(array: Array) -> None:
    """Raises where a tensor of this dtype cannot have gradients."""
    if array.dtype.kind not in "fcV":  # V: ml_dtypes' bfloat16
        raise AutogradError(
            f"only tensors of floating-point dtype can require gradients, got {array.dtype}; convert it first, with "
            ".float()"
        )


def producer(target: Any) -> "tuple[Node, int]":
    """The node and output number behind a non-leaf target."""
    return (target.node, target.index) if target.kind == 1 else (target, 0)
