"""Kernels by oneDNN, where it is installed, float32, and faster than NumPy; all else goes to the NumPy kernels.

oneDNN is Intel's library of neural network primitives, in the wheel `onednn-cpu-gomp` (the extra `onednn`).
"""

import warnings

from ..._environment import onednn as _setting
from .._kernels import Kernels
from .._numpy._attention import BlockAttention, NumpySteps
from ._activation import OneDnnActivation
from ._attention import OneDnnSteps
from ._conv import OneDnnConv
from ._core import Core as Core
from ._library import OFF, Library, OneDnnError, find, load
from ._norm import OneDnnNorm
from ._optim import OneDnnOptim
from ._pool import OneDnnPool
from ._products import OneDnnProducts
from ._rnn import OneDnnRnn
from ._softmax import OneDnnSoftmax


def load_or_warn(setting: str) -> Library | None:
    """The library that `DISTGRAD_ONEDNN` asks for, or None, with a warning where there is one that cannot be used."""
    path = find(setting)
    if path is None:
        return None
    try:
        return load(path)
    except OneDnnError as error:
        warnings.warn(f"oneDNN cannot be used, so NumPy computes: {error}", RuntimeWarning, stacklevel=2)
        return None


def onednn_state() -> tuple[str | None, str | None]:
    """The version that this process uses, or None, and then why not."""
    path = find(_setting)
    if path is None:
        return None, "off (DISTGRAD_ONEDNN=0)" if _setting == OFF else "not installed"
    try:
        return load(path).version, None
    except OneDnnError as error:
        return None, f"cannot be used: {error}"


class OneDnnKernels:
    """All families, each by oneDNN where that is faster.

    Args:
        numpy: the kernels that compute the rest.
        core: the library.
    """

    def __init__(self, numpy: Kernels, core: Core) -> None:
        self.activation = OneDnnActivation(core, numpy.activation)
        self.attention = BlockAttention(OneDnnSteps(core, NumpySteps()))
        self.conv = OneDnnConv(core, numpy.conv)
        self.loss = numpy.loss
        self.norm = OneDnnNorm(core, numpy.norm)
        self.pool = OneDnnPool(core, numpy.pool)
        self.products = OneDnnProducts(core, numpy.products)
        self.rnn = OneDnnRnn(core, numpy.rnn)
        self.softmax = OneDnnSoftmax(core, numpy.softmax)
        self.special = numpy.special
        self.ufuncs = numpy.ufuncs
        self.optim = OneDnnOptim(core, numpy.optim)


def choose(numpy: Kernels) -> Kernels:
    """The kernels of this process, as `DISTGRAD_ONEDNN` says; whether there is a library shows at its first use."""
    return numpy if _setting == OFF else OneDnnKernels(numpy, CORE)


CORE = Core(lambda: load_or_warn(_setting))
