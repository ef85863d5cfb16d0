"""Samples of comparisons and logic."""

import operator
from typing import Any

import numpy as np

from tests.ops.samples import BOOL, FLOATS, INTEGERS, Array, Call, Samples, call, only

_ANY = FLOATS + INTEGERS + BOOL
_NAN = [1.0, np.nan, np.inf, -np.inf, 0.0]


def _pairs(number: Any = 1) -> list[Call]:
    shapes = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((0, 2), (2,))]
    return [call(Array(*a), Array(*b)) for a, b in shapes] + [
        call(Array(2, 3), number),
        call(Array(values=[1, 0, 1]), Array(values=[1, 1, 0])),
    ]


def _floats(*samples: Call) -> list[Call]:
    return [only(s, dtypes=FLOATS) for s in samples]


def _same(x: Any, y: Any) -> bool:
    return x.shape == y.shape and bool((x == y).all())


_CLOSE = [
    call(Array(values=[1.0, 2.0, 3.0]), Array(values=[1.0, 2.00001, 3.1])),
    call(Array(values=[1.0, 2.0, 3.0]), Array(values=[1.0, 2.1, 3.1]), rtol=0.0, atol=0.2),
    call(Array(values=_NAN), Array(values=_NAN)),
    call(Array(values=_NAN), Array(values=_NAN), equal_nan=True),
]

_COMPARISONS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_BITWISE = {"bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor}
_LOGICAL = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}

SAMPLES = {
    **{
        name: Samples(f, [*_pairs(), *_floats(call(Array(values=_NAN), Array(values=_NAN)))], dtypes=_ANY)
        for name, f in _COMPARISONS.items()
    },
    **{name: Samples(f, _pairs(True), dtypes=INTEGERS + BOOL) for name, f in _BITWISE.items()},
    **{name: Samples(f, _pairs()[:-2], dtypes=_ANY) for name, f in _LOGICAL.items()},
    "bitwise_not": Samples(operator.invert, [call(Array(2, 3)), call(Array())], dtypes=INTEGERS + BOOL),
    "logical_not": Samples(
        np.logical_not, [call(Array(2, 3)), call(Array(values=[0, 1, 2])), call(Array())], dtypes=_ANY
    ),
    "isclose": Samples(np.isclose, _CLOSE),
    "allclose": Samples(np.allclose, _CLOSE),
    "equal": Samples(
        _same,
        [call(Array(2, 3), Array(2, 3)), call(Array(2, 3), Array(3)), call(Array(values=[1]), Array(values=[1]))],
        dtypes=_ANY,
    ),
}
