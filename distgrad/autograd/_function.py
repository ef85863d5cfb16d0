"""`autograd.Function`: operations of the user's own, under torch's contract."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

from ..backend import CPU, backend_of
from ..errors import AutogradError
from ._base import TensorBase, target_of, wrap
from ._inplace import check_writable, wrote
from ._mode import intercepts, mode, no_grad
from ._node import Node, OutputOf


class FunctionCtx(Node):
    """The context of one call of a `Function`: what forward leaves for backward. Attributes may be set freely."""

    def __init__(self, op: Any, backend: Any) -> None:
        super().__init__(op, backend, ())
        self.outputs = 1
        self.saved_list: tuple[Any, ...] = ()
        self.dirty: tuple[Any, ...] = ()
        self.constant: tuple[Any, ...] = ()
        self.materialize = True
        self.likes: list[Any] = []
        self.saved_outputs: dict[int, int] = {}  # position among the saved -> number among the outputs

    def name(self) -> str:
        """The class's name with ``Backward``, as torch names it."""
        return f"{self.op.__name__}Backward"

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """For each argument of `apply`, whether its gradient is wanted."""
        return self.needs

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps tensors (or None) for backward; a later in-place change of one is noticed."""
        for t in tensors:
            if t is not None and not isinstance(t, TensorBase):
                raise AutogradError(
                    f"save_for_backward: expected Tensors or None, got {type(t).__name__}; keep other values as "
                    "attributes of ctx"
                )
        self.saved_list = tensors

    save_for_forward = save_for_backward

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` was given.

        Raises:
            AutogradError: the graph was freed.
        """
        if self.saved is None:
            raise AutogradError(
                f"{self.name()}: the saved tensors were freed; pass retain_graph=True to the first backward()"
            )
        if not self.saved_outputs:
            return self.saved_list
        # A saved output is kept without its history, which would be a cycle, and gets it back here.
        tensors = list(self.saved_list)
        for position, index in self.saved_outputs.items():
            tensors[position] = _alias(tensors[position])
            tensors[position]._target = self if self.outputs == 1 else OutputOf(self, index, self.outputs)
        return tuple(tensors)

    def forget(self, region: Any) -> None:
        super().forget(region)
        self.saved_list = ()

    def remember(self, other: Any) -> None:
        super().remember(other)
        self.saved_list, self.saved_outputs = other.saved_list, other.saved_outputs

    def saved_forms(self) -> list[Any]:
        return [(t._data.shape, t._data.dtype) for t in self.saved_list if t is not None]

    def mark_dirty(self, *tensors: Any) -> None:
        """Says which inputs forward changed in place."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Says which outputs have no gradient."""
        self.constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward receives zeros (default) or None for an output that took no part."""
        self.materialize = value


def _missing_forward(*args: Any) -> Any:
    raise NotImplementedError("Function.forward: expected a static method forward(ctx, ...) in the subclass")


def _missing_backward(*args: Any) -> Any:
    raise NotImplementedError("Function.backward: expected a static method backward(ctx, ...) in the subclass")


class Function:
    """An operation whose forward and backward the user writes, both on Tensors.

    Example:
        >>> class Square(Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x
        ...     @staticmethod
        ...     def backward(ctx, grad_output):
        ...         (x,) = ctx.saved_tensors
        ...         return 2 * x * grad_output
        >>> y = Square.apply(x)
    """

    is_checked: ClassVar[Any] = None  # the class whose methods were found to be static

    forward: ClassVar[Callable[..., Any]] = staticmethod(_missing_forward)
    backward: ClassVar[Callable[..., Any]] = staticmethod(_missing_backward)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """In a subclass: what forward would do with ctx; forward then takes no ctx."""
        raise AutogradError("Function.setup_context was called but not overridden")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs forward and records it."""
        if cls.is_checked is not cls:
            _check_static(cls)
        tensors = [a for a in args if isinstance(a, TensorBase)]
        ctx = FunctionCtx(cls, backend_of(tensors[0]._data) if tensors else CPU)
        edges = tuple(target_of(a) if isinstance(a, TensorBase) else None for a in args)
        recording = mode.grad and any(e is not None for e in edges)
        ctx.needs = tuple(e is not None for e in edges)
        with no_grad():
            if cls.setup_context is Function.setup_context:
                output = cls.forward(ctx, *args)
            else:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
        result = _finish(ctx, args, output, edges) if recording else output
        if intercepts.active:
            for observer in mode.observers:
                observer(cls, ctx, args, result)
        return result

    @classmethod
    def call(cls, ctx: FunctionCtx, grads: list[Any]) -> tuple[Any, ...]:
        """The engine's side: output gradients to the gradients of all arguments."""
        if ctx.materialize:
            grads = [
                like.zeros() if g is None and like is not None else g for g, like in zip(grads, ctx.likes, strict=True)
            ]
        returned = cls.backward(ctx, *grads)
        result = returned if isinstance(returned, tuple) else (returned,)
        wanted = len(ctx.edges)
        if len(result) > wanted and all(r is None for r in result[wanted:]):
            result = result[:wanted]
        if len(result) != wanted:
            raise AutogradError(
                f"{cls.__name__}.backward: expected {wanted} gradients (one for each argument of forward), got "
                f"{len(result)}"
            )
        for r, shape in zip(result, ctx.shapes, strict=True):
            if r is not None and not isinstance(r, TensorBase):
                raise AutogradError(f"{cls.__name__}.backward: expected Tensors or None, got {type(r).__name__}")
            if r is not None and shape is not None and not _fits(shape, r._data.shape):
                raise AutogradError(
                    f"{cls.__name__}.backward: expected a gradient of shape {list(shape)}, got {list(r._data.shape)}"
                )
        return result

    @staticmethod
    def forget(ctx: FunctionCtx) -> None:
        """The engine's side: gives up what was saved."""
        ctx.saved_list = ()


def _check_static(cls: Any) -> None:
    for name in ("forward", "backward", "setup_context"):
        owner = next((c for c in cls.__mro__ if name in c.__dict__), None)
        if owner is not None and not isinstance(owner.__dict__[name], staticmethod):
            raise AutogradError(f"{cls.__name__}.{name}: expected a static method; write @staticmethod above it")
    cls.is_checked = cls


def _fits(shape: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    """Whether a gradient of shape `wide` can be summed to `shape`, from which it was broadcast."""
    lead = len(wide) - len(shape)
    return lead >= 0 and all(n in (1, m) for n, m in zip(shape, wide[lead:], strict=True))


class _Like:
    """Shape and dtype of an output, for the zeros that stand for its gradient."""

    __slots__ = ("backend", "dtype", "shape")

    def __init__(self, t: TensorBase) -> None:
        self.backend, self.shape, self.dtype = backend_of(t._data), t._data.shape, t._data.dtype

    def zeros(self) -> Any:
        return wrap(self.backend.xp.zeros(self.shape, self.dtype))


def _finish(ctx: FunctionCtx, args: tuple[Any, ...], output: Any, edges: tuple[Any, ...]) -> Any:
    outputs = output if isinstance(output, tuple) else (output,)
    ctx.shapes = tuple(a._data.shape if isinstance(a, TensorBase) else None for a in args)
    ctx.outputs = len(outputs)
    cells = tuple(t._cell for t in ctx.saved_list if t is not None)
    ctx.link(ctx.needs, ctx.shapes, edges, (), cells)  # before the nodes that `wrote` makes, which are to be younger
    results = []
    for index, o in enumerate(outputs):
        if not isinstance(o, TensorBase):
            results.append(o)
            ctx.likes.append(None)
            continue
        constant = any(o is c for c in ctx.constant) or o._data.dtype.kind in "biu"
        target = None if constant else ctx if len(outputs) == 1 else OutputOf(ctx, index, len(outputs))
        if any(o is d for d in ctx.dirty):
            check_writable(o)
            wrote(o, target)
        else:
            if o._base is not None or any(o is a for a in args):
                o = _alias(
                    o
                )  # the output is no view to autograd: this function's backward says where its gradient flows
            o._target = target
        ctx.likes.append(_Like(o))
        results.append(o)
    ctx.versions = sum(cell[0] for cell in cells)  # after forward's own writes
    _detach_saved_outputs(ctx, outputs)
    return tuple(results) if isinstance(output, tuple) else results[0]


def _alias(t: TensorBase) -> Any:
    copy = wrap(t._data)
    copy._cell = t._cell
    return copy


def _detach_saved_outputs(ctx: FunctionCtx, outputs: tuple[Any, ...]) -> None:
    saved = list(ctx.saved_list)
    for position, t in enumerate(saved):
        for index, output in enumerate(outputs):
            if t is not None and t is output:
                saved[position] = _alias(t)
                ctx.saved_outputs[position] = index
    ctx.saved_list = tuple(saved)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a `Function.backward` that does not support second derivatives: under create_graph its results raise
    when used."""

    @functools.wraps(backward)
    def wrapped(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            results = backward(ctx, *grads)
        if not mode.grad or not any(isinstance(g, TensorBase) and g._target is not None for g in grads):
            return results
        return tuple(
            _Once.apply(r, *[g for g in grads if g is not None]) if isinstance(r, TensorBase) else r
            for r in _as_tuple(results)
        )

    return wrapped


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


class _Once(Function):
    """Passes its first argument on and raises in backward."""

    @staticmethod
    def forward(ctx: FunctionCtx, result: Any, *grads: Any) -> Any:
        return _alias(result)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any) -> Any:
        raise AutogradError("trying to differentiate twice a function that was marked with @once_differentiable")
