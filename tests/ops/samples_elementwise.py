"""Samples of elementwise functions of one tensor."""

from typing import Any

import numpy as np
import scipy.special

from tests.ops.samples import ALL_FLOATS, FLOATS, INTEGERS, Array, Call, Samples, call, only, unary

_SPECIAL = Array(values=[np.nan, np.inf, -np.inf, 0.0, -0.0])
_WHOLE = Array(values=[-2.5, -1.5, -0.6, -0.5, 0.5, 0.6, 1.5, 2.5, 3.0])


def _smooth(reference: Any, low: float = -2.0, high: float = 2.0, tolerance: dict[str, float] | None = None) -> Samples:
    """A function with a gradient everywhere in [low, high]; at nan and inf, and of integers, values are compared."""
    integers = only(call(Array(2, 3, low=max(low, 1), high=4)), dtypes=("int64",), grad=False)
    if high < 4:
        integers = only(call(Array(values=[0 if low <= 0 else 1, 1])), dtypes=("int64",), grad=False)
    extra = [only(call(_SPECIAL), dtypes=FLOATS, grad=False), integers]
    return Samples(
        reference, unary(*extra, low=low, high=high), dtypes=ALL_FLOATS, tolerance=(tolerance or {}) | {"int64": 1e-6}
    )


def _step(reference: Any, *extra: Call) -> Samples:
    """A piecewise constant function: its gradient is zero."""
    return Samples(reference, [*unary(low=0.1, high=0.4), only(call(_WHOLE), grad=False), *extra])


def _round(x: Any, decimals: int = 0) -> Any:
    return np.round(x, decimals)


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    x = x if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


_CLAMPS = [
    call(Array(2, 3), min=-0.5, max=0.5),
    call(Array(2, 3), -1),
    call(Array(2, 3), max=0.75),
    call(Array(), min=0.0),
    call(Array(0, 2), min=0.0, max=1.0),
    call(Array(2, 3), min=Array(3, low=-1, high=-0.5), max=Array(2, 1, low=0.5, high=1)),
    only(call(Array(2, 3), min=0, max=1), dtypes=("int64", "uint8"), grad=False),
    only(call(Array(values=[1.0, np.nan, -3.0]), min=-1.0, max=1.0), grad=False),
]

_MASK = Array(2, 3, dtype="bool")
_WHERE = [
    call(_MASK, Array(2, 3), Array(2, 3)),
    call(_MASK, Array(3), Array(2, 1)),
    call(_MASK, Array(2, 3), 1.5),
    call(_MASK, -1.0, Array(2, 3)),
    call(Array(dtype="bool"), Array(), Array()),
    call(Array(0, 2, dtype="bool"), Array(0, 2), Array(2)),
]

SAMPLES = {
    "exp": _smooth(np.exp),
    "exp2": _smooth(np.exp2),
    "expm1": _smooth(np.expm1),
    "log": _smooth(np.log, 0.2, 4),
    "log1p": _smooth(np.log1p, -0.5, 4),
    "log2": _smooth(np.log2, 0.2, 4),
    "log10": _smooth(np.log10, 0.2, 4),
    "sqrt": _smooth(np.sqrt, 0.2, 4),
    "rsqrt": _smooth(lambda x: 1 / np.sqrt(x), 0.2, 4),
    "sin": _smooth(np.sin),
    "cos": _smooth(np.cos),
    "tan": _smooth(np.tan, -1, 1),
    "sinh": _smooth(np.sinh),
    "cosh": _smooth(np.cosh),
    "tanh": _smooth(np.tanh),
    "sigmoid": _smooth(scipy.special.expit, -4, 4),
    "erf": _smooth(scipy.special.erf),
    "abs": Samples(np.abs, [*unary(low=0.1), only(call(Array(2, 3)), dtypes=(*FLOATS, "int64"))], dtypes=ALL_FLOATS),
    "square": Samples(
        lambda x: np.square(x.astype("int64") if x.dtype == bool else x),
        [*unary(), only(call(Array(3)), dtypes=("bool",), grad=False)],
        dtypes=ALL_FLOATS + INTEGERS[:2],
    ),
    "sign": _step(
        lambda x: x if x.dtype == bool else np.sign(x),
        only(call(Array(values=[-2, 0, 3])), dtypes=(*FLOATS, "int64", "bool"), grad=False),
    ),
    "floor": _step(np.floor),
    "ceil": _step(np.ceil),
    "trunc": _step(np.trunc),
    "round": _step(_round, only(call(Array(2, 3, low=-5, high=5), decimals=1), dtypes=("float64",), grad=False)),
    "clamp": Samples(_clamp, _CLAMPS),
    "where": Samples(np.where, _WHERE, dtypes=FLOATS),
    "isnan": Samples(np.isnan, [call(_SPECIAL), call(Array(2, 3))]),
    "isinf": Samples(np.isinf, [call(_SPECIAL), call(Array(2, 3))]),
    "isfinite": Samples(np.isfinite, [call(_SPECIAL), call(Array(2, 3))]),
}
