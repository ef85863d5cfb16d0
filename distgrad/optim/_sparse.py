"""Updates of the rows that a sparse gradient has, and SparseAdam, which knows no other."""

from typing import Any

from .._tensor import Tensor
from .._typing import Array
from ..autograd._base import wrap
from ..autograd._sparse import SparseRows
from ..backend import CPU, backend_of, get_default_dtype
from ..errors import AutogradError
from ._adam import check_adam
from ._optimizer import Closure, Group, Optimizer, Params, call_closure, number


def zeros_in(entry: dict[str, Any], name: str, p: Tensor, value: float = 0.0) -> Array:
    """The array of a state entry of the parameter's shape; at the first step, filled with a number."""
    if entry.get(name) is None:
        entry[name] = wrap(backend_of(p._data).xp.full(p._data.shape, value, p._data.dtype))
    return entry[name]._data


def count_step(entry: dict[str, Any]) -> float:
    """Adds one to the step count of a state entry and returns it."""
    steps = float(entry.get("step", 0)) + 1
    entry["step"] = wrap(CPU.xp.asarray(steps, dtype=get_default_dtype().numpy))
    return steps


class SparseAdam(Optimizer):
    """Adam for sparse gradients: only rows that have a gradient, and their moments, change in a step.

    Args:
        params: the parameters, or groups of them; all with ``sparse=True`` embeddings.
        lr: learning rate.
        betas: how much of the running mean, and of that of the squares, is kept.
        eps: is added to the root.
        maximize: ascend instead.

    Raises:
        ValueError: a hyperparameter is out of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        check_adam(lr, betas, eps, 0)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def step(self, closure: Closure | None = None) -> Any:
        """Changes the rows that have a gradient.

        Args:
            closure: computes the loss and its gradients again and returns the loss.

        Returns:
            What the closure returned; None without one.
        """
        loss = call_closure(closure)
        with CPU.quiet():
            for group in self.param_groups:
                for p in group["params"]:
                    if p._grad is not None:
                        self._update(group, p)
                        p._cell[0] += 1
        return loss

    def _update(self, group: Group, p: Tensor) -> None:
        if not p._grad.is_sparse:
            raise AutogradError("SparseAdam does not support dense gradients, please consider Adam instead")
        rows: SparseRows = p._grad.rows.coalesced()
        entry, where = self.state[p], rows.indices
        g = -rows.values if group["maximize"] else rows.values
        (beta1, beta2), step = group["betas"], count_step(entry)
        means, squares = zeros_in(entry, "exp_avg", p), zeros_in(entry, "exp_avg_sq", p)
        means[where] += (g - means[where]) * (1 - beta1)
        squares[where] += (g * g - squares[where]) * (1 - beta2)
        rate = number(group["lr"]) * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        p._data[where] -= means[where] / (squares[where] ** 0.5 + group["eps"]) * rate
