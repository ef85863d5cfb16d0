"""Samples of the less common elementwise functions."""

from typing import Any

import numpy as np
import scipy.special

from tests.ops.samples import ALL_FLOATS, FLOATS, INTEGERS, Array, Call, Samples, binary, call, only, unary

_NAN, _INF = np.nan, np.inf
_SPECIAL = Array(values=[_NAN, _INF, -_INF, 0.0, -0.0, 1.0])
_LOOSE = {"int64": 1e-6}
_WIDER = {"float16": 3e-2, "bfloat16": 1.5e-1} | _LOOSE


def _unary(reference: Any, low: float = -2.0, high: float = 2.0) -> Samples:
    """A function with a gradient everywhere in [low, high]; at nan and inf, and of integers, values are compared."""
    extra = [
        only(call(_SPECIAL), dtypes=FLOATS, grad=False),
        only(call(Array(values=[0, 1, 1])), dtypes=("int64",), grad=False),
    ]
    return Samples(reference, unary(*extra, low=low, high=high), dtypes=ALL_FLOATS, tolerance=_WIDER)


def _tensors(samples: list[Call]) -> list[Call]:
    """Those without a number."""
    return [s for s in samples if all(isinstance(a, Array) for a in s.args)]


def _pairs(reference: Any, *extra: Call, low: float = -2.0, high: float = 2.0, number: bool = False) -> Samples:
    """A function of two tensors (and a number, if `number`) with a gradient everywhere in [low, high]."""
    samples = binary(low=low, high=high)
    samples = [*(samples if number else _tensors(samples)), *extra]
    return Samples(reference, samples, dtypes=ALL_FLOATS, tolerance=_WIDER)


def _plain(sample: Call, *dtypes: str) -> Call:
    """The values alone."""
    return only(sample, dtypes=dtypes or FLOATS, grad=False)


def _lerp(a: Any, b: Any, weight: Any) -> Any:
    return a + weight * (b - a)


def _logit(x: Any, eps: Any = None) -> Any:
    return scipy.special.logit(x if eps is None else np.clip(x, eps, 1 - eps))


def _nan_to_num(x: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    result = np.where(x == _INF, posinf, np.where(x == -_INF, neginf, x))
    return np.where(np.isnan(x), 0.0 if nan is None else nan, result)


def _nextafter(result: Any, x: Any, y: Any) -> None:
    wanted = np.nextafter(x.astype(result.dtype), y.astype(result.dtype))
    assert result.tobytes() == wanted.astype(result.dtype).tobytes()


def _heaviside(x: Any, values: Any) -> Any:
    return np.where(np.isnan(x), 0, np.heaviside(x, values))


_X, _Y = Array(values=[[0.5, -1.0, 2.0], [1.5, 0.25, -2.0]]), Array(values=[[1.5, -2.0, 2.5], [-1.5, 0.75, -1.0]])
_ONE_NAN = call(Array(values=[_NAN, 1.0, _NAN, -_INF]), Array(values=[2.0, _NAN, _NAN, _INF]))
_WITH_TIES = call(Array(values=[1.0, 2.0]), Array(values=[1.0, -2.0]))
_WHOLE = call(Array(2, 3, low=-20, high=20), Array(3, low=-20, high=20))
_WHOLES = [_WHOLE, call(Array(values=[0, 0, 12, -8]), Array(values=[0, 5, 18, 12])), call(Array(0, 2), Array(2))]

_ADDCMUL = [
    call(Array(2, 3), Array(2, 3), Array(2, 3)),
    call(Array(2, 3), Array(2, 1), Array(3), value=2),
    call(Array(3), Array(2, 3), Array(2, 1)),
    call(Array(2, 1), Array(3), Array(3)),
    call(Array(), Array(), Array()),
    call(Array(2), Array(), Array()),
    call(Array(0, 2), Array(2), Array(2)),
]
_ADDCDIV = [
    call(*(Array(*a.shape, low=0.5) if i == 2 else a for i, a in enumerate(s.args)), **s.kwargs) for s in _ADDCMUL
]
_BETWEEN = [
    call(Array(2, 3, low=0.5, high=1), 0.25),
    call(Array(2, 3, low=-1, high=0), 0.25),
    call(Array(2, 3, low=0.5, high=1), Array(3, low=-1, high=0)),
    call(Array(2, 3, low=-1, high=0), Array(2, 1, low=0.5, high=1)),
    _plain(call(Array(values=[1.0, _NAN, -3.0]), 1.0)),
    _plain(call(Array(2, 3), 1), "int64", "uint8"),
]

SAMPLES = {
    # ---- inverse trigonometric ----
    "asin": _unary(np.arcsin, -0.9, 0.9),
    "acos": _unary(np.arccos, -0.9, 0.9),
    "atan": _unary(np.arctan),
    "asinh": _unary(np.arcsinh),
    "acosh": _unary(np.arccosh, 1.2, 3),
    "atanh": _unary(np.arctanh, -0.9, 0.9),
    "atan2": _pairs(np.arctan2, _plain(_WHOLE, "int64"), low=0.2),
    "hypot": _pairs(np.hypot, _plain(_ONE_NAN), low=0.2),
    "deg2rad": _unary(np.deg2rad, -180, 180),
    "rad2deg": _unary(np.rad2deg),
    # ---- several operations in one ----
    "addcmul": Samples(
        lambda x, y, z, value=1: x + value * y * z,
        [*_ADDCMUL, only(call(Array(3), Array(3), Array(3), value=0.5), dtypes=ALL_FLOATS)],
        dtypes=(*ALL_FLOATS, "int64"),
        tolerance=_WIDER,
    ),
    "addcdiv": Samples(
        lambda x, y, z, value=1: x + value * y / z,
        [*_ADDCDIV, call(Array(3), Array(3), Array(3, low=0.5), value=0.5)],
        dtypes=ALL_FLOATS,
        tolerance=_WIDER,
    ),
    "lerp": Samples(
        _lerp,
        [
            *[call(Array(2, 3), Array(3), w) for w in (0, 0.25, 0.75, 1, -1.5)],
            call(Array(2, 3), Array(3), Array(2, 1, low=0, high=1)),
            call(Array(3), Array(), Array(2, 1)),
            call(Array(3), Array(3), Array()),
            call(Array(), Array(), 0.5),
            call(Array(0, 2), Array(2), 0.5),
        ],
        dtypes=ALL_FLOATS,
        tolerance=_WIDER,
    ),
    # ---- of one tensor ----
    "erfc": _unary(scipy.special.erfc),
    "special.ndtr": _unary(scipy.special.ndtr),
    "frac": Samples(lambda x: x - np.trunc(x), unary(low=0.1, high=0.9), dtypes=ALL_FLOATS),
    "logit": Samples(
        _logit,
        [
            *unary(low=0.1, high=0.9),
            call(Array(2, 3, low=0.2, high=0.8), 0.1),
            call(Array(values=[0.05, 0.5, 0.99]), eps=0.1),
            _plain(call(Array(values=[-0.1, 0.0, 1.0, 1.1, _NAN]))),
            _plain(call(Array(values=[0, 1])), "int64"),
        ],
        dtypes=ALL_FLOATS,
        tolerance=_WIDER,
    ),
    "sinc": Samples(
        np.sinc,
        [
            *unary(low=0.2),
            _plain(call(Array(values=[0.0, -0.0, 1e-3, 1.0])), *ALL_FLOATS),
            _plain(call(Array(3)), "int64"),
        ],
        dtypes=ALL_FLOATS,
        tolerance=_LOOSE,
    ),
    "nan_to_num": Samples(
        _nan_to_num,
        [
            *[call(s.args[0], posinf=2.0, neginf=-2.0) for s in unary()],
            _plain(call(_SPECIAL, 0.5, 2.0, -2.0), *ALL_FLOATS),
            _plain(call(Array(values=[1, -2]), 3.0, 4.0, 5.0), "int64"),
        ],
        dtypes=ALL_FLOATS,
    ),
    "clamp_min": Samples(np.maximum, _BETWEEN),
    "clamp_max": Samples(np.minimum, _BETWEEN),
    "positive": Samples(lambda x: x, unary(), dtypes=ALL_FLOATS + INTEGERS),
    "sgn": Samples(
        np.sign,
        [
            *unary(low=0.1),
            _plain(call(Array(values=[-2, 0, 3])), *FLOATS, "int64"),
            _plain(call(Array(values=[3 + 4j, 0, -2j])), "complex64", "complex128"),
        ],
    ),
    "signbit": Samples(np.signbit, [call(_SPECIAL), _plain(call(Array(2, 3)), "int64")], dtypes=ALL_FLOATS),
    "isposinf": Samples(np.isposinf, [call(_SPECIAL), _plain(call(Array(2, 3)), "int64")]),
    "isneginf": Samples(np.isneginf, [call(_SPECIAL), _plain(call(Array(2, 3)), "int64")]),
    "isreal": Samples(
        np.isreal, [call(Array(2, 3)), _plain(call(Array(values=[1 + 1j, 2])), "complex64")], dtypes=(*FLOATS, "int64")
    ),
    # ---- of two tensors ----
    "fmax": Samples(np.fmax, [call(_X, _Y), _plain(_ONE_NAN), _plain(_WITH_TIES), call(Array(0, 2), Array(2))]),
    "fmin": Samples(np.fmin, [call(_X, _Y), _plain(_ONE_NAN), _plain(_WITH_TIES), call(Array(0, 2), Array(2))]),
    "copysign": _pairs(np.copysign, call(_X, _Y), call(_X, -1), _plain(_WHOLE, "int64"), low=0.3, number=True),
    "logaddexp": _pairs(np.logaddexp, _plain(call(Array(values=[800.0, -800.0]), Array(values=[800.0, 0.0])))),
    "logaddexp2": _pairs(np.logaddexp2, _plain(call(Array(values=[2000.0, -2000.0]), Array(values=[2000.0, 0.0])))),
    "xlogy": _pairs(
        scipy.special.xlogy,
        call(Array(values=[0.0, 0.0, 1.0]), Array(values=[2.0, 3.0, 0.5])),
        call(1.5, Array(3, low=0.3)),
        _plain(call(Array(values=[0.0, 0.0, 1.0]), Array(values=[0.0, _NAN, 0.0]))),
        _plain(call(Array(3, low=0, high=4), Array(3, low=1, high=4)), "int64"),
        low=0.3,
        number=True,
    ),
    "ldexp": _pairs(lambda x, y: x * 2.0**y, call(Array(2, 3), Array(3, dtype="int64")), _plain(_WITH_TIES, "int64")),
    "float_power": Samples(
        np.float_power,
        [
            *binary(low=0.5),
            call(2, Array(3)),
            call(Array(3, low=0.5), 2),
            _plain(call(Array(3, low=1), Array(3, low=-2)), "int64"),
        ],
        dtypes=FLOATS,
        same_dtype=False,
    ),
    "rsub": Samples(
        lambda x, y, alpha=1: y - alpha * x,
        [*binary(number=2), call(Array(2, 3), Array(3), alpha=2)],
        dtypes=(*FLOATS, "int64"),
    ),
    "heaviside": Samples(
        _heaviside,
        [
            call(Array(2, 3), Array(3)),
            _plain(call(_SPECIAL, Array(6))),
            call(Array(0, 2), Array(2)),
            call(Array(), Array()),
        ],
        dtypes=(*ALL_FLOATS, "int64"),
    ),
    "nextafter": Samples(
        None, [call(_X, _Y), call(Array(0, 2), Array(2)), _plain(_ONE_NAN)], dtypes=FLOATS, check=_nextafter
    ),
    "gcd": Samples(np.gcd, _WHOLES, dtypes=("int64", "int32")),
    "lcm": Samples(np.lcm, _WHOLES, dtypes=("int64", "int32")),
    "bitwise_left_shift": Samples(
        np.left_shift,
        [call(Array(2, 3), Array(3, low=0, high=5)), call(Array(3), 2), call(3, Array(3, low=0, high=5))],
        dtypes=INTEGERS,
    ),
    "bitwise_right_shift": Samples(
        np.right_shift,
        [call(Array(2, 3, low=-99, high=99), Array(3, low=0, high=5)), call(Array(3), 2), call(99, Array(3, low=0))],
        dtypes=INTEGERS,
    ),
}
