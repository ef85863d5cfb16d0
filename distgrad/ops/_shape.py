"""Operations that show the same elements in another shape. Where torch gives a view, so do these."""

import math
from typing import TYPE_CHECKING, Any

from .._typing import Array, Shape
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..backend import OF_NUMPY, as_dtype
from ..errors import DTypeError, ShapeError
from ._common import axes_of, axis_of, tensor_of
from ._common import sizes as shape_of
from ._complex import conj
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Reshape(Op):
    """A reshape that had to copy."""

    @staticmethod
    def forward(ctx: Node, x: Array, shape: Shape) -> Array:
        return x.reshape(shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.reshape(g, ctx.shapes[0])


class View(Reshape):
    """A reshape that shares the memory."""

    view = True


class Squeeze(View):
    """A view without some dimensions of size 1."""


class Unsqueeze(View):
    """A view with a new dimension of size 1."""


class Permute(Op):
    """A view with the dimensions in another order: ``params = (axes,)``."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, axes: tuple[int, ...]) -> Array:
        return x.transpose(axes)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        axes = ctx.params[0]
        return xp.permute_dims(g, tuple(sorted(range(len(axes)), key=axes.__getitem__)))


class Transpose(Permute):
    """A view with two dimensions exchanged."""


class T(Permute):
    """A transposed matrix."""


class Expand(Op):
    """A view that repeats dimensions of size 1 without memory: ``params = (shape,)``."""

    view = True

    @staticmethod
    def forward(ctx: Node, x: Array, shape: Shape) -> Array:
        return ctx.xp.broadcast_to(x, shape)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        (shape,) = ctx.shapes
        lead = len(g.shape) - len(shape)
        axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1)
        return xp.reshape(xp.sum(g, axis=axes, keepdims=True) if axes else g, shape)


def _resolve(shape: Shape, size: int, name: str) -> Shape:
    """`shape` with -1 worked out.

    Raises:
        ShapeError: it cannot hold `size` elements.
    """
    if -1 not in shape and math.prod(shape) == size and min(shape, default=0) >= 0:
        return shape
    if shape.count(-1) > 1:
        raise ShapeError(f"{name}: only one dimension can be inferred, got {list(shape)}; give all sizes but one")
    known = math.prod(n for n in shape if n != -1)
    fits = known > 0 and size % known == 0 and -1 in shape
    if not fits or any(n < -1 for n in shape):
        raise ShapeError(
            f"{name}: shape {list(shape)} is invalid for input of size {size}: the sizes must multiply to {size}, "
            "and one of them may be -1"
        )
    return tuple(size // known if n == -1 else n for n in shape)


def _shares(x: Array, shape: Shape) -> bool:
    """Whether `x` can be seen as `shape` without a copy: no new dimension may span two stretches of evenly spaced
    elements."""
    if x.flags.c_contiguous or x.size == 0:
        return True
    stretches: list[int] = []  # their sizes, the innermost first
    spacing = None
    for n, stride in zip(reversed(x.shape), reversed(x.strides), strict=True):
        if n == 1:
            continue
        if stride == spacing:
            stretches[-1] *= n
        else:
            stretches.append(n)
        spacing = n * stride
    new = [n for n in shape if n != 1]
    for stretch in stretches:
        filled = 1
        while filled < stretch:
            filled *= new.pop()
        if filled != stretch:
            return False
    return True


@op()
def reshape(input: "Tensor", *sizes: Any, shape: Any = None) -> "Tensor":
    """The same elements in another shape: a view where possible, else a copy. One size may be -1.

    Raises:
        ShapeError: the sizes do not multiply to the number of elements.
    """
    x = tensor_of(input, "reshape")._data
    wanted = _resolve(shape_of(sizes if shape is None else (shape,)), x.size, "reshape")
    return apply1(View if _shares(x, wanted) else Reshape, input, wanted)


@op()
def view(input: "Tensor", *shape: Any) -> "Tensor":
    """A view of the same elements in another shape (one size may be -1), or of the same bytes in another dtype.

    A tensor whose memory an operation laid out in another order than row-major is copied, where torch would have had
    it in
    row-major order and seen it in place.

    Raises:
        ShapeError: the sizes do not multiply to the number of elements, or a transposed or sliced tensor cannot be
        seen so.
    """
    x = input._data
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple, list)):
        return _view_dtype(input, shape[0])  # type: ignore[no-any-return]
    wanted = _resolve(shape_of(shape), x.size, "view")
    if _shares(x, wanted):
        return apply1(View, input, wanted)
    if input._base is not None and input._base._data.flags.c_contiguous:
        raise ShapeError(
            f"view: the shape {list(wanted)} is not compatible with this tensor of shape "
            f"{list(x.shape)}, whose elements are not "
            "evenly spaced (it was transposed or sliced); use .reshape(...) instead, which copies"
        )
    return apply1(Reshape, input, wanted)


class ViewAsDtype(Op):
    """The same bytes in another dtype: ``params = (dtype,)``."""

    view = True
    non_differentiable = (0,)

    @staticmethod
    def forward(ctx: Node, x: Array, dtype: Any) -> Array:
        return x.view(dtype)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return None


def _view_dtype(t: Any, dtype: Any) -> Any:
    """The bytes of `t` as another dtype; the last dimension changes with the size of an element."""
    wanted = as_dtype(dtype).numpy
    try:
        return apply1(ViewAsDtype, t.detach() if t.requires_grad else t, wanted)
    except ValueError:
        have = OF_NUMPY[t._data.dtype]
        raise DTypeError(
            f"view: the last dimension of shape {list(t.shape)} in {have} cannot be divided into {as_dtype(dtype)}"
        ) from None


@op()
def view_as(input: "Tensor", other: "Tensor") -> "Tensor":
    """A view in the shape of `other`."""
    return view(input, *other._data.shape)


@op()
def reshape_as(input: "Tensor", other: "Tensor") -> "Tensor":
    """The same elements in the shape of `other`."""
    return reshape(input, *other._data.shape)


@op()
def flatten(input: "Tensor", start_dim: int = 0, end_dim: int = -1) -> "Tensor":
    """The dimensions from `start_dim` to `end_dim` merged into one; a 0-d tensor becomes one of 1 element.

    Raises:
        ShapeError: `start_dim` comes after `end_dim`.
    """
    shape = tensor_of(input, "flatten")._data.shape
    start, end = axis_of(start_dim, len(shape), "flatten"), axis_of(end_dim, len(shape), "flatten")
    if start > end:
        raise ShapeError(f"flatten: expected start_dim <= end_dim, got {start_dim} and {end_dim}")
    if start == end and shape:
        return input
    return reshape(input, *shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


@op()
def ravel(input: "Tensor") -> "Tensor":
    """All elements in one dimension."""
    return flatten(input)


@op()
def unflatten(input: "Tensor", dim: int, sizes: Any) -> "Tensor":
    """One dimension divided into several, whose sizes multiply to its own; one of them may be -1."""
    shape = tensor_of(input, "unflatten")._data.shape
    axis = axis_of(dim, len(shape), "unflatten")
    parts = _resolve(tuple(int(n) for n in sizes), shape[axis], "unflatten")
    return view(input, *shape[:axis], *parts, *shape[axis + 1 :])


@op()
def permute(input: "Tensor", *axes: Any, dims: Any = None) -> "Tensor":
    """A view with the dimensions in the order `dims`."""
    ndim = tensor_of(input, "permute")._data.ndim
    given = shape_of(axes if dims is None else (dims,))
    order = tuple([axis_of(d, ndim, "permute") for d in given])
    if len(order) != ndim or len(set(order)) != ndim:
        raise ShapeError(f"permute: expected each of the {ndim} dimensions once, got {list(given)}")
    return apply1(Permute, input, order)


@op(inplace=True)
def transpose(input: "Tensor", dim0: int, dim1: int) -> "Tensor":
    """A view with two dimensions exchanged."""
    ndim = tensor_of(input, "transpose")._data.ndim
    a, b = axis_of(dim0, ndim, "transpose"), axis_of(dim1, ndim, "transpose")
    axes = list(range(ndim))
    if ndim:
        axes[a], axes[b] = axes[b], axes[a]
    return apply1(Transpose, input, tuple(axes))


@op(inplace=True)
def t(input: "Tensor") -> "Tensor":
    """A matrix transposed; a vector or a scalar as it is.

    Raises:
        ShapeError: there are more than 2 dimensions.
    """
    ndim = tensor_of(input, "t")._data.ndim
    if ndim > 2:
        raise ShapeError(f"t: expected a tensor of at most 2 dimensions, got {ndim}; use .mT or permute()")
    return apply1(T, input, tuple(range(ndim))[::-1])


def reversed_axes(input: "Tensor") -> "Tensor":
    """A view with the dimensions in reverse order."""
    return apply1(Permute, input, tuple(range(input._data.ndim))[::-1])


@op(method=False)
def mT(input: "Tensor") -> "Tensor":
    """A view with the last two dimensions exchanged: each matrix of a stack transposed."""
    input = tensor_of(input, "mT")
    if input._data.ndim < 2:
        raise ShapeError(f"mT: expected at least 2 dimensions, got {input._data.ndim}")
    return transpose(input, -2, -1)


@op()
def adjoint(input: "Tensor") -> "Tensor":
    """Each matrix of a stack transposed and conjugated."""
    return conj(mT(input))


@op()
def movedim(input: "Tensor", source: Any, destination: Any) -> "Tensor":
    """A view with the dimensions `source` moved to the places `destination`; the others keep their order."""
    ndim = tensor_of(input, "movedim")._data.ndim
    moved = (source,) if isinstance(source, int) else tuple(source)
    places = (destination,) if isinstance(destination, int) else tuple(destination)
    if len(moved) != len(places):
        raise ShapeError(f"movedim: expected as many destinations as sources, got {list(moved)} and {list(places)}")
    origin = [axis_of(d, ndim, "movedim") for d in moved]
    goal = [axis_of(d, ndim, "movedim") for d in places]
    if len(set(origin)) != len(origin) or len(set(goal)) != len(goal):
        raise ShapeError(f"movedim: a dimension appears twice in {list(moved)} or {list(places)}")
    order = [d for d in range(ndim) if d not in origin]
    for place, d in sorted(zip(goal, origin, strict=True)):
        order.insert(place, d)
    return apply1(Permute, input, tuple(order))


@op()
def expand(input: "Tensor", *sizes: Any, size: Any = None) -> "Tensor":
    """A view in which dimensions of size 1 are repeated to the given sizes without memory; -1 keeps a size.

    Raises:
        ShapeError: a size other than 1 would change.
    """
    x = tensor_of(input, "expand")._data
    wanted = shape_of(sizes if size is None else (size,))
    lead = len(wanted) - x.ndim
    if lead < 0:
        raise ShapeError(f"expand: expected at least {x.ndim} sizes, got {list(wanted)}")
    full = tuple([x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted)])
    if any(n < 0 for n in full) or any(have not in (1, n) for have, n in zip(x.shape, full[lead:], strict=True)):
        raise ShapeError(
            f"expand: the sizes {list(wanted)} do not fit the shape {list(x.shape)}: only a dimension "
            "of size 1 can be expanded"
        )
    return apply1(Expand, input, full)


@op()
def expand_as(input: "Tensor", other: "Tensor") -> "Tensor":
    """`input` expanded to the shape of `other`."""
    return expand(input, *other._data.shape)


@op()
def broadcast_to(input: "Tensor", size: Any) -> "Tensor":
    """`input` expanded to a shape."""
    return expand(input, *size)


@op(method=False)
def broadcast_tensors(*tensors: Any) -> tuple["Tensor", ...]:
    """All tensors expanded to the shape in which they meet."""
    given = tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    given = tuple(tensor_of(t, "broadcast_tensors") for t in given)
    shape = broadcast_shapes(*(t._data.shape for t in given))
    return tuple(t if t._data.shape == shape else expand(t, *shape) for t in given)


def broadcast_shapes(*shapes: Any) -> Shape:
    """The shape in which tensors of these shapes meet.

    Raises:
        ShapeError: they cannot be broadcast together.
    """
    full = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    result = [1] * max((len(s) for s in full), default=0)
    for shape in full:
        for i, n in enumerate(reversed(shape), 1):
            if n not in (1, result[-i]):
                if result[-i] != 1:
                    raise ShapeError(
                        f"broadcast_shapes: the shapes {', '.join(str(list(s)) for s in full)} cannot "
                        "be broadcast together"
                    )
                result[-i] = n
    return tuple(result)


@op(inplace=True)
def squeeze(input: "Tensor", dim: Any = None) -> "Tensor":
    """A view without the dimensions of size 1 (of those in `dim`, if given)."""
    x = tensor_of(input, "squeeze")._data
    if dim is None:
        return apply1(Squeeze, input, tuple([n for n in x.shape if n != 1]))
    axes = (
        (axis_of(dim, x.ndim, "squeeze"),)
        if isinstance(dim, int)
        else axes_of(dim, x.ndim, "squeeze")
        if len(dim)
        else ()
    )
    return apply1(Squeeze, input, tuple([n for i, n in enumerate(x.shape) if n != 1 or i not in axes]))


@op(inplace=True)
def unsqueeze(input: "Tensor", dim: int) -> "Tensor":
    """A view with a new dimension of size 1 at `dim`."""
    x = tensor_of(input, "unsqueeze")._data
    axis = axis_of(dim, x.ndim + 1, "unsqueeze")
    return apply1(Unsqueeze, input, (*x.shape[:axis], 1, *x.shape[axis:]))


def _at_least(name: str, tensors: tuple[Any, ...], shaped: Any) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        return tuple(shaped(tensor_of(t, name)) for t in tensors[0])
    results = tuple(shaped(tensor_of(t, name)) for t in tensors)
    return results[0] if len(results) == 1 else results


@op(method=False)
def atleast_1d(*tensors: Any) -> Any:
    """Each tensor with at least one dimension."""
    return _at_least("atleast_1d", tensors, lambda t: t if t._data.ndim else unsqueeze(t, 0))


@op(method=False)
def atleast_2d(*tensors: Any) -> Any:
    """Each tensor with at least two dimensions, new ones in front."""

    def shaped(t: Any) -> Any:
        return t if t._data.ndim >= 2 else reshape(t, (1, -1))

    return _at_least("atleast_2d", tensors, shaped)


@op(method=False)
def atleast_3d(*tensors: Any) -> Any:
    """Each tensor with at least three dimensions: (n,) becomes (1, n, 1), (n, m) becomes (n, m, 1)."""

    def shaped(t: Any) -> Any:
        shapes = {0: (1, 1, 1), 1: (1, -1, 1), 2: (*t._data.shape, 1)}
        return t if t._data.ndim >= 3 else reshape(t, shapes[t._data.ndim])

    return _at_least("atleast_3d", tensors, shaped)
