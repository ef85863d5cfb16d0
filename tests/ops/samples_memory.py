"""Samples of clone, contiguous and detach."""

import numpy as np

from tests.ops.samples import BOOL, FLOATS, INTEGERS, Array, Samples, call, only, unary

_ANY = FLOATS + INTEGERS + BOOL

SAMPLES = {
    "clone": Samples(np.copy, unary(), dtypes=_ANY),
    "contiguous": Samples(np.copy, unary(), dtypes=_ANY),
    "detach": Samples(np.copy, [only(call(Array(2, 3)), grad=False), only(call(Array()), grad=False)], dtypes=_ANY),
}
