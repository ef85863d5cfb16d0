"""Copies and moves: the same values in other memory."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import TensorBase, wrap
from ..autograd._node import Node
from ..autograd._op import Op, apply1
from ..backend import as_dtype, backend_of, device, dtype
from ._common import cast, tensor_of
from ._creation import place
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Clone(Op):
    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return x.copy(order="C") if not x.flags.f_contiguous else x.copy(order="K")

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return g


class Contiguous(Clone):
    name = "Clone"

    @staticmethod
    def forward(ctx: Node, x: Array) -> Array:
        return x.copy(order="C")


class ToDevice(Op):
    """A copy on another device: ``params = (device,)``."""

    name = "ToCopy"

    @staticmethod
    def forward(ctx: Node, x: Array, target: device) -> Array:
        return place(target).from_host(backend_of(x).to_numpy(x), target)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any) -> Any:
        return xp.call(ToDevice, (g,), (ctx.aux,))


@op()
def clone(input: "Tensor", *, memory_format: Any = None) -> "Tensor":
    """A copy, through which gradients flow. `memory_format` is accepted and has no effect."""
    return apply1(Clone, tensor_of(input, "clone"))


@op()
def contiguous(input: "Tensor", memory_format: Any = None) -> "Tensor":
    """The tensor itself if its elements lie in row-major order, else a copy that does."""
    if not isinstance(input, TensorBase):
        input = tensor_of(input, "contiguous")
    return input if input._data.flags.c_contiguous else apply1(Contiguous, input)


@op()
def detach(input: "Tensor") -> "Tensor":
    """A tensor on the same memory, without history."""
    if not isinstance(input, TensorBase):
        input = tensor_of(input, "detach")
    t = wrap(input._data)
    t._cell = input._cell
    return t


def move(t: Any, where: Any, to: Any, copy: bool) -> Any:
    """`t` on the device `where` in the dtype `to` (each None: as it is); a new tensor only if needed or `copy`."""
    result = t
    if to is not None:
        result = cast(result, as_dtype(to).numpy)
    if where is not None:
        target = place(where).resolve(device(where))
        here = backend_of(t._data).device_of(t._data)
        if target != here:
            result = _to_device(result, here, target)
    return clone(t) if copy and result is t else result


def _to_device(t: Any, here: device, target: device) -> Any:
    result = apply1(ToDevice, t, target)
    if result._target is not None:
        result._target.aux = here
    return result


def split_to_arguments(args: tuple[Any, ...], where: Any, to: Any) -> tuple[Any, Any]:
    """The device and dtype meant by the positional arguments of ``.to(...)``: either, both, or another tensor."""
    for a in args:
        if a is None or isinstance(a, bool):
            continue
        if isinstance(a, TensorBase):
            return backend_of(a._data).device_of(a._data), a._data.dtype
        if isinstance(a, (dtype, type)):
            to = a
        elif isinstance(a, (device, int)) or (isinstance(a, str) and a.partition(":")[0] in ("cpu", "cuda")):
            where = a
        else:
            to = a
    return where, to
