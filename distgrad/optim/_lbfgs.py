"""L-BFGS: a quasi-Newton method for full batches."""

from collections.abc import Callable
from typing import Any

from .._tensor import Tensor
from .._typing import Array
from ..autograd._base import wrap
from ..backend import backend_of
from ._line_search import Point, strong_wolfe
from ._optimizer import Closure, Optimizer, Params, call_closure, number, require


class LBFGS(Optimizer):
    """Limited-memory BFGS: steps along an approximation of the inverse Hessian, built from the last steps.

    Source: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.

    Args:
        params: the parameters; one group only.
        lr: step length, or the first one that the line search tries.
        max_iter: most iterations of one `step`.
        max_eval: most calls of the closure in one `step`; ``max_iter * 5 / 4`` by default.
        tolerance_grad: a `step` ends when no element of the gradient is larger.
        tolerance_change: a `step` ends when neither the parameters nor the loss change more.
        history_size: how many steps are remembered.
        line_search_fn: None, or ``"strong_wolfe"``.

    Raises:
        ValueError: there is more than one group.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        require(number(lr) >= 0, "learning rate", lr)
        if line_search_fn not in (None, "strong_wolfe"):
            raise RuntimeError(f"only 'strong_wolfe' is supported as line_search_fn, got {line_search_fn!r}")
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def step(self, closure: Closure | None = None) -> Any:
        """Up to `max_iter` iterations.

        Args:
            closure: sets the gradients to zero, computes the loss, calls backward and returns the loss.

        Returns:
            The loss before the first iteration.
        """
        if closure is None:
            raise TypeError("LBFGS.step: expected a closure that computes the loss and its gradients, got None")
        group = self.param_groups[0]
        memory = _Memory(self.state[group["params"][0]], group["history_size"])
        first = call_closure(closure)
        here = Point(0.0, float(first), self._flat_gradient())
        memory.count("func_evals", 1)
        if _largest(here.grad) > group["tolerance_grad"]:
            self._iterate(memory, here, closure)
            memory.store()
        return first

    def _iterate(self, memory: "_Memory", here: Point, closure: Closure) -> None:
        group = self.param_groups[0]
        smallest = group["tolerance_change"]
        evaluations = 1
        for iteration in range(1, group["max_iter"] + 1):
            memory.turn(here)
            direction, slope = memory.direction, float(here.grad @ memory.direction)
            length = number(group["lr"])
            if memory.iterations == 1:
                length *= min(1.0, 1.0 / float(abs(here.grad).sum()))
            memory.length = length
            if slope > -smallest:
                return
            last = iteration == group["max_iter"]
            before = here.loss
            here, used = self._move(memory, here, slope, closure, group["max_eval"] - evaluations, last)
            evaluations += used
            memory.count("func_evals", used)
            stuck = _largest(direction) * abs(memory.length) <= smallest or abs(here.loss - before) < smallest
            if last or evaluations >= group["max_eval"] or _largest(here.grad) <= group["tolerance_grad"] or stuck:
                return

    def _move(
        self, memory: "_Memory", here: Point, slope: float, closure: Closure, budget: int, last: bool
    ) -> tuple[Point, int]:
        """Goes along the direction; the place reached, and how often the closure was called."""
        direction = memory.direction
        if self.param_groups[0]["line_search_fn"] is None:
            self._add(direction, memory.length)
            if last:  # in a stochastic setting the next step evaluates anew
                return here, 0
            loss = float(call_closure(closure))
            return Point(memory.length, loss, self._flat_gradient()), 1
        evaluate = self._along(direction, closure)
        tolerance = self.param_groups[0]["tolerance_change"]
        reached, used = strong_wolfe(evaluate, memory.length, direction, here, slope, tolerance, budget)
        memory.length = reached.at
        self._add(direction, reached.at)
        return reached, used

    def _along(self, direction: Array, closure: Closure) -> Callable[[float], Point]:
        """The loss and gradient at a distance along the direction; the parameters stay where they are."""
        start = [p._data.copy() for p in self._parameters()]

        def evaluate(at: float) -> Point:
            self._add(direction, at)
            point = Point(at, float(call_closure(closure)), self._flat_gradient())
            for p, values in zip(self._parameters(), start, strict=True):
                p._data[...] = values
            return point

        return evaluate

    def _parameters(self) -> list[Tensor]:
        return self.param_groups[0]["params"]  # type: ignore[no-any-return]

    def _flat_gradient(self) -> Array:
        """All gradients one after the other; zeros for a parameter without one."""
        parts = []
        for p in self._parameters():
            array = p._data if p._grad is None else p._grad._data
            flat = array.reshape(-1)
            flat = flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat
            parts.append(flat * 0 if p._grad is None else flat)
        return backend_of(parts[0]).xp.concatenate(parts)

    def _add(self, update: Array, scale: float) -> None:
        start = 0
        for p in self._parameters():
            size = p.numel() * (2 if p.is_complex() else 1)
            part = update[start : start + size] * scale
            p._data += part.view(p._data.dtype).reshape(p._data.shape)
            p._cell[0] += 1
            start += size


def _largest(array: Array) -> float:
    return float(abs(array).max())


class _Memory:
    """The last steps and gradient changes, and the direction that follows; kept in the state of the first parameter."""

    def __init__(self, entry: dict[str, Any], size: int) -> None:
        self.entry = entry
        self.size = size
        entry.setdefault("func_evals", 0)
        entry.setdefault("n_iter", 0)
        self.changes: list[Array] = _arrays(entry.get("old_dirs"))  # of the gradient
        self.steps: list[Array] = _arrays(entry.get("old_stps"))
        self.ro: list[float] = [float(r) for r in entry.get("ro") or []]
        self.scale = float(entry.get("H_diag", 1.0))
        self.length = float(entry.get("t", 0.0))
        self.direction: Array = entry["d"]._data if "d" in entry else None
        self.grad: Array = entry["prev_flat_grad"]._data if "prev_flat_grad" in entry else None
        self.loss: float = entry.get("prev_loss", 0.0)

    @property
    def iterations(self) -> int:
        """How many iterations were made since the optimizer was built."""
        return self.entry["n_iter"]  # type: ignore[no-any-return]

    def count(self, name: str, n: int) -> None:
        """Adds to one of the counts in the state."""
        self.entry[name] += n

    def turn(self, here: Point) -> None:
        """Takes in the step made last, and sets the direction at `here`."""
        self.count("n_iter", 1)
        if self.iterations == 1:
            self.changes, self.steps, self.ro, self.scale = [], [], [], 1.0
            self.direction = -here.grad
        else:
            self._remember(here.grad - self.grad, self.direction * self.length)
            self.direction = self._product(here.grad)
        self.grad, self.loss = here.grad.copy(), here.loss

    def _remember(self, change: Array, step: Array) -> None:
        curvature = float(change @ step)
        if curvature <= 1e-10:  # no descent in it: it would spoil the approximation
            return
        if len(self.steps) == self.size:
            del self.steps[0], self.changes[0], self.ro[0]
        self.changes.append(change)
        self.steps.append(step)
        self.ro.append(1.0 / curvature)
        self.scale = curvature / float(change @ change)

    def _product(self, grad: Array) -> Array:
        """Minus the approximate inverse Hessian times the gradient, by the two-loop recursion."""
        q, weights = -grad, []
        for step, change, ro in zip(reversed(self.steps), reversed(self.changes), reversed(self.ro), strict=True):
            weights.append(float(step @ q) * ro)
            q -= weights[-1] * change
        q *= self.scale
        for step, change, ro, weight in zip(self.steps, self.changes, self.ro, reversed(weights), strict=True):
            q += (weight - float(change @ q) * ro) * step
        return q

    def store(self) -> None:
        """Writes everything into the state, under torch's names."""
        self.entry.update(
            d=wrap(self.direction),
            t=self.length,
            old_dirs=[wrap(a) for a in self.changes],
            old_stps=[wrap(a) for a in self.steps],
            ro=list(self.ro),
            H_diag=self.scale,
            prev_flat_grad=wrap(self.grad),
            prev_loss=self.loss,
        )


def _arrays(tensors: list[Tensor] | None) -> list[Array]:
    return [t._data for t in tensors or []]
