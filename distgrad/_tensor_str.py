"""How tensors are printed: as torch prints them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ._typing import Array
from .backend import OF_NUMPY, backend_of, get_default_dtype


@dataclass(frozen=True)
class PrintOptions:
    """What `set_printoptions` sets.

    Attributes:
        precision: digits after the point.
        threshold: with more elements than this, only the edges are printed.
        edgeitems: how many at each edge.
        linewidth: characters in a line.
        sci_mode: scientific notation always (True), never (False), or where the numbers need it (None).
    """

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}
_options = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Sets how tensors are printed; what is None stays as it is.

    Args:
        precision: digits after the point.
        threshold: with more elements than this, only the edges are printed.
        edgeitems: how many at each edge.
        linewidth: characters in a line.
        profile: ``"default"``, ``"short"`` or ``"full"``, to start from.
        sci_mode: scientific notation always (True), never (False), or where the numbers need it (None).
    """
    global _options
    if profile is not None and profile.lower() not in _PROFILES:
        raise ValueError(f"set_printoptions: expected profile 'default', 'short' or 'full', got {profile!r}")
    chosen = _options if profile is None else _PROFILES[profile.lower()]
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options = replace(chosen, sci_mode=sci_mode, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


def get_printoptions() -> dict[str, Any]:
    """What `set_printoptions` set."""
    return asdict(_options)


@contextmanager
def printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> Iterator[None]:
    """Inside, tensors are printed so; arguments as in `set_printoptions`."""
    global _options
    before = _options
    try:
        set_printoptions(precision, threshold, edgeitems, linewidth, profile, sci_mode)
        yield
    finally:
        _options = before


def tensor_str(data: Array, prefix: str, history: str | None) -> str:
    """The text of a tensor.

    Args:
        data: its array.
        prefix: what stands before the values, such as ``"tensor("``.
        history: what stands after them about gradients, such as ``"requires_grad=True"``; None for nothing.
    """
    host = backend_of(data).to_numpy(data)
    values = "[]" if host.size == 0 else _values(host, len(prefix), _options)
    suffixes = [*_suffixes(data), *([] if history is None else [history])]
    return _with_suffixes(prefix + values, suffixes, len(prefix))


# ---- numbers ---------------------------------------------------------------------------------------------------------


class _Format:
    """The common format of the numbers of one tensor: whole numbers, decimals or scientific, all of one width."""

    def __init__(self, shown: Array, options: PrintOptions) -> None:
        self.precision = options.precision
        self.floating = shown.dtype.kind == "f"
        self.whole = self.scientific = False
        self.width = 1
        if self.floating:
            self._choose(shown, options)
        else:
            self.width = max(len(str(v)) for v in shown.reshape(-1).tolist())

    def _choose(self, shown: Array, options: PrintOptions) -> None:
        self.whole = True
        numbers = shown[np.isfinite(shown) & (shown != 0)]
        if not numbers.size:
            return
        sizes = np.abs(numbers.astype(np.float64))
        low, high = float(sizes.min()), float(sizes.max())
        self.whole = bool((numbers == np.ceil(numbers)).all())
        self.scientific = high / low > 1000 or high > 1e8 or (not self.whole and low < 1e-4)
        if options.sci_mode is not None:
            self.scientific = options.sci_mode
        self.width = max(len(self._bare(v)) for v in numbers.tolist())

    def _bare(self, value: Any) -> str:
        if not self.floating:
            return str(value)
        if self.scientific:
            return f"{value:.{self.precision}e}"
        if self.whole:
            return f"{value:.0f}" + ("." if math.isfinite(value) else "")
        return f"{value:.{self.precision}f}"

    def __call__(self, value: Any) -> str:
        return self._bare(value).rjust(self.width)


class _ComplexFormat:
    """Real and imaginary part, each in its own format."""

    def __init__(self, shown: Array, options: PrintOptions) -> None:
        self.real, self.imaginary = _Format(shown.real, options), _Format(shown.imag, options)
        self.width = self.real.width + self.imaginary.width + 1

    def __call__(self, value: complex) -> str:
        imaginary = self.imaginary(value.imag).lstrip()
        sign = "" if imaginary[0] in "+-" else "+"
        return f"{self.real(value.real)}{sign}{imaginary}j"


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _values(data: Array, indent: int, options: PrintOptions) -> str:
    if data.dtype.kind == "V" or data.dtype == np.float16:
        data = data.astype(np.float32)
    cut = data.size > options.threshold
    if cut and not options.edgeitems:
        return "[...]"
    shown = _edges(data, options.edgeitems) if cut else data
    form = _ComplexFormat(shown, options) if data.dtype.kind == "c" else _Format(shown, options)
    return _block(data, form, indent, cut, options)


def _edges(data: Array, edge: int) -> Any:
    """The elements that are printed of a summarised array."""
    for axis in range(data.ndim):
        if data.shape[axis] > 2 * edge:
            ends = [
                np.take(data, range(edge), axis),
                np.take(data, range(data.shape[axis] - edge, data.shape[axis]), axis),
            ]
            data = np.concatenate(ends, axis)
    return data


def _block(data: Array, form: Any, indent: int, cut: bool, options: PrintOptions) -> str:
    if data.ndim == 0:
        return str(form(data.item()))
    if data.ndim == 1:
        return _row(data, form, indent, cut, options)
    edge = options.edgeitems
    if cut and len(data) > 2 * edge:
        parts = [_block(part, form, indent + 1, cut, options) for part in (*data[:edge], *data[len(data) - edge :])]
        parts.insert(edge, "...")
    else:
        parts = [_block(part, form, indent + 1, cut, options) for part in data]
    separator: str = "," + "\n" * (data.ndim - 1) + " " * (indent + 1)
    return f"[{separator.join(parts)}]"


def _row(data: Array, form: Any, indent: int, cut: bool, options: PrintOptions) -> str:
    edge = options.edgeitems
    if cut and len(data) > 2 * edge:
        items = [*map(form, data[:edge].tolist()), " ...", *map(form, data[-edge:].tolist())]
    else:
        items = [form(v) for v in data.tolist()]
    count: int = max(1, (options.linewidth - indent) // (form.width + 2))
    lines: list[str] = [", ".join(items[i : i + count]) for i in range(0, len(items), count)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


# ---- what follows the values -----------------------------------------------------------------------------------------


def _suffixes(data: Array) -> list[str]:
    backend, dtype = backend_of(data), OF_NUMPY[data.dtype]
    result = [] if backend.type == "cpu" else [f"device='{backend.device_of(data)}'"]
    if data.ndim != 1 if data.size == 0 else not _options.edgeitems:
        result.append(f"size={tuple(data.shape)}")
    if not _shows_dtype(dtype, data.size):
        result.append(f"dtype={dtype}")
    return result


def _shows_dtype(dtype: Any, size: int) -> bool:
    """Whether the printed numbers already tell the dtype."""
    default = get_default_dtype()
    if dtype is default or size == 0:
        return dtype is default
    return dtype.name in ("int64", "bool") or (dtype.is_complex and dtype.itemsize == 2 * max(default.itemsize, 4))


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            length = indent + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"
