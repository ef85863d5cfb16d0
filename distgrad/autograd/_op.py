"""Built-in operations on raw arrays, and the one place where an operation is applied."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .._typing import Array
from ..backend import Backend, as_array, backend_of, backends_by_array_type, promote_dims, promote_scalar, silenced
from ..errors import DeviceError
from ._base import LEAF_MARK, TensorBase, sync_view, wrap
from ._mode import intercepts, mode
from ._node import Node, OutputOf

if TYPE_CHECKING:
    from .._tensor import Tensor

_backends = backends_by_array_type


class Op:
    """One operation: subclasses give two static methods on raw arrays and say what is kept.

    ``forward(ctx, *inputs, *params)`` returns an array, or a tuple of arrays. An input that is no tensor (a Python
    number) arrives as it is. It may set ``ctx.cache`` and ``ctx.aux`` (see `Node`).

    ``backward(xp, ctx, g, *saved)`` returns the gradient of each input (a tuple, or the gradient alone for one input;
    None where none is wanted, which ``ctx.needs`` tells). `g` is the output's gradient, a tuple for several outputs
    (None for those that received none). It uses only `xp`, operators and `saved`, writes nothing in place, and works
    when ``ctx.cache`` is None: then the same code gives second derivatives.

    ``backward_fast`` has the same signature, is used when no graph of the gradient is asked for, and may do what it
    likes.

    Attributes:
        name: the name of the node without ``Backward0``; the class's name by default.
        saves: for each input, the inputs that its gradient needs.
        saves_output: whether backward receives the outputs after the saved inputs.
        broadcasts: the inputs were broadcast against each other; the engine undoes it.
        view: the output shares memory with the first input.
        non_differentiable: the outputs (by number) that have no gradient, such as indices.
        direct: the input whose gradient `backward_fast` writes to ``ctx.out`` and returns, if that is not None: the
            gradient's final place.
        quiet: forward runs with NumPy's floating-point warnings off, because inf and nan are results here.
    """

    name: ClassVar[str] = ""
    saves: ClassVar[tuple[tuple[int, ...], ...]] = ()
    saves_output: ClassVar[bool] = False
    broadcasts: ClassVar[bool] = False
    view: ClassVar[bool] = False
    non_differentiable: ClassVar[tuple[int, ...]] = ()
    direct: ClassVar[int | None] = None
    quiet: ClassVar[bool] = False

    forward: ClassVar[Callable[..., Any]]
    backward: ClassVar[Callable[..., Any]]
    backward_fast: ClassVar[Callable[..., Any]]
    raw_backward: ClassVar[Callable[..., Any]]
    _saved: ClassVar[tuple[int, ...]] = ()
    _plans: ClassVar[dict[tuple[bool, ...], tuple[tuple[int, bool], ...]]]

    def __init_subclass__(cls) -> None:
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lstrip("_")
        if "forward" in cls.__dict__ and cls.quiet:
            cls.forward = staticmethod(silenced(cls.forward))
        if "backward_fast" in cls.__dict__:
            cls.raw_backward = staticmethod(cls.backward_fast)
        elif "backward" in cls.__dict__:
            cls.raw_backward = staticmethod(cls.backward)
        cls._saved = tuple(sorted({i for wanted in cls.saves for i in wanted}))
        cls._plans = {}

    @classmethod
    def plan(cls, needs: tuple[bool, ...]) -> tuple[tuple[int, bool], ...]:
        """The inputs that backward receives, each with whether any gradient in `needs` uses it."""
        used = {i for i, wanted in enumerate(cls.saves) if i < len(needs) and needs[i] for i in wanted}
        plan = cls._plans[needs] = tuple((i, i in used) for i in cls._saved)
        return plan

    @classmethod
    def on_arrays(cls, inputs: tuple[Any, ...], params: tuple[Any, ...] = ()) -> Any:
        """The operation on raw arrays alone, with nothing recorded."""
        arrays = tuple(as_array(x) if hasattr(x, "dtype") else x for x in inputs)  # NumPy's 0-d results are scalars
        array = next(x for x in arrays if x.__class__ in _backends)
        return cls.forward(Node(cls, backend_of(array), params), *arrays, *params)


def apply1(op: Any, a: Any, *params: Any) -> "Tensor":
    """Applies an operation of one input and one output."""
    if intercepts.active:
        return apply(op, (a,), params)  # type: ignore[no-any-return]
    try:
        x = a._data
    except AttributeError:
        raise _no_tensor(op, a) from None
    backend = _backends[x.__class__]
    node = Node(op, backend, params)
    out = op.forward(node, x, *params)
    if out.__class__ is not x.__class__:
        out = out if out.__class__ in _backends else backend.asarray(out)  # a copy to another device is one of its own
    result = wrap(out)
    if a._base is not None:
        sync_view(a)
    target = a._target
    if target is not None and mode.grad:
        saved: tuple[Any, ...] = ()
        cells: tuple[Any, ...] = ()
        if op._saved:
            saved, cells = (x,), (a._cell,)
        if op.saves_output:
            saved, cells = (*saved, out), (*cells, result._cell)
        node.link(_FIRST, (x.shape,), (a if target is LEAF_MARK else target,), saved, cells)
        result._target = node
    if op.view:
        _mark_view(result, a)
    return result


_FIRST = (True,)
_BOTH, _LEFT, _RIGHT = (True, True), (True, False), (False, True)


def apply2(op: Any, a: Any, b: Any, *params: Any) -> "Tensor":
    """Applies an operation of two inputs that are tensors of one dtype, with one output."""
    if intercepts.active:
        return apply(op, (a, b), params)  # type: ignore[no-any-return]
    x, y = a._data, b._data
    if x.__class__ is not y.__class__:
        raise _device_mismatch(op, (a, b))
    backend = _backends[x.__class__]
    node = Node(op, backend, params)
    out = op.forward(node, x, y, *params)
    if out.__class__ is not x.__class__:
        out = backend.asarray(out)
    result = wrap(out)
    if a._base is not None:
        sync_view(a)
    if b._base is not None:
        sync_view(b)
    s, t = a._target, b._target
    if (s is not None or t is not None) and mode.grad:
        needs = _RIGHT if s is None else _LEFT if t is None else _BOTH
        saved, cells = _kept(op, needs, (a, b), result) if op._saved or op.saves_output else _NOTHING
        node.link(needs, (x.shape, y.shape), (a if s is LEAF_MARK else s, b if t is LEAF_MARK else t), saved, cells)
        result._target = node
    return result


_NOTHING: tuple[tuple[Any, ...], tuple[Any, ...]] = ((), ())


def apply_with_number(op: Any, a: Any, number: Any, swapped: bool = False) -> "Tensor":
    """Applies an operation of a tensor and a Python number (the number first if `swapped`), with one output."""
    if intercepts.active:
        return apply(op, (number, a) if swapped else (a, number))  # type: ignore[no-any-return]
    x = a._data
    backend = _backends[x.__class__]
    node = Node(op, backend, ())
    out = op.forward(node, number, x) if swapped else op.forward(node, x, number)
    if out.__class__ is not x.__class__:
        out = backend.asarray(out)
    result = wrap(out)
    if a._base is not None:
        sync_view(a)
    target = a._target
    if target is not None and mode.grad:
        edge = a if target is LEAF_MARK else target
        if swapped:
            saved, cells = _kept(op, _RIGHT, (number, a), result) if op._saved or op.saves_output else _NOTHING
            node.link(_RIGHT, (None, x.shape), (None, edge), saved, cells)
        else:
            saved, cells = _kept(op, _LEFT, (a, number), result) if op._saved or op.saves_output else _NOTHING
            node.link(_LEFT, (x.shape, None), (edge, None), saved, cells)
        result._target = node
    return result


def _kept(
    op: Any, needs: tuple[bool, ...], inputs: tuple[Any, ...], output: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What backward asks for of inputs and outputs, as arrays, and their version cells."""
    saved: list[Any] = []
    cells: list[list[int]] = []
    plan = op._plans.get(needs)
    for index, used in op.plan(needs) if plan is None else plan:
        t = inputs[index]
        if used and isinstance(t, TensorBase):
            saved.append(t._data)
            cells.append(t._cell)
        else:
            saved.append(t if used else None)
    if op.saves_output:
        for t in output if output.__class__ is tuple else (output,):
            saved.append(t._data)
            cells.append(t._cell)
    return tuple(saved), tuple(cells)


def apply(op: Any, inputs: tuple[Any, ...], params: tuple[Any, ...] = ()) -> Any:
    """Applies any operation: inputs are tensors, Python numbers, or None for one that is absent."""
    if intercepts.active and mode.autocast is not None:
        inputs = mode.autocast(op, inputs)
    arrays: list[Any] = []
    shapes: list[Any] = []
    needs: list[bool] = []
    edges: list[Any] = []
    array_type: Any = None
    for t in inputs:
        if not isinstance(t, TensorBase):
            arrays.append(t)
            shapes.append(None)
            needs.append(False)
            edges.append(None)
            continue
        x = t._data
        if x.__class__ is not array_type:
            if array_type is not None:
                raise _device_mismatch(op, inputs)
            array_type = x.__class__
        if t._base is not None:
            sync_view(t)
        target = t._target
        arrays.append(x)
        shapes.append(x.shape)
        needs.append(target is not None)
        edges.append(t if target is LEAF_MARK else target)
    backend = _backends[array_type]
    node = Node(op, backend, params)
    raw = op.forward(node, *arrays, *params)
    result: Any
    if raw.__class__ is tuple:
        result = tuple([wrap(r if r.__class__ is array_type else backend.asarray(r)) for r in raw])
    else:
        result = wrap(raw if raw.__class__ in _backends else backend.asarray(raw))
    if True in needs and mode.grad:
        wanted = tuple(needs)
        saved, cells = _kept(op, wanted, inputs, result)
        node.link(wanted, tuple(shapes), tuple(edges), saved, cells)
        if result.__class__ is not tuple:
            result._target = node
        else:
            _set_targets(op, node, result)
    if op.view:
        for r in result if result.__class__ is tuple else (result,):
            _mark_view(r, inputs[0])
    if intercepts.active:
        for observer in mode.observers:
            observer(op, node, inputs, result)
    return result


def _set_targets(op: Any, node: Node, result: tuple[Any, ...]) -> None:
    for index, r in enumerate(result):
        if index not in op.non_differentiable:
            r._target = OutputOf(node, index, len(result))


def _mark_view(view: TensorBase, source: TensorBase) -> None:
    """Makes `view` share the version of `source` and remember its base.

    Also under `no_grad`, where the view starts without history: it may be written to later, while recording.
    """
    view._cell = source._cell
    if not mode.inference:
        view._base = source if source._base is None else source._base
        if view._cell[1]:
            view._get_extra().seen = view._cell[1]


def _no_tensor(op: Any, value: Any) -> TypeError:
    return TypeError(
        f"{op.name.lower()}: expected a Tensor, got {type(value).__name__}; make one with tensor() or from_numpy()"
    )


def _device_mismatch(op: Any, inputs: tuple[Any, ...]) -> DeviceError:
    places = [str(backend_of(t._data).device_of(t._data)) for t in inputs if isinstance(t, TensorBase)]
    return DeviceError(
        f"{op.name}: expected all tensors on one device, got {' and '.join(dict.fromkeys(places))}; move one with "
        ".to(device)"
    )


def result_dtype(inputs: tuple[Any, ...]) -> Any:
    """torch's result dtype (a NumPy dtype) for tensors and Python numbers met in one operation."""
    tensors = [t._data for t in inputs if isinstance(t, TensorBase)]
    if len(tensors) == 1:
        result = tensors[0].dtype
    else:
        result = promote_dims([(x.dtype, x.ndim > 0) for x in tensors])
    for value in inputs:
        if not isinstance(value, TensorBase):
            result = promote_scalar(result, value)
    return result


def backend_for(inputs: tuple[Any, ...]) -> Backend:
    """The backend of the first tensor among `inputs`."""
    return backend_of(next(t._data for t in inputs if isinstance(t, TensorBase)))


def raw(t: Any) -> Array:
    """The raw array of a tensor; anything else as it is."""
    return t._data if isinstance(t, TensorBase) else t
