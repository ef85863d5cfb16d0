"""Every registered operation at every sample: values, gradients, methods, and what must not change."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad.autograd import gradcheck, gradgradcheck
from distgrad.ops import OpSpec, registry
from tests.ops.samples import TOLERANCE, Array, Call, Samples, call, collect, map_arrays, numpy_dtype

SPECS = registry()
SAMPLES = collect()
Tensor = distgrad.Tensor


class Case:
    """One call of one operation in one dtype, with its arguments drawn."""

    def __init__(self, spec: OpSpec, samples: Samples, sample: Call, dtype: str, strided: bool = False) -> None:
        self.spec, self.samples, self.sample, self.dtype, self.strided = spec, samples, sample, dtype, strided
        rng = np.random.default_rng(1)
        self.hosts: Any = map_arrays(lambda a: (a, a.draw(dtype, rng)), (sample.args, sample.kwargs))

    def build(self, function: Callable[[Array, Any], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with each drawn array given to `function` with what it was drawn for."""
        return _map_drawn(function, self.hosts)  # type: ignore[no-any-return]

    def tensors(self, requires_grad: bool = False) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as tensors; those that can have gradients require them, if asked."""

        def make(a: Array, host: Any) -> Any:
            t = distgrad.from_numpy(_spread(host) if self.strided else host.copy())
            return t.requires_grad_() if requires_grad and _can_have_gradient(a, host) else t

        return self.build(make)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operation, with the seed set if it draws."""
        if self.samples.random:
            distgrad.manual_seed(7)
        return self.spec.function(*args, **kwargs)


def _map_drawn(function: Callable[[Array, Any], Any], value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Array):
        return function(*value)
    if isinstance(value, (list, tuple)):
        return type(value)(_map_drawn(function, v) for v in value)
    return {k: _map_drawn(function, v) for k, v in value.items()} if isinstance(value, dict) else value


def _spread(host: Any) -> Any:
    """The same values in memory with gaps, and the axes in another order."""
    wide = np.zeros((*host.shape[::-1], 2), dtype=host.dtype)
    view = wide[..., 0].transpose()
    view[...] = host
    return view


def _can_have_gradient(a: Array, host: Any) -> bool:
    return a.grad and a.dtype is None and np.dtype(host.dtype).kind in "fV"


def _tensors_in(value: Any) -> Iterator[Any]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _tensors_in(v)
    elif isinstance(value, dict):
        yield from _tensors_in(list(value.values()))


def _precise(host: Any) -> Any:
    return host.astype(np.float64) if np.dtype(host.dtype).kind in "fV" else host.copy()


# ---- the checkers ----------------------------------------------------------------------------------------------------


def check_values(case: Case) -> None:
    """The result is the reference's, in the right dtype, and the arguments are as before."""
    args, kwargs = case.tensors()
    before = [t.detach().numpy().copy() for t in _tensors_in((args, kwargs))]
    result = case.run(args, kwargs)
    for t, host in zip(_tensors_in((args, kwargs)), before, strict=True):
        assert t.numpy().tobytes() == host.tobytes(), "an argument was modified"
    ref_args, ref_kwargs = case.build(lambda a, host: _precise(host))
    if case.samples.check is not None:
        case.samples.check(_hosts(result), *ref_args, **ref_kwargs)
    if case.samples.reference is not None:
        with np.errstate(all="ignore"):
            expected = case.samples.reference(*ref_args, **ref_kwargs)
        _compare(_hosts(result), expected, case)


def _hosts(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.detach().numpy()
    if isinstance(result, (list, tuple)):
        return type(result)(*map(_hosts, result)) if hasattr(result, "_fields") else [_hosts(r) for r in result]
    return result


def _compare(result: Any, expected: Any, case: Case) -> None:
    if isinstance(result, (list, tuple)):
        assert len(result) == len(expected), f"expected {len(expected)} results, got {len(result)}"
        for r, e in zip(result, expected, strict=True):
            _compare(r, e, case)
        return
    if expected is None or isinstance(result, (str, type(None))):
        assert result is None or result == expected
        return
    value, wanted = np.asarray(result), np.asarray(expected)
    assert value.shape == wanted.shape, f"expected shape {wanted.shape}, got {value.shape}"
    if isinstance(result, np.ndarray) and case.samples.same_dtype:
        _check_dtype(value, wanted, case)
    if value.dtype.kind in "biu" and wanted.dtype.kind in "biu":
        assert np.array_equal(value, wanted), f"expected\n{wanted}\ngot\n{value}"
        return
    tolerance = case.samples.tolerance.get(case.dtype, TOLERANCE.get(case.dtype, TOLERANCE["float32"]))
    same = np.complex128 if "c" in (value.dtype.kind, wanted.dtype.kind) else np.float64
    np.testing.assert_allclose(value.astype(same), wanted.astype(same), rtol=tolerance, atol=tolerance)


def _check_dtype(value: Any, wanted: Any, case: Case) -> None:
    dtype = numpy_dtype(case.dtype)
    if dtype.kind in "fV" and wanted.dtype.kind == "f":
        assert value.dtype == dtype, f"expected dtype {dtype}, got {value.dtype}"
    elif wanted.dtype.kind == "b":
        assert value.dtype == np.bool_, f"expected a bool result, got {value.dtype}"


def check_method(case: Case) -> None:
    """`Tensor.<name>` gives what the function gives, and `<name>_` puts it into the tensor."""
    args, kwargs = case.tensors()
    place = own_position(case.spec)
    if len(args) <= place or not isinstance(args[place], Tensor):
        return
    expected = case.run(args, kwargs)
    own, others = args[place], (*args[:place], *args[place + 1 :])
    if case.samples.random:
        distgrad.manual_seed(7)
    _same(getattr(own, case.spec.name)(*others, **kwargs), expected)
    if not case.spec.inplace or expected.shape != own.shape or expected.dtype != own.dtype:
        return
    target = own.clone()
    if case.samples.random:
        distgrad.manual_seed(7)
    returned = getattr(target, case.spec.name + "_")(*others, **kwargs)
    assert returned is target, "an in-place method must return its tensor"
    _same(target, expected)


def own_position(spec: OpSpec) -> int:
    """Which argument of the function is `self` of the method: the one called input, else the first."""
    names = list(inspect.signature(spec.function).parameters)
    return names.index("input") if "input" in names else 0


def _same(value: Any, expected: Any) -> None:
    pairs = zip(_tensors_in(value), _tensors_in(expected), strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy(), equal_nan=a.dtype.is_floating_point) for a, b in pairs), (
        "method and function differ"
    )


def check_gradients(case: Case, twice: bool) -> None:
    """gradcheck, and gradgradcheck if `twice`."""
    args, kwargs = case.tensors(requires_grad=True)
    leaves = tuple(t for t in _tensors_in((args, kwargs)) if t.requires_grad)
    if not leaves:
        return

    def function(*given: Any) -> Any:
        # gradgradcheck hands in other tensors than the leaves: put them into the arguments in order.
        source = iter(given)
        these, named = map_arrays(lambda t: next(source) if t.requires_grad else t, (args, kwargs), Tensor)
        return tuple(t for t in _tensors_in(case.run(these, named)) if t.dtype.is_floating_point)

    assert gradcheck(function, leaves, check_grad_dtypes=True)
    if twice:
        assert gradgradcheck(function, leaves)


def check_fast_gradients(case: Case) -> None:
    """Backward on raw arrays (`backward_fast`) gives what the formula gives with create_graph, in the same dtypes."""
    plain, recorded = (_gradients(case, create_graph) for create_graph in (False, True))
    for a, b in zip(plain, recorded, strict=True):
        assert (a is None) == (b is None), "backward and backward_fast disagree on which gradients there are"
        if a is not None:
            assert a.dtype == b.dtype, f"backward_fast gives {a.dtype}, backward {b.dtype}"
            tolerance = 10 * TOLERANCE[case.dtype]
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)


def _gradients(case: Case, create_graph: bool) -> tuple[Any, ...]:
    args, kwargs = case.tensors(requires_grad=True)
    leaves = [t for t in _tensors_in((args, kwargs)) if t.requires_grad]
    outputs = [t for t in _tensors_in(case.run(args, kwargs)) if t.requires_grad]
    if not leaves or not outputs:
        return ()
    rng = np.random.default_rng(2)
    starts = [distgrad.tensor(rng.standard_normal(t.shape), dtype=t.dtype) for t in outputs]
    gradients = distgrad.autograd.grad(outputs, leaves, starts, create_graph=create_graph, allow_unused=True)
    for leaf, g in zip(leaves, gradients, strict=True):
        assert g is None or (g.dtype == leaf.dtype and g.shape == leaf.shape), (
            f"a gradient of {g.dtype} {g.shape} for {leaf.dtype} {leaf.shape}"
        )
    return gradients


# ---- the cases -------------------------------------------------------------------------------------------------------


def _cases() -> Iterator[Any]:
    for name, samples in SAMPLES.items():
        for number, sample in enumerate(samples.calls):
            yield pytest.param(name, sample, id=f"{name}-{number}-{sample!r}")


@pytest.mark.parametrize(("name", "sample"), list(_cases()))
def test_operation(name: str, sample: Call) -> None:
    """One call of one operation, through every checker that its spec asks for."""
    spec, samples = SPECS[name], SAMPLES[name]
    for dtype in sample.dtypes or samples.dtypes:
        layouts = (False, True) if sample.strided else (False,)
        for strided in layouts:
            check_values(Case(spec, samples, sample, dtype, strided))
        if spec.method:
            check_method(Case(spec, samples, sample, dtype))
    if spec.differentiable and sample.grad:
        for dtype in {"float16", "bfloat16"}.intersection(sample.dtypes or samples.dtypes):
            _gradients(Case(spec, samples, sample, dtype), create_graph=False)  # in the dtype of the inputs
    if spec.differentiable and sample.grad and "float64" in (sample.dtypes or samples.dtypes):
        check_gradients(Case(spec, samples, sample, "float64"), spec.twice and sample.twice)
        if spec.twice and sample.twice:
            for strided in (False, True) if sample.strided else (False,):
                check_fast_gradients(Case(spec, samples, sample, "float32", strided))


def test_every_operation_has_samples() -> None:
    """No operation is registered without samples, and no samples are left of one that is gone."""
    assert sorted(SPECS.keys() - SAMPLES.keys()) == []
    assert sorted(SAMPLES.keys() - SPECS.keys()) == []


@pytest.mark.parametrize("name", sorted(SPECS))
def test_methods_match_their_functions(name: str) -> None:
    """`Tensor.<name>` exists with the function's arguments, and `<name>_` where the spec says so."""
    assert method_problems(SPECS[name]) == []


def method_problems(spec: OpSpec) -> list[str]:
    """What is missing or differs between a function and its methods."""
    problems = []
    if spec.method:
        method = getattr(Tensor, spec.name, None)
        if method is None:
            problems.append(f"Tensor.{spec.name} is missing")
        elif not isinstance(method, property):
            ours = list(inspect.signature(method).parameters.values())[1:]
            theirs = list(inspect.signature(spec.function).parameters.values())
            del theirs[own_position(spec)]
            same_names = [p.name for p in ours] == [p.name for p in theirs]
            if not same_names or any(p.default not in (p.empty, q.default) for p, q in zip(ours, theirs, strict=True)):
                problems.append(f"Tensor.{spec.name} takes {ours}, the function {theirs}")
    if spec.inplace and not hasattr(Tensor, spec.name + "_"):
        problems.append(f"Tensor.{spec.name}_ is missing")
    return problems


# ---- each checker notices a planted bug ------------------------------------------------------------------------------


def _planted(function: Callable[..., Any], reference: Callable[..., Any], sample: Call, **flags: Any) -> Case:
    fields = {"family": "planted", "method": False, "differentiable": True, "twice": True, "inplace": False} | flags
    spec = OpSpec(name=fields.pop("name", "planted"), function=function, **fields)
    return Case(spec, Samples(reference, [sample]), sample, "float64")


def test_a_wrong_value_is_noticed() -> None:
    case = _planted(lambda x: x * 1.0001, lambda x: x, call(Array(2, 3)))
    with pytest.raises(AssertionError, match="Not equal"):
        check_values(case)


def test_a_wrong_dtype_is_noticed() -> None:
    case = _planted(lambda x: x.to(dtype="float32"), lambda x: x.astype(np.float32), call(Array(2, 3)))
    with pytest.raises(AssertionError, match="expected dtype float64"):
        check_values(case)


def test_a_wrong_shape_is_noticed() -> None:
    case = _planted(lambda x: x, lambda x: x.reshape(-1), call(Array(2, 3)))
    with pytest.raises(AssertionError, match="expected shape"):
        check_values(case)


def test_a_modified_argument_is_noticed() -> None:
    case = _planted(lambda x: x.mul_(2), lambda x: 2 * x, call(Array(2, 3)))
    with pytest.raises(AssertionError, match="modified"):
        check_values(case)


def test_a_wrong_gradient_is_noticed() -> None:
    case = _planted(lambda x: x * x.detach(), lambda x: x * x, call(Array(2, 3)))
    check_values(case)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        check_gradients(case, twice=False)


class _CubeWithoutSecondDerivative(distgrad.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * (x * x).detach() * 3


def test_a_wrong_second_derivative_is_noticed() -> None:
    case = _planted(_CubeWithoutSecondDerivative.apply, lambda x: x**3, call(Array(2, 3)))
    check_gradients(case, twice=False)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        check_gradients(case, twice=True)


class _WrongWhenFast(distgrad.autograd._op.Op):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(xp: Any, ctx: Any, g: Any) -> Any:
        return g * 2

    @staticmethod
    def backward_fast(xp: Any, ctx: Any, g: Any) -> Any:
        return g * 2.01


def test_a_wrong_fast_gradient_is_noticed() -> None:
    case = _planted(lambda x: distgrad.autograd._op.apply1(_WrongWhenFast, x), lambda x: 2 * x, call(Array(2, 3)))
    with pytest.raises(AssertionError, match="Not equal"):
        check_fast_gradients(case)


def test_a_wrong_method_is_noticed() -> None:
    case = _planted(lambda x: x.exp(), np.exp, call(Array(2, 3)), name="log", method=True)
    with pytest.raises(AssertionError, match="method and function differ"):
        check_method(case)


def test_a_wrong_in_place_method_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = _planted(lambda input: input.exp(), np.exp, call(Array(2, 3)), name="exp", method=True, inplace=True)
    check_method(case)
    monkeypatch.setattr(Tensor, "exp_", lambda self: self.mul_(2))
    with pytest.raises(AssertionError, match="method and function differ"):
        check_method(case)
    monkeypatch.setattr(Tensor, "exp_", lambda self: self.exp())
    with pytest.raises(AssertionError, match="must return its tensor"):
        check_method(case)


def test_missing_samples_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SAMPLES, "exp")
    with pytest.raises(AssertionError):
        test_every_operation_has_samples()


def test_a_missing_method_is_noticed() -> None:
    assert method_problems(_planted(lambda x: x, abs, call(Array(2)), name="no_such_method", method=True).spec) != []
    assert method_problems(_planted(lambda x: x, abs, call(Array(2)), name="no_such_method", inplace=True).spec) != []
    assert method_problems(_planted(lambda x, other: x, abs, call(Array(2)), name="exp", method=True).spec) != []
