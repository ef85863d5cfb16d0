"""The optimizers' updates on CuPy arrays: SGD and Adam in one launch each, the rest by array operations."""

from typing import Any

import numpy as np

from ..._typing import Array
from .._array_optim import ArrayOptim, Run
from ._sources import OPTIM

_THREADS = 256  # of a block
_BLOCKS = 4096  # at most: enough to fill any GPU, each thread then takes several elements


class CupyOptim(ArrayOptim):
    """`OptimKernels`; what no CUDA kernel covers (other dtypes, memory with gaps) goes by array operations.

    Args:
        cupy: the module.
        run: see `ArrayOptim`.
    """

    def __init__(self, cupy: Any, run: Run) -> None:
        super().__init__(cupy, run)
        self._cp = cupy
        self._modules: dict[str, Any] = {}

    def sgd(
        self, param: Array, grad: Array, momentum_buffer: Array | None, lr: float, momentum: float, dampening: float,
        weight_decay: float, nesterov: bool, maximize: bool, first: bool,
    ) -> None:  # fmt: skip
        """See `OptimKernels.sgd`."""
        arrays = (param, grad, momentum_buffer)
        if not _plain(arrays):
            super().sgd(*arrays, lr, momentum, dampening, weight_decay, nesterov, maximize, first)
            return
        numbers = (lr, momentum, 1 - dampening, weight_decay)
        self._launch("sgd", arrays, numbers, (nesterov, maximize, first))

    def adam(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, max_exp_avg_sq: Array | None, lr: float,
        beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool, maximize: bool, step: float,
    ) -> None:  # fmt: skip
        """See `OptimKernels.adam`."""
        arrays = (param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq)
        if not _plain(arrays):
            super().adam(*arrays, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step)
            return
        root = (1 - beta2**step) ** 0.5
        scale = lr / (1 - beta1**step) * root
        decay, shrink = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
        numbers = (scale, beta1, 1 - beta1, beta2, 1 - beta2, eps * root, decay, shrink)
        self._launch("adam", arrays, numbers, (maximize,))

    def _launch(
        self, name: str, arrays: tuple[Array | None, ...], numbers: tuple[float, ...], flags: tuple[bool, ...]
    ) -> None:
        """Runs ``name(arrays, size, numbers, flags)``; a missing array is a null pointer."""
        param = arrays[0]
        assert param is not None
        if not param.size:
            return
        dtype = param.dtype.name
        if dtype not in self._modules:
            self._modules[dtype] = self._cp.RawModule(code=OPTIM[dtype], options=("-std=c++17",))
        number = np.float64 if dtype == "float64" else np.float32
        blocks = min(-(-param.size // _THREADS), _BLOCKS)
        self._modules[dtype].get_function(name)(
            (blocks,),
            (_THREADS,),
            (*arrays, np.int64(param.size), *map(number, numbers), *map(np.int32, flags)),
        )


def _plain(arrays: tuple[Array | None, ...]) -> bool:
    """Whether the arrays are of one dtype that there is a source for, without gaps."""
    given = [a for a in arrays if a is not None]
    dtype = given[0].dtype
    return dtype.name in OPTIM and all(a.dtype == dtype and a.flags.c_contiguous for a in given)
