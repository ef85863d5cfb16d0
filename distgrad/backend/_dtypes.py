"""dtypes under torch's names, and torch's rules of promotion, once for the whole project."""

from contextlib import suppress
from typing import Any, Final

import numpy as np

from ..errors import DTypeError

try:  # bfloat16 is an extra: NumPy has none of its own
    import ml_dtypes
except ImportError:  # pragma: no cover - depends on the installation
    ml_dtypes = None  # type: ignore[assignment, unused-ignore]

BOOL, INTEGRAL, FLOATING, COMPLEX = range(4)  # torch's categories, in order of promotion


class dtype:
    """The type of a tensor's elements; `distgrad.float32` and its like are its only instances.

    Attributes:
        name: NumPy's name, such as ``"float32"``.
        numpy: the `numpy.dtype`.
        itemsize: bytes per element.
        category: BOOL, INTEGRAL, FLOATING or COMPLEX.
    """

    __slots__ = ("category", "itemsize", "name", "numpy")

    def __init__(self, name: str, numpy: Any, category: int) -> None:
        self.name = name
        self.numpy: np.dtype[Any] = np.dtype(numpy)
        self.itemsize: int = self.numpy.itemsize
        self.category = category

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Lets NumPy take this object wherever it takes a dtype."""
        return self.numpy

    @property
    def is_floating_point(self) -> bool:
        """Whether this is float16, bfloat16, float32 or float64."""
        return self.category == FLOATING

    @property
    def is_complex(self) -> bool:
        """Whether this is complex64 or complex128."""
        return self.category == COMPLEX

    @property
    def is_signed(self) -> bool:
        """Whether negative values can be held."""
        return self.category != BOOL and self.numpy.kind != "u"

    def __repr__(self) -> str:
        return f"distgrad.{self.name}"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (as_dtype, (self.name,))


float16: Final = dtype("float16", np.float16, FLOATING)
float32: Final = dtype("float32", np.float32, FLOATING)
float64: Final = dtype("float64", np.float64, FLOATING)
int8: Final = dtype("int8", np.int8, INTEGRAL)
int16: Final = dtype("int16", np.int16, INTEGRAL)
int32: Final = dtype("int32", np.int32, INTEGRAL)
int64: Final = dtype("int64", np.int64, INTEGRAL)
uint8: Final = dtype("uint8", np.uint8, INTEGRAL)
uint16: Final = dtype("uint16", np.uint16, INTEGRAL)
uint32: Final = dtype("uint32", np.uint32, INTEGRAL)
uint64: Final = dtype("uint64", np.uint64, INTEGRAL)
bool_: Final = dtype("bool", np.bool_, BOOL)
complex64: Final = dtype("complex64", np.complex64, COMPLEX)
complex128: Final = dtype("complex128", np.complex128, COMPLEX)

_ALL = [
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
    bool_,
    complex64,
    complex128,
]
bfloat16: dtype | None = None
if ml_dtypes is not None:
    bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, FLOATING)
    _ALL.append(bfloat16)

OF_NUMPY: Final[dict[Any, dtype]] = {t.numpy: t for t in _ALL}
_ALIASES: Final = {"float": float32, "double": float64, "half": float16, "int": int32, "long": int64, "short": int16}
_BY_NAME: Final = {**_ALIASES, **{t.name: t for t in _ALL}}
_OF_PYTHON: Final[dict[Any, dtype]] = {bool: bool_, int: int64, float: float64, complex: complex128}
_default = float32


def get_default_dtype() -> dtype:
    """The floating-point dtype of tensors made from Python floats."""
    return _default


def set_default_dtype(d: Any) -> None:
    """Sets the floating-point dtype of tensors made from Python floats."""
    global _default
    chosen = as_dtype(d)
    if not chosen.is_floating_point:
        raise DTypeError(f"set_default_dtype: expected a floating-point dtype, got {chosen}")
    _default = chosen


def as_dtype(value: Any) -> dtype:
    """The dtype that `value` names: a dtype, a NumPy dtype or scalar type, a Python type or a name.

    Raises:
        DTypeError: `value` names no supported dtype.
    """
    if value.__class__ is dtype:
        return value
    if isinstance(value, str) and value.rpartition(".")[2] in _BY_NAME:
        return _BY_NAME[value.rpartition(".")[2]]
    if isinstance(value, type) and value in _OF_PYTHON:
        return _OF_PYTHON[value]
    with suppress(TypeError, KeyError):
        if value is not None:  # which NumPy takes for float64
            return OF_NUMPY[np.dtype(value)]
    names = ", ".join(t.name for t in _ALL)
    raise DTypeError(f"expected a dtype, got {value!r}; supported are {names}")


def category_of(d: "np.dtype[Any]") -> int:
    """The promotion category of a NumPy dtype."""
    return OF_NUMPY[d].category


_PROMOTED: dict[tuple[Any, Any], Any] = {}


def promote(a: "np.dtype[Any]", b: "np.dtype[Any]") -> "np.dtype[Any]":
    """torch's result dtype for two arrays with dimensions: the higher category wins, then the wider type.

    An integer with a float32 gives float32, where NumPy would give float64.
    """
    try:
        return _PROMOTED[a, b]  # type: ignore[no-any-return]
    except KeyError:
        result = _PROMOTED[a, b] = _promote(a, b)
        return result


def _promote(a: "np.dtype[Any]", b: "np.dtype[Any]") -> "np.dtype[Any]":
    ca, cb = category_of(a), category_of(b)
    if {ca, cb} == {FLOATING, COMPLEX}:
        real, other = (a, b) if ca == FLOATING else (b, a)
        return np.dtype(np.complex128) if real == np.float64 else other
    if ca != cb and max(ca, cb) >= FLOATING:
        return a if ca > cb else b
    if bfloat16 is not None and bfloat16.numpy in (a, b) and a != b:
        other = a if b == bfloat16.numpy else b
        return other if other.itemsize > 2 else float32.numpy
    if ca == INTEGRAL and cb == INTEGRAL and "u" in (a.kind, b.kind) and a.kind != b.kind:
        unsigned, signed = (a, b) if a.kind == "u" else (b, a)
        if unsigned.itemsize == 8:
            raise DTypeError(
                f"cannot combine {OF_NUMPY[a]} and {OF_NUMPY[b]}: convert one of them first, with .to(dtype)"
            )
        return np.promote_types(unsigned, signed)
    return np.promote_types(a, b)


def promote_dims(dtypes: "list[tuple[np.dtype[Any], bool]]") -> "np.dtype[Any]":
    """torch's result dtype for tensors of which some have no dimensions (``True`` = has dimensions).

    A 0-d tensor counts only by its category: it lifts the result when its category is the higher one.
    """
    with_dims = [d for d, has_dims in dtypes if has_dims]
    without = [d for d, has_dims in dtypes if not has_dims]
    if not with_dims:
        return _promote_all(without)
    result = _promote_all(with_dims)
    if not without:
        return result
    scalar = _promote_all(without)
    if category_of(scalar) <= category_of(result):
        return result
    # A complex scalar makes a float complex, of the precision that the float has.
    return _complex_of(result) if category_of(result) == FLOATING else scalar


def _complex_of(d: "np.dtype[Any]") -> "np.dtype[Any]":
    return np.dtype(np.complex128 if d == np.float64 else np.complex64)


def _promote_all(dtypes: "list[np.dtype[Any]]") -> "np.dtype[Any]":
    result = dtypes[0]
    for d in dtypes[1:]:
        result = promote(result, d)
    return result


def promote_scalar(d: "np.dtype[Any]", value: Any) -> "np.dtype[Any]":
    """torch's result dtype for a tensor of dtype `d` and a Python number: the number only lifts the category."""
    category = category_of(d)
    kind = (
        BOOL if isinstance(value, (bool, np.bool_)) else INTEGRAL if isinstance(value, (int, np.integer)) else FLOATING
    )
    if isinstance(value, complex):
        return d if category == COMPLEX else _complex_of(d)
    if kind <= category:
        return d
    return int64.numpy if kind == INTEGRAL else _default.numpy


class finfo:
    """Numerical limits of a floating-point dtype: eps, max, min, tiny, smallest_normal, resolution, bits."""

    def __init__(self, type: Any = None) -> None:
        self.dtype = as_dtype(type if type is not None else _default).name
        source: Any = ml_dtypes.finfo if self.dtype == "bfloat16" else np.finfo
        info = source(as_dtype(self.dtype).numpy)
        self.bits = int(info.bits)
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = float(info.resolution)

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution}, min={self.min}, max={self.max}, eps={self.eps}, dtype={self.dtype})"
        )


class iinfo:
    """Numerical limits of an integer dtype: max, min, bits."""

    def __init__(self, type: Any) -> None:
        self.dtype = as_dtype(type).name
        info = np.iinfo(as_dtype(type).numpy)
        self.bits, self.max, self.min = int(info.bits), int(info.max), int(info.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def can_cast(from_: Any, to: Any) -> bool:
    """Whether torch lets a result of dtype `from_` be stored in a tensor of dtype `to`: no lower category."""
    return as_dtype(from_).category <= as_dtype(to).category


def promote_types(type1: Any, type2: Any) -> dtype:
    """The dtype in which two tensors of these dtypes meet."""
    return OF_NUMPY[promote(as_dtype(type1).numpy, as_dtype(type2).numpy)]
