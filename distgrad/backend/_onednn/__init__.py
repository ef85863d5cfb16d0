"""Kernels by oneDNN, where it is installed, float32, and faster than NumPy; all else goes to the NumPy kernels.

oneDNN is Intel's library of neural network primitives, in the wheel `onednn-cpu-gomp` (the extra `onednn`).
"""

from ..._environment import onednn as _setting
from .._kernels import Kernels
from ._activation import OneDnnActivation
from ._conv import OneDnnConv
from ._core import Core as Core
from ._library import OFF, Library, find, load
from ._norm import OneDnnNorm
from ._pool import OneDnnPool
from ._products import OneDnnProducts
from ._softmax import OneDnnSoftmax


def _load_as_set() -> Library | None:
    path = find(_setting)
    return None if path is None else load(path)


class OneDnnKernels:
    """All families, each by oneDNN where that is faster.

    Args:
        numpy: the kernels that compute the rest.
        core: the library.
    """

    def __init__(self, numpy: Kernels, core: Core) -> None:
        self.activation = OneDnnActivation(core, numpy.activation)
        self.attention = numpy.attention
        self.conv = OneDnnConv(core, numpy.conv)
        self.loss = numpy.loss
        self.norm = OneDnnNorm(core, numpy.norm)
        self.pool = OneDnnPool(core, numpy.pool)
        self.products = OneDnnProducts(core, numpy.products)
        self.rnn = numpy.rnn
        self.softmax = OneDnnSoftmax(core, numpy.softmax)
        self.special = numpy.special
        self.ufuncs = numpy.ufuncs
        self.optim = numpy.optim


def choose(numpy: Kernels) -> Kernels:
    """The kernels of this process, as `DISTGRAD_ONEDNN` says; whether there is a library shows at its first use."""
    return numpy if _setting == OFF else OneDnnKernels(numpy, CORE)


CORE = Core(_load_as_set)
