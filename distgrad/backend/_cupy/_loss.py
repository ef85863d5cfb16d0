"""Softmax cross-entropy on rows of CuPy arrays, and sums by index."""

from typing import Any

from ..._typing import Array
from ._ufuncs import CupyUfuncs


class CupyLoss:
    """Rows are (M, C), classes (M,)."""

    def __init__(self, cupy: Any, ufuncs: CupyUfuncs) -> None:
        self._cp = cupy
        self._ufuncs = ufuncs

    def check_classes(self, target: Array, classes: int, ignore: int) -> tuple[Array, Array | None]:
        """Targets that can index, and which count (None: all). One transfer to the host, for the check.

        Raises:
            IndexError: a target is neither a class nor `ignore`.
        """
        if target.size == 0:
            return target, None
        ignored = target == ignore
        wrong = ((target < 0) | (target >= classes)) & ~ignored
        first = wrong.argmax()
        some_ignored, some_wrong, value = self._cp.stack([ignored.any(), wrong.any(), target[first]]).tolist()
        if some_wrong:
            raise IndexError(
                f"Target {value} is out of bounds: expected a class between 0 and {classes - 1}, or ignore_index "
                f"{ignore}"
            )
        return (self._cp.where(ignored, 0, target), ~ignored) if some_ignored else (target, None)

    def exp_rows(self, x: Array, classes: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Each row's maximum (M, 1), exp(x - maximum), its sums (M, 1), log-sum-exp (M,), x at `classes` (M,)."""
        cp = self._cp
        shift = x.max(axis=1, keepdims=True) if x.size else cp.zeros((len(x), 1), x.dtype)
        exps = cp.exp(x - shift)
        total = exps.sum(axis=1, keepdims=True)
        return shift, exps, total, (cp.log(total) + shift)[:, 0], x[cp.arange(len(x)), classes]

    def scaled_minus_onehot(self, exps: Array, classes: Array, scale: Any, at_class: Any) -> Array:
        """``exps * scale`` with `at_class` subtracted at each row's class."""
        result = exps * scale
        result[self._cp.arange(len(exps)), classes] -= at_class
        return result

    def sum_rows(self, rows: Array, indices: Array, count: int) -> Array:
        """(count, D): each of the rows (M, D) added at its index."""
        result = self._cp.zeros((count, rows.shape[1]), rows.dtype)
        self._ufuncs.at("add", result, indices, rows)
        return result
