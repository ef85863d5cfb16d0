"""Samples of every registered operation: what test_registry.py runs.

Each family has a file ``samples_<family>.py`` with one dict::

    from tests.ops.samples import FLOATS, INTEGERS, Array, Samples, call

    SAMPLES = {
        "add": Samples(
            np.add,
            [call(Array(2, 3), Array(3)), call(Array(2, 3), 2.0), call(Array(), Array(0, 4))],
            dtypes=FLOATS + INTEGERS,
        ),
        "clamp": Samples(lambda x, min=None, max=None: np.clip(x, min, max), [call(Array(3), min=-0.5)]),
        "gather": Samples(reference, [call(Array(3, 4), 1, Array(3, 2, dtype="int64", low=0, high=3))]),
        "log": Samples(np.log, [call(Array(2, 3, low=0.1, high=3))]),
    }

The reference is called with the same arguments, with NumPy arrays in the place of tensors; floating-point ones in
float64. It is NumPy, SciPy or a few lines of the definition; never another op of ours. The tests then run each call

* in every dtype of `dtypes`, as given and again with every array non-contiguous: result, dtype, inputs unmodified;
* as `Tensor.<name>` and `Tensor.<name>_`, where the spec says that they exist;
* in float64 through gradcheck and gradgradcheck, where the spec says differentiable and twice, and in float32 through
  backward, raw (`backward_fast`) and with create_graph, which must agree.

Give each op a usual shape, broadcasting where it has any, an empty and a 0-d input where torch takes them, and every
option. Keep gradient samples small (tens of elements): a check costs a forward for each element.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

FLOATS = ("float32", "float64")
ALL_FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int64", "int32", "uint8")
BOOL = ("bool",)


class Array:
    """Stands for one tensor argument; the values are drawn anew for each dtype, always the same.

    Args:
        shape: its sizes.
        low, high: the range of its values; integers are drawn from low to high - 1, bools evenly.
        dtype: a fixed dtype, such as ``"int64"`` for indices; None for that of the test.
        grad: whether gradients with respect to it are checked (where its dtype allows).
        values: given values instead of drawn ones (nan, inf, ties).
    """

    def __init__(
        self,
        *shape: int,
        low: float = -2.0,
        high: float = 2.0,
        dtype: str | None = None,
        grad: bool = True,
        values: Any = None,
    ) -> None:
        self.shape = shape if values is None else np.shape(values)
        self.low, self.high = low, high
        self.dtype = dtype
        self.grad = grad
        self.values = values

    def draw(self, dtype: str, rng: np.random.Generator) -> Any:
        """A host array in the dtype of the test (or its own)."""
        chosen = numpy_dtype(self.dtype or dtype)
        if self.values is not None:
            return np.array(self.values).astype(chosen)
        if chosen == np.bool_:
            return np.asarray(rng.random(self.shape) < 0.5)
        if chosen.kind in "iu":
            low = max(self.low, 0) if chosen.kind == "u" else self.low
            high = self.high if self.high > low else low + 2
            return np.asarray(
                rng.integers(int(np.ceil(low)), int(np.ceil(high)) + (self.dtype is None), self.shape)
            ).astype(chosen)
        drawn = np.asarray(rng.uniform(self.low, self.high, self.shape))
        return np.asarray(
            drawn + 1j * rng.uniform(self.low, self.high, self.shape) if chosen.kind == "c" else drawn
        ).astype(chosen)

    def __repr__(self) -> str:
        return f"{'x'.join(map(str, self.shape)) or '0d'}{':' + self.dtype if self.dtype else ''}"


@dataclass(frozen=True)
class Call:
    """The arguments of one call, with `Array` in the place of tensors (also inside lists, tuples and dicts)."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] | None = None  # instead of the op's
    grad: bool = True  # whether gradients are checked at this sample
    twice: bool = True  # whether second derivatives are, too
    strided: bool = True  # whether it also runs with non-contiguous arrays

    def __repr__(self) -> str:
        return ",".join([*(_short(a) for a in self.args), *(f"{k}={_short(v)}" for k, v in self.kwargs.items())])


def _short(value: Any) -> str:
    text = repr(value).replace(" ", "")
    return text if len(text) <= 30 else text[:27] + "..."


def call(*args: Any, **kwargs: Any) -> Call:
    """A call with these arguments."""
    return Call(args, kwargs)


def only(
    sample: Call, *, dtypes: Sequence[str] | None = None, grad: bool = True, twice: bool = True, strided: bool = True
) -> Call:
    """The same call, tested in part: in these dtypes alone, without gradients (where there is a jump), and so on."""
    return replace(sample, dtypes=None if dtypes is None else tuple(dtypes), grad=grad, twice=twice, strided=strided)


@dataclass(frozen=True)
class Samples:
    """The samples of one operation.

    Attributes:
        reference: the same function on NumPy arrays; None where `check` judges the result.
        calls: what to call it with.
        dtypes: the dtypes to run each call in.
        check: ``check(result, *args, **kwargs)`` on host arrays asserts what holds of the result, if it is random or
            one of several right ones.
        random: the function draws random numbers; the seed is set before each call.
        tolerance: relative and absolute, instead of the dtype's.
        same_dtype: whether floating-point results have the dtype of the test, when all floating-point inputs have it.
    """

    reference: Callable[..., Any] | None
    calls: Sequence[Call]
    dtypes: Sequence[str] = FLOATS
    check: Callable[..., None] | None = None
    random: bool = False
    tolerance: dict[str, float] = field(default_factory=dict)
    same_dtype: bool = True


TOLERANCE = {
    "float64": 1e-10,
    "float32": 2e-5,
    "float16": 1e-2,
    "bfloat16": 6e-2,
    "complex64": 1e-5,
    "complex128": 1e-10,
}


def numpy_dtype(name: str) -> "np.dtype[Any]":
    """A NumPy dtype by name, bfloat16 included."""
    if name == "bfloat16":
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    return np.dtype(name)


def map_arrays(function: Callable[[Any], Any], value: Any, kind: type = Array) -> Any:
    """`value` with everything of class `kind` in it replaced by its image."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, (list, tuple)):
        items = [map_arrays(function, v, kind) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {k: map_arrays(function, v, kind) for k, v in value.items()}
    return value


def unary(*extra: Call, low: float = -2.0, high: float = 2.0) -> list[Call]:
    """The usual calls of an elementwise function of one tensor."""
    return [call(Array(*shape, low=low, high=high)) for shape in ((2, 3), (), (0, 2), (3, 1, 2))] + list(extra)


def binary(
    *extra: Call, low: float = -2.0, high: float = 2.0, second_low: float | None = None, number: float = 1.5
) -> list[Call]:
    """The usual calls of an elementwise function of two operands: broadcasting, 0-d, empty, a number on the right."""
    start = low if second_low is None else second_low

    def pair(a: tuple[int, ...], b: tuple[int, ...]) -> Call:
        return call(Array(*a, low=low, high=high), Array(*b, low=start, high=high))

    shapes = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((2, 2), ()), ((), ()), ((0, 2), (1, 2))]
    return [pair(a, b) for a, b in shapes] + [call(Array(2, 3, low=low, high=high), number)] + list(extra)


def collect() -> dict[str, Samples]:
    """The samples of all families: the union of the SAMPLES of every samples_*.py beside this file."""
    found: dict[str, Samples] = {}
    for path in sorted(Path(__file__).parent.glob("samples_*.py")):
        family = importlib.import_module(f"tests.ops.{path.stem}").SAMPLES
        twice = found.keys() & family.keys()
        assert not twice, f"{path.name}: {sorted(twice)} have samples in another file, too"
        found.update(family)
    return found
