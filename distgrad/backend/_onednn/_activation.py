"""Activation functions by oneDNN, in 0.15 to 0.6 of the NumPy kernels' time."""

from ctypes import c_float

from ..._typing import Array
from .._kernels import ActivationKernels
from ._core import DIFF, DST, FORWARD, SRC, Core, Family, Primitive, Thread
from ._dense import has_nan, same_memory
from ._library import Handle

_GELU_TANH, _SWISH, _GELU_ERF, _RELU_BY_RESULT = 0x2B, 0x2C, 0x31, 0x100
SMALL = 256  # elements, below which NumPy is as fast
SMALL_RELU = 1 << 14


def _describe(local: Thread, algorithm: int, layout: Handle) -> Handle:
    options = c_float(1), c_float(0)  # the first is swish's slope and of no meaning to GELU
    return local.library.describe("eltwise_forward", FORWARD, algorithm, layout, layout, *options)


class _Forward:
    """y from x, of `size` elements."""

    def __init__(self, local: Thread, algorithm: int, size: int) -> None:
        layout = local.library.layout((size,), (1,))
        self.run = Primitive(local, _describe(local, algorithm, layout), {SRC: layout, DST: layout})


class _Backward:
    """x's gradient from y's and from x, or from y if `by_result`."""

    def __init__(self, local: Thread, algorithm: int, size: int, by_result: bool) -> None:
        library = local.library
        layout = library.layout((size,), (1,))
        alpha = c_float(0 if by_result else 1)
        hint = _describe(local, algorithm, layout) if not by_result else _describe_relu(local, layout)
        about = library.describe("eltwise_backward", algorithm, layout, layout, layout, alpha, c_float(0), hint)
        args = {DIFF + DST: layout, DST if by_result else SRC: layout, DIFF + SRC: layout}
        self.run = Primitive(local, about, args)


def _describe_relu(local: Thread, layout: Handle) -> Handle:
    return local.library.describe(
        "eltwise_forward", FORWARD, _RELU_BY_RESULT, layout, layout, c_float(0), c_float(0)
    )


class OneDnnActivation(Family[ActivationKernels]):
    """`ActivationKernels` that use oneDNN where it is faster."""

    def __init__(self, core: Core, numpy: ActivationKernels) -> None:
        super().__init__(core, numpy)
        self.relu = numpy.relu

    def _forward(self, algorithm: int, x: Array) -> Array | None:
        arrays = same_memory(x) if x.size >= SMALL else None
        plan = None if arrays is None else self._core.plan(_Forward, algorithm, x.size)
        if plan is None or arrays is None:
            return None
        plan.run(x, arrays[0])
        return arrays[0]

    def _backward(self, algorithm: int, g: Array, x: Array, by_result: bool = False) -> Array | None:
        if x.size < (SMALL_RELU if by_result else SMALL) or g.dtype != x.dtype:
            return None
        arrays = same_memory(x, g)
        plan = None if arrays is None else self._core.plan(_Backward, algorithm, x.size, by_result)
        if plan is None or arrays is None:
            return None
        out, g = arrays
        plan.run(g, x, out)
        return out

    def gelu(self, x: Array, by_tanh: bool) -> Array:
        """``x / 2 * (1 + erf(x / sqrt(2)))``, or its tanh form."""
        y = self._forward(_GELU_TANH if by_tanh else _GELU_ERF, x)
        if y is None or (not by_tanh and has_nan(y)):  # oneDNN makes nan of inf, too
            return self._numpy.gelu(x, by_tanh)
        return y

    def gelu_backward(self, g: Array, x: Array, y: Array, by_tanh: bool) -> Array:
        """The gradient of x, with y the result of `gelu`."""
        gx = self._backward(_GELU_TANH if by_tanh else _GELU_ERF, g, x)
        return self._numpy.gelu_backward(g, x, y, by_tanh) if gx is None else gx

    def silu(self, x: Array) -> Array:
        """``x * sigmoid(x)``."""
        y = self._forward(_SWISH, x)
        return self._numpy.silu(x) if y is None else y

    def silu_backward(self, g: Array, x: Array) -> Array:
        """The gradient of x."""
        gx = self._backward(_SWISH, g, x)
        return self._numpy.silu_backward(g, x) if gx is None else gx

    def relu_backward(self, g: Array, y: Array) -> Array:
        """The gradient of x from the result; NumPy computes the result, because oneDNN makes 0 of nan."""
        gx = self._backward(_RELU_BY_RESULT, g, y, by_result=True)
        return self._numpy.relu_backward(g, y) if gx is None else gx
