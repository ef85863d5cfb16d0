"""Adam and AdamW by oneDNN: three passes over the arrays instead of eleven, in half of the NumPy kernels' time.

Each pass is one binary operation with a chain of others behind it. All sizes go this way, down to one element: an
element's bits must not depend on how many others are updated with it, for optimizers work on slices of the arena.
"""

from collections.abc import Sequence
from ctypes import c_int

import numpy as np

from ..._typing import Array
from .._kernels import OptimKernels
from ._chain import ADD, LINEAR, MULTIPLY, OTHER, Chain
from ._core import DST, SRC, Core, Family, Primitive, Thread, address_of, memory_without_place
from ._dense import FLOAT32

_SQRT, _POWER = 0x25, 0x30
BLOCK = 1 << 16  # elements of each of four arrays, which together fill a second-level cache of 1 MiB


class _Adam:
    """The passes over `size` elements; their arrays are told once a call, for all three."""

    def __init__(self, local: Thread, size: int, beta1: float, beta2: float, eps: float) -> None:
        self._local = local
        library = local.library
        many, one = library.layout((size,), (1,)), library.layout((1,), (1,))
        self._memories = p, g, m, v = tuple([memory_without_place(local, many) for _ in range(4)])
        self.numbers = np.empty(3, dtype=FLOAT32)  # the correction, factor and shrink of a step
        correction, factor, shrink = [(one, self.numbers[i : i + 1]) for i in range(3)]
        blend1, blend2 = (one, _number(1 - beta1)), (one, _number(1 - beta2))

        # m = g (1 - beta1) + beta1 m
        chain = Chain(library).add_to_result(beta1)
        about = library.describe("binary", c_int(MULTIPLY), many, one, many, attributes=chain.attributes())
        average = Primitive(local, about, {}, {OTHER: blend1}, {SRC: g, DST: m})
        # v = g g (1 - beta2) + beta2 v
        chain = Chain(library).binary(MULTIPLY, one).add_to_result(beta2)
        about = library.describe("binary", c_int(MULTIPLY), many, many, many, attributes=chain.attributes())
        square = Primitive(local, about, {}, {chain.arguments[0]: blend2}, {SRC: g, OTHER: g, DST: v})
        # p = (p + m factor / (sqrt(v correction) + eps)) shrink
        chain = Chain(library).function(_SQRT, 0, 0).function(LINEAR, 1, eps).function(_POWER, 1, -1)
        chain.binary(MULTIPLY, many).binary(MULTIPLY, one).binary(ADD, many).binary(MULTIPLY, one)
        about = library.describe("binary", c_int(MULTIPLY), many, one, many, attributes=chain.attributes())
        third, fourth, fifth, sixth = chain.arguments
        own = {OTHER: correction, fourth: factor, sixth: shrink}
        descend = Primitive(local, about, {}, own, {SRC: v, third: m, fifth: p, DST: p})
        self._passes = average, square, descend

    def __call__(self, addresses: Sequence[int]) -> None:
        """Update the parameters of which, with gradient, average and average of squares, the addresses are given."""
        set_handle = self._local.library.set_handle
        for memory, address in zip(self._memories, addresses, strict=True):
            set_handle(memory.value, address)
        for one_pass in self._passes:
            one_pass()


def _number(value: float) -> Array:
    return np.array([value], dtype=FLOAT32)


class OneDnnOptim(Family[OptimKernels]):
    """`OptimKernels` that use oneDNN where it is faster."""

    def __init__(self, core: Core, numpy: OptimKernels) -> None:
        super().__init__(core, numpy)
        self.sgd, self.nadam, self.radam, self.adamax = numpy.sgd, numpy.nadam, numpy.radam, numpy.adamax
        self.rmsprop, self.adagrad, self.adadelta = numpy.rmsprop, numpy.adagrad, numpy.adadelta
        self.rprop, self.asgd = numpy.rprop, numpy.asgd

    def adam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, max_exp_avg_sq: Array | None, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool, maximize: bool, step: float,
    ) -> None:  # fmt: skip
        """Adam and AdamW; `step` counts from 1."""
        arrays = param, grad, exp_avg, exp_avg_sq
        shrink = 1 - lr * weight_decay if decoupled else 1.0
        fits = max_exp_avg_sq is None and not maximize and (decoupled or weight_decay == 0) and shrink != 0
        if not fits or not _are_plain(arrays) or not self._adam(arrays, lr, beta1, beta2, eps, shrink, step):
            self._numpy.adam(
                param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, lr, beta1, beta2, eps, weight_decay, decoupled,
                maximize, step,
            )  # fmt: skip

    def _adam(
        self, arrays: tuple[Array, ...], lr: float, beta1: float, beta2: float, eps: float, shrink: float, step: float
    ) -> bool:
        """Whether oneDNN did it."""
        correction, factor = 1 / (1 - beta2**step), -lr / (1 - beta1**step) / shrink
        numbers = correction, factor, shrink
        size, places = arrays[0].size, [address_of(a) or 0 for a in arrays]
        starts = range(0, size, BLOCK)
        plans = [self._core.plan(_Adam, min(BLOCK, size - start), beta1, beta2, eps) for start in starts]
        if None in plans:  # before anything is written
            return False
        for start, plan in zip(starts, plans, strict=True):
            assert plan is not None
            plan.numbers[:] = numbers
            plan([place + 4 * start for place in places] if start else places)
        return True


def _are_plain(arrays: tuple[Array, ...]) -> bool:
    return all(a.dtype == FLOAT32 and a.flags.c_contiguous for a in arrays)
