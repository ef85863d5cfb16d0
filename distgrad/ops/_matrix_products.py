"""Products of several matrices: powers, and chains in their cheapest order."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ._common import tensor_of
from ._decompose import inv, matrices
from ._linalg import matmul
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor


@op()
def matrix_power(input: "Tensor", n: int) -> "Tensor":
    """The n-th power of square matrices, by repeated squaring; of the inverses for negative n."""
    t = matrices(input, "matrix_power")
    if n < 0:
        t, n = inv(t), -n
    if n == 0:
        identity = np.broadcast_to(np.eye(t._data.shape[-1]), t._data.shape)
        return t.new_tensor(identity)  # type: ignore[no-any-return]
    result = None
    while n:
        if n & 1:
            result = t if result is None else matmul(result, t)
        n >>= 1
        if n:
            t = matmul(t, t)
    assert result is not None
    return result.clone() if result is input else result


@op(name="linalg.multi_dot", method=False)
def multi_dot(tensors: Any) -> "Tensor":
    """The product of several matrices, in the order that takes the fewest multiplications; the ends may be vectors."""
    parts = [tensor_of(t, "linalg.multi_dot") for t in tensors]
    sizes = [t._data.shape[0] if t._data.ndim > 1 else 1 for t in parts[:1]] + [t._data.shape[0] for t in parts[1:]]
    sizes.append(parts[-1]._data.shape[1] if parts[-1]._data.ndim > 1 else 1)
    return _best_product(parts, sizes, 0, len(parts) - 1, {})[1]()  # type: ignore[no-any-return]


def _best_product(parts: list[Any], sizes: list[int], i: int, j: int, known: dict[tuple[int, int], Any]) -> Any:
    """The cost of multiplying parts i to j, and a function that does it."""
    if i == j:
        return 0, lambda: parts[i]
    if (i, j) not in known:
        options = []
        for k in range(i, j):
            left, right = _best_product(parts, sizes, i, k, known), _best_product(parts, sizes, k + 1, j, known)
            cost = left[0] + right[0] + sizes[i] * sizes[k + 1] * sizes[j + 1]
            options.append((cost, k, left[1], right[1]))
        cost, _, first, second = min(options, key=lambda option: option[:2])
        known[i, j] = cost, lambda: matmul(first(), second())
    return known[i, j]
