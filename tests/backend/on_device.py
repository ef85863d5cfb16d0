"""What must hold on a GPU: tests for whoever imports them and gives a fixture `device`, the name of one.

`test_cupy.py` runs them on the stand-in for CuPy, `tests/gpu` on a real GPU. Everything is compared with the CPU, whose
results have tests of their own.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad.backend import CPU, backend_of, cuda_backend
from tests.backend.kernel_cases import CASES, KernelCase
from tests.ops.samples import TOLERANCE, Call
from tests.ops.test_registry import SAMPLES, SPECS, Case, own_position

Tensor = distgrad.Tensor
LOOSE = 10  # times the tolerance of the CPU's tests: sums run in another order


def tensors_in(value: Any) -> Iterator[Any]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from tensors_in(v)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def check_close(value: Any, wanted: Any, tolerance: float) -> None:
    """Two host arrays agree in shape, dtype and values."""
    assert value.shape == wanted.shape, f"expected shape {wanted.shape}, got {value.shape}"
    assert value.dtype == wanted.dtype, f"expected dtype {wanted.dtype}, got {value.dtype}"
    if value.dtype.kind in "biu":
        assert np.array_equal(value, wanted), f"expected\n{wanted}\ngot\n{value}"
        return
    same = np.complex128 if value.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(value.astype(same), wanted.astype(same), rtol=tolerance, atol=tolerance)


# ---- kernels ---------------------------------------------------------------------------------------------------------


def _map(function: Any, value: Any, kind: Any) -> Any:
    if isinstance(value, kind):
        return function(value)
    return type(value)(_map(function, v, kind) for v in value) if isinstance(value, (list, tuple)) else value


def check_kernel(case: KernelCase, backend: Any, device: str) -> None:
    """One kernel gives what the CPU's gives: results, and arrays that it writes to."""
    place = backend.resolve(distgrad.device(device))
    for dtype, tolerance in case.dtypes.items():
        here: Any = case.arguments(np.random.default_rng(3), dtype)
        there = _map(lambda a: backend.from_host(a, place), here, np.ndarray)
        with np.errstate(all="ignore"):
            wanted = getattr(getattr(CPU.kernels, case.family), case.method)(*here)
        result = getattr(getattr(backend.kernels, case.family), case.method)(*there)
        result, wanted = case.compared(result), case.compared(wanted)
        _check_tree(result, wanted, backend, tolerance, f"the result of {case} in {dtype}")
        _check_tree(there, list(here), backend, tolerance, f"an argument of {case} in {dtype}, after the call")


def _check_tree(value: Any, wanted: Any, backend: Any, tolerance: float, what: str) -> None:
    if isinstance(wanted, (list, tuple)):
        assert len(value) == len(wanted), what
        for v, w in zip(value, wanted, strict=True):
            _check_tree(v, w, backend, tolerance, what)
    elif isinstance(wanted, np.ndarray):
        assert isinstance(value, backend.array_type), f"{what} is a {type(value).__name__}"
        try:
            check_close(backend.to_numpy(value), wanted, tolerance)
        except AssertionError as error:
            raise AssertionError(f"{what} differs from the CPU's: {error}") from None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel(case: KernelCase, device: str) -> None:
    backend = cuda_backend()
    assert backend is not None
    check_kernel(case, backend, device)


# ---- operations ------------------------------------------------------------------------------------------------------


def _arguments(case: Case, device: str, requires_grad: bool) -> Any:
    """The drawn arguments as tensors on the device; with gaps in memory where the case asks for that."""

    def make(a: Any, host: Any) -> Any:
        if case.strided:
            wide = np.zeros((*host.shape[::-1], 2), dtype=host.dtype)
            wide[..., 0] = host.transpose()
            t = distgrad.from_numpy(wide).to(device)[..., 0].permute(*reversed(range(host.ndim))).detach()
        else:
            t = distgrad.from_numpy(host.copy()).to(device, copy=True)
        return t.requires_grad_() if requires_grad and a.grad and a.dtype is None and t.is_floating_point() else t

    return case.build(make)


def _run(case: Case, device: str, gradients: bool, create_graph: bool) -> tuple[list[Any], list[Any]]:
    """The results, and the gradients of all leaves for a made-up gradient of the results."""
    args, kwargs = _arguments(case, device, gradients)
    if "device" in kwargs:
        kwargs["device"] = device
    distgrad.manual_seed(7)
    results = list(tensors_in(case.spec.function(*args, **kwargs)))
    leaves = [t for t in tensors_in((args, kwargs)) if t.requires_grad]
    outputs = [t for t in results if t.requires_grad]
    if not leaves or not outputs:
        return results, []
    rng = np.random.default_rng(2)
    starts = [distgrad.tensor(rng.standard_normal(t.shape), dtype=t.dtype, device=device) for t in outputs]
    found = distgrad.autograd.grad(outputs, leaves, starts, create_graph=create_graph, allow_unused=True)
    return results, [g for g in found if g is not None]


def check_operation(case: Case, device: str, gradients: bool, create_graph: bool = False) -> None:
    """One call on the device gives the results and gradients of the CPU, and they lie on the device."""
    wanted = _run(case, "cpu", gradients, create_graph)
    found = _run(case, device, gradients, create_graph)
    tolerance = LOOSE * max(TOLERANCE.get(case.dtype, 2e-5), case.samples.tolerance.get(case.dtype, 0))
    for value, expected, what in zip(found, wanted, ("result", "gradient"), strict=True):
        assert len(value) == len(expected), f"{len(value)} {what}s instead of {len(expected)}"
        for v, e in zip(value, expected, strict=True):
            assert v.is_cuda, f"a {what} is on the CPU"
            if case.samples.reference is not None or not case.samples.random:
                check_close(v.detach().cpu().numpy(), e.detach().numpy(), tolerance)


def check_in_place(case: Case, device: str) -> None:
    """The in-place method gives on the device what it gives on the CPU, or is an error on both."""
    found = []
    for where in ("cpu", device):
        args, kwargs = _arguments(case, where, False)
        place = own_position(case.spec)
        if not isinstance(args[place], Tensor):
            return
        target = args[place].clone()
        distgrad.manual_seed(7)
        try:
            getattr(target, case.spec.name + "_")(*args[:place], *args[place + 1 :], **kwargs)
        except (RuntimeError, TypeError, ValueError) as error:
            found.append(type(error))
        else:
            found.append(target.cpu().numpy())
    wanted, value = found
    if isinstance(wanted, type):
        assert wanted is value, f"expected {wanted} in place, got {value}"
    else:
        check_close(value, wanted, LOOSE * TOLERANCE.get(case.dtype, 2e-5))


def _operations() -> Iterator[Any]:
    for name, samples in SAMPLES.items():
        for number, sample in enumerate(samples.calls):
            yield pytest.param(name, sample, id=f"{name}-{number}-{sample!r}")


@pytest.mark.parametrize(("name", "sample"), list(_operations()))
def test_operation(name: str, sample: Call, device: str) -> None:
    spec, samples = SPECS[name], SAMPLES[name]
    dtypes = sample.dtypes or samples.dtypes
    for dtype in dtypes:
        check_operation(Case(spec, samples, sample, dtype), device, gradients=False)
    if sample.strided:
        check_operation(Case(spec, samples, sample, dtypes[0], strided=True), device, gradients=False)
    if spec.inplace and sample.args and len(sample.args) > own_position(spec):
        check_in_place(Case(spec, samples, sample, dtypes[0]), device)
    if spec.differentiable and sample.grad:
        dtype = "float32" if "float32" in dtypes else dtypes[0]
        check_operation(Case(spec, samples, sample, dtype), device, gradients=True)
        if spec.twice and sample.twice:
            check_operation(Case(spec, samples, sample, dtype), device, gradients=True, create_graph=True)


def test_mixing_devices_is_an_error(device: str) -> None:
    a, b = distgrad.ones(2, device=device), distgrad.ones(2)
    for mixed in (lambda: a + b, lambda: b * a, lambda: distgrad.cat([a, b]), lambda: distgrad.where(a > 0, a, b)):
        with pytest.raises(distgrad.errors.DeviceError, match="one device"):
            mixed()
    assert backend_of((a + 1)._data).type == "cuda"
