"""Samples of arithmetic with broadcasting."""

from typing import Any

import numpy as np

from tests.ops.samples import ALL_FLOATS, FLOATS, INTEGERS, Array, Call, Samples, binary, call, only, unary

_NUMBERS = ALL_FLOATS + INTEGERS
_SIGNED = (*ALL_FLOATS, "int64", "int32")


def _integers(*samples: Call) -> list[Call]:
    return [only(s, dtypes=INTEGERS, grad=False) for s in samples]


def _floats(*samples: Call) -> list[Call]:
    return [only(s, dtypes=FLOATS) for s in samples]


def _divide(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    quotient = np.true_divide(x, y)
    if rounding_mode is None:
        return quotient
    rounded = np.floor(quotient) if rounding_mode == "floor" else np.trunc(quotient)
    return rounded.astype(np.result_type(x, y))


def _pow(x: Any, y: Any) -> Any:
    if np.asarray(y).dtype.kind == "i" and np.any(np.asarray(y) < 0) and np.asarray(x).dtype.kind == "i":
        return np.trunc(np.power(np.asarray(x, dtype="float64"), y)).astype(np.int64)
    return np.power(np.asarray(x), y)


# Away from each other, because the gradient jumps at a tie.
_LEFT = Array(values=[[0.5, -1.0, 2.0], [1.5, 0.25, -2.0]])
_RIGHT = Array(values=[[1.5, -2.0, 2.5], [-1.5, 0.75, -1.0]])
_TIES = Array(values=[[0.5, -2.0, 2.5], [1.5, 0.75, -2.0]])

_BETWEEN = [call(_LEFT, _RIGHT), call(Array(2, 1, low=-2, high=-1), Array(1, 3, low=1)), call(Array(0, 2), Array(2))]

SAMPLES = {
    "add": Samples(
        lambda x, y, alpha=1: x + alpha * y,
        [*binary(number=2), call(Array(2, 3), Array(3), alpha=3), *_floats(call(Array(3), 1.5, alpha=0.5))],
        dtypes=_NUMBERS,
    ),
    "sub": Samples(
        lambda x, y, alpha=1: x - alpha * y,
        [*binary(number=2), call(Array(2, 3), Array(3), alpha=2)],
        dtypes=_SIGNED,
    ),
    "mul": Samples(np.multiply, binary(number=2), dtypes=_NUMBERS),
    "div": Samples(
        _divide,
        [
            *binary(low=0.5, number=2),
            *[
                only(call(Array(2, 3, low=-8, high=8), Array(3, low=1, high=4), rounding_mode=m))
                for m in ("floor", "trunc")
            ],
            *[only(call(Array(2, 3, low=-8, high=8), 3, rounding_mode=m)) for m in ("floor", "trunc")],
        ],
        dtypes=(*FLOATS, "int64"),
        tolerance={"int64": 1e-6},
    ),
    "floor_divide": Samples(
        np.floor_divide,
        [only(s, grad=False) for s in binary(low=-9, high=9, second_low=1, number=2)],
        dtypes=(*FLOATS, "int64"),
    ),
    "remainder": Samples(
        np.remainder,
        [*binary(low=0.3, high=5, number=2), only(call(Array(2, 3, low=-9, high=9), 4), dtypes=(*FLOATS, "int64"))],
        dtypes=(*FLOATS, "int64"),
    ),
    "fmod": Samples(
        np.fmod,
        [*binary(low=0.3, high=5, number=2), only(call(Array(2, 3, low=-9, high=9), 4), dtypes=(*FLOATS, "int64"))],
        dtypes=(*FLOATS, "int64"),
    ),
    "pow": Samples(
        _pow,
        [
            *_floats(
                *binary(low=0.5, number=1.5),
                call(2.5, Array(2, 3)),
                call(Array(2, 3), 2),
                call(Array(2, 3), 3),
                call(Array(3), -1),
            ),
            *_floats(call(Array(3, low=0.5), 0.5), call(Array(3), 0), call(Array(3), 1)),
            only(call(Array(values=[0.0, 1.0, -2.0]), 2), dtypes=FLOATS),
            *_integers(
                call(Array(2, 3), 2), call(Array(2, 3, low=1), Array(3, low=0, high=3)), call(2, Array(3, low=0))
            ),
            only(call(Array(values=[2, 1, -1, -1, 3]), Array(values=[-1, -2, -3, -2, 0])), dtypes=("int64",)),
        ],
    ),
    "maximum": Samples(np.maximum, [*_BETWEEN, only(call(_LEFT, _TIES), grad=False)], dtypes=_SIGNED),
    "minimum": Samples(np.minimum, [*_BETWEEN, only(call(_LEFT, _TIES), grad=False)], dtypes=_SIGNED),
    "neg": Samples(np.negative, unary(), dtypes=_SIGNED),
    "reciprocal": Samples(np.reciprocal, unary(low=0.5), dtypes=ALL_FLOATS),
}
