"""Softmax cross-entropy on rows of CuPy arrays, and sums by index."""

from typing import Any

from ..._typing import Array


class CupyLoss:
    """Rows are (M, C), classes (M,)."""

    def __init__(self, cupy: Any) -> None:
        self._cp = cupy

    def check_classes(self, target: Array, classes: int, ignore: int) -> tuple[Array, Array | None]:
        """Targets that can index, and which count (None: all). One transfer to the host, for the check.

        Raises:
            IndexError: a target is neither a class nor `ignore`.
        """
        if target.size == 0:
            return target, None
        keep = target != ignore
        wrong = keep & ((target < 0) | (target >= classes))
        if bool(wrong.any()):
            first = int(target[wrong][0])
            raise IndexError(
                f"Target {first} is out of bounds: expected a class between 0 and {classes - 1}, or ignore_index "
                f"{ignore}"
            )
        return self._cp.where(keep, target, 0), keep

    def log_sum_exp(self, x: Array, classes: Array) -> tuple[Array, Array, Array, Array]:
        """A shift (M, 1) of each row, the softmax, the log of the sum of exponentials (M,), and x at `classes` (M,)."""
        cp = self._cp
        shift = x.max(axis=1, keepdims=True) if x.size else cp.zeros((len(x), 1), x.dtype)
        soft = cp.exp(x - shift)
        total = soft.sum(axis=1, keepdims=True)
        return shift, soft / total, (cp.log(total) + shift)[:, 0], x[cp.arange(len(x)), classes]

    def softmax_minus_onehot(self, soft: Array, classes: Array, scale: Any, at_class: Any) -> Array:
        """``scale * soft`` with `at_class` subtracted at each row's class."""
        result = soft * (scale.reshape(-1, 1) if getattr(scale, "ndim", 0) else scale)
        result[self._cp.arange(len(soft)), classes] -= at_class
        return result

    def sum_rows(self, rows: Array, indices: Array, count: int) -> Array:
        """(count, D): each of the rows (M, D) added at its index."""
        result = self._cp.zeros((count, rows.shape[1]), rows.dtype)
        self._cp.add.at(result, indices, rows)
        return result
