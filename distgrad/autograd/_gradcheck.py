"""Checks of gradients against finite differences."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import as_array, backend_of
from ..errors import AutogradError
from ._base import LEAF_MARK, TensorBase, wrap
from ._engine import grad
from ._mode import enable_grad

Jacobian = "np.ndarray[Any, Any]"  # (elements of the input, elements of the output)


class GradcheckError(AutogradError):
    """A gradient does not agree with finite differences."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Compares the gradients of `func` with central differences, for every input that requires grad.

    Args:
        func: takes the inputs, returns a tensor or several.
        inputs: a tensor or a tuple; those that require grad should be float64, else the differences are too coarse.
        eps: the step of the differences.
        atol, rtol: how far both may be apart, as in `allclose`.
        raise_exception: raise where they are; otherwise return False.
        nondet_tol: how far two backward passes may be apart.
        check_undefined_grad: also check that an output without gradient counts as one of gradient zero.
        check_grad_dtypes: also check that each gradient has the dtype of its input.
        check_backward_ad: False checks nothing.
        fast_mode: compare one random projection of the Jacobian instead of all of it.
        check_batched_grad, check_batched_forward_grad, check_forward_ad, masked: as in torch; only the defaults work.

    Returns:
        Whether all agree.

    Raises:
        GradcheckError: a gradient is wrong; the message has both Jacobians.
    """
    if check_batched_grad or check_batched_forward_grad or check_forward_ad:
        raise AutogradError(
            "gradcheck: batched gradients and forward-mode differentiation are not supported; leave these checks False"
        )
    arguments = inputs if isinstance(inputs, tuple) else tuple(inputs) if isinstance(inputs, list) else (inputs,)
    check = _Check(func, arguments, eps, atol, rtol, nondet_tol, check_undefined_grad, check_grad_dtypes)
    try:
        if check_backward_ad:
            check.fast() if fast_mode else check.slow()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """As `gradcheck`, for the gradients of `func`: with respect to its inputs and to the gradients of its outputs.

    Args:
        grad_outputs: the output gradients to check at; random ones by default.
        gen_non_contig_grad_outputs: make those non-contiguous.
    """
    if check_fwd_over_rev:
        raise AutogradError(
            "gradgradcheck: forward-mode differentiation is not supported; leave check_fwd_over_rev False"
        )
    if not check_rev_over_rev:
        return True
    arguments = inputs if isinstance(inputs, tuple) else tuple(inputs) if isinstance(inputs, list) else (inputs,)
    given = _output_gradients(func, arguments, grad_outputs, gen_non_contig_grad_outputs)
    count = len(arguments)

    def gradients(*args: Any) -> tuple[Any, ...]:
        these = args[:count]
        wanted = [t for t in these if _checked(t)]
        # A view of each, so that the gradient flows to it and not past it where the input is its own output.
        found = grad(_differentiable(func(*these)), wanted, list(args[count:]), create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradients,
        (*arguments, *given),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        fast_mode=fast_mode,
    )


def _output_gradients(func: Callable[..., Any], inputs: tuple[Any, ...], given: Any, strided: bool) -> list[Any]:
    if given is not None:
        return list(given) if isinstance(given, (tuple, list)) else [given]
    rng = np.random.default_rng(0)
    result = []
    for output in _differentiable(func(*inputs)):
        xp, shape = backend_of(output._data).xp, output._data.shape
        values = xp.asarray(rng.standard_normal((*shape, 2)), dtype=output._data.dtype)
        array = values[..., 0] if strided else values[..., 0].copy()
        result.append(wrap(as_array(array), LEAF_MARK))
    return result


def _checked(t: Any) -> bool:
    return isinstance(t, TensorBase) and t._target is not None


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def _differentiable(outputs: Any) -> list[Any]:
    return [
        o
        for o in _listed(outputs)
        if isinstance(o, TensorBase) and o._data.dtype.kind in "fcV" and o._target is not None
    ]


class _Check:
    """One call of `gradcheck`."""

    def __init__(
        self,
        func: Callable[..., Any],
        inputs: tuple[Any, ...],
        eps: float,
        atol: float,
        rtol: float,
        nondet: float,
        undefined: bool,
        dtypes: bool,
    ) -> None:
        self.func = func
        self.inputs = inputs
        self.eps, self.atol, self.rtol, self.nondet = eps, atol, rtol, nondet
        self.undefined = undefined
        self.dtypes = dtypes
        self.wanted = [(i, t) for i, t in enumerate(inputs) if _checked(t)]
        if not self.wanted:
            raise ValueError(
                "gradcheck: expected at least one input tensor that requires grad, and none of the inputs does"
            )
        for i, t in self.wanted:
            if t._data.size and any(
                n > 1 and step == 0 for n, step in zip(t._data.shape, t._data.strides, strict=True)
            ):
                raise AutogradError(
                    f"gradcheck: input {i} is expanded: one element stands for several; pass .contiguous() of it"
                )
            if t._data.dtype not in (np.float64, np.complex128):
                warnings.warn(
                    f"gradcheck: input {i} is {t._data.dtype}; differences of size {eps} need float64", stacklevel=4
                )
        with enable_grad():
            self.outputs = _differentiable(func(*inputs))

    def slow(self) -> None:
        """Compares whole Jacobians."""
        numeric = self.numeric()
        for k in range(max(len(self.outputs), 1)):
            analytic = self.analytic(k) if self.outputs else {}
            for i, t in self.wanted:
                mine = analytic.get(i, np.zeros((t._data.size, numeric[i][k].shape[1])))
                self.compare(mine, numeric[i][k], i, k)
        self.undefined_gradients()

    def fast(self) -> None:
        """Compares one projection of each Jacobian: v.T J u."""
        rng = np.random.default_rng(0)
        for k, output in enumerate(self.outputs):
            v = rng.standard_normal(output._data.shape)
            rows = self.gradients(k, v)
            for i, t in self.wanted:
                u = rng.standard_normal(t._data.shape)
                numeric = (self.differences(t, u)[k] * v).sum()
                mine = (rows[i] * u).sum() if i in rows else 0.0
                self.compare(np.asarray(mine).reshape(1, 1), np.asarray(numeric).reshape(1, 1), i, k)
        self.undefined_gradients()

    def gradients(self, k: int, g: Any) -> dict[int, Any]:
        """The gradient of output `k` that starts as `g`, as a host array for each checked input that took part."""
        output = self.outputs[k]
        start = wrap(as_array(backend_of(output._data).xp.asarray(g, dtype=output._data.dtype)))
        found = grad(output, [t for _, t in self.wanted], start, retain_graph=True, allow_unused=True)
        result = {}
        for (i, t), value in zip(self.wanted, found, strict=True):
            if value is None:
                continue
            if value._data.shape != t._data.shape:
                raise GradcheckError(
                    f"gradient of input {i}: expected shape {list(t._data.shape)}, got {list(value._data.shape)}"
                )
            if self.dtypes and value._data.dtype != t._data.dtype:
                raise GradcheckError(f"gradient of input {i}: expected dtype {t._data.dtype}, got {value._data.dtype}")
            result[i] = _host(value._data)
        return result

    def analytic(self, k: int) -> dict[int, Any]:
        """The Jacobians of output `k` by backward, a column for each of its elements."""
        shape = self.outputs[k]._data.shape
        size = self.outputs[k]._data.size
        jacobians = {i: np.zeros((t._data.size, size), dtype=t._data.dtype) for i, t in self.wanted}
        for column in range(size):
            g = np.zeros(size)
            g[column] = 1.0
            first = self.gradients(k, g.reshape(shape))
            for i, value in first.items():
                jacobians[i][:, column] = value.reshape(-1)
            if column == 0:
                self.repeatable(first, self.gradients(k, g.reshape(shape)))
        return jacobians

    def repeatable(self, first: dict[int, Any], second: dict[int, Any]) -> None:
        for i, value in first.items():
            if value.size and np.abs(value - second[i]).max() > self.nondet:
                raise GradcheckError(
                    f"backward is not repeatable: two passes gave different gradients of input {i} (nondet_tol "
                    f"{self.nondet})"
                )

    def numeric(self) -> dict[int, list[Any]]:
        """The Jacobians of all outputs by central differences, for each input."""
        jacobians = {}
        for i, t in self.wanted:
            rows = [self.differences(t, direction) for direction in _unit_vectors(t._data.shape)]
            sizes = [d.size for d in rows[0]] if rows else [o._data.size for o in self.outputs] or [0]
            jacobians[i] = [
                np.asarray([row[k] for row in rows]).reshape(t._data.size, size) for k, size in enumerate(sizes)
            ]
        return jacobians

    def differences(self, t: Any, direction: Any) -> list[Any]:
        """The slope of every output along a direction of `t`."""
        pairs = zip(self.shifted(t, direction), self.shifted(t, -direction), strict=True)
        return [(plus - minus) / (2 * self.eps) for plus, minus in pairs]

    def shifted(self, t: Any, direction: Any) -> list[Any]:
        """The outputs with `t` moved by ``eps * direction``, in place and back."""
        before = t._data.copy()
        t._data[...] += backend_of(before).xp.asarray(self.eps * direction, dtype=before.dtype)
        try:
            with enable_grad():
                outputs = _listed(self.func(*self.inputs))
            return self.values(outputs)  # copies, before the way back: an output may share memory with `t`
        finally:
            t._data[...] = before

    def values(self, outputs: list[Any]) -> list[Any]:
        """The outputs on the host; all as one vector where none has a gradient."""
        if self.outputs:
            return [_host(o._data) for o in _differentiable(outputs)]
        floating = [o for o in outputs if isinstance(o, TensorBase) and o._data.dtype.kind in "fc"]
        return [np.concatenate([_host(o._data).reshape(-1) for o in floating]) if floating else np.zeros(0)]

    def compare(self, analytic: Any, numeric: Any, i: int, k: int) -> None:
        if not np.allclose(analytic, numeric, rtol=self.rtol, atol=self.atol, equal_nan=True):
            raise GradcheckError(
                f"Jacobian mismatch for output {k} with respect to input {i}\nnumerical:\n{numeric}\n"
                f"analytical:\n{analytic}\n"
                f"(rows: elements of the input; columns: elements of the output)"
            )

    def undefined_gradients(self) -> None:
        """An output that receives no gradient must count as one that receives zeros."""
        if not self.undefined or len(self.outputs) < 2:
            return
        for k, output in enumerate(self.outputs):
            alone = self.gradients(k, np.ones(output._data.shape))
            starts = [
                wrap(backend_of(o._data).xp.full_like(o._data, 1.0 if j == k else 0.0))
                for j, o in enumerate(self.outputs)
            ]
            found = grad(self.outputs, [t for _, t in self.wanted], starts, retain_graph=True, allow_unused=True)
            for (i, t), value in zip(self.wanted, found, strict=True):
                other = np.zeros(t._data.shape) if value is None else _host(value._data)
                if not np.allclose(alone.get(i, np.zeros(t._data.shape)), other, equal_nan=True):
                    raise GradcheckError(
                        f"output {k} alone gives another gradient of input {i} than with zeros for the other outputs"
                    )


def _unit_vectors(shape: tuple[int, ...]) -> Iterator[Any]:
    size = int(np.prod(shape))
    for position in range(size):
        direction = np.zeros(size)
        direction[position] = 1.0
        yield direction.reshape(shape)


def _host(array: Any) -> Any:
    """A copy in host memory, never a view of what will be moved."""
    return np.array(backend_of(array).to_numpy(array))
