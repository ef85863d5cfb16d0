"""Everything that the stand-in for CuPy is tested with, on a real GPU; and what only a real one has.

`make gpu` runs this. Without a GPU it is one skip, with the reason.
"""

import importlib
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import cuda
from distgrad.backend import cuda_problem
from tests.backend.on_device import *  # noqa: F403 - the tests themselves
from tests.backend.on_device_training import *  # noqa: F403
from tests.jobs import installed_mpis, run_job

problem = cuda_problem()
if problem is not None:
    pytest.skip(f"no GPU: {problem}", allow_module_level=True)

# CuPy warns of what is slow on some machines; that is no failure.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.fixture
def device() -> str:
    return "cuda"


@pytest.fixture
def cupy() -> Any:
    return importlib.import_module("cupy")


@pytest.mark.parametrize("backend", ["mpi", "shm"], ids=lambda name: f"over-{name}")
def test_ddp_on_two_ranks_of_one_gpu(backend: str) -> None:
    """Gradients go through host memory."""
    if not installed_mpis():
        pytest.skip("no mpirun beside this Python; install distgrad[mpich]")
    for mpi in installed_mpis():
        outcome = run_job(mpi.job(2, "-m", "tests.backend.ddp_job", "gpu", backend), deadline=180.0)
        assert outcome.code == 0 and outcome.output.count("all is well") == 2, outcome.output


def test_the_device_tells_about_itself() -> None:
    assert cuda.is_available() and cuda.device_count() >= 1
    assert cuda.get_device_name() and 0 <= cuda.current_device() < cuda.device_count()
    held = distgrad.zeros(1 << 20, device="cuda")
    assert cuda.memory_reserved() >= cuda.memory_allocated() >= held.nbytes
    free, total = cuda.mem_get_info()
    assert 0 < free <= total and cuda.get_device_capability() >= (5, 0)
    cuda.synchronize()
    cuda.empty_cache()


def test_cupy_arrays_share_memory_with_tensors(cupy: Any) -> None:
    array = cupy.arange(4, dtype="float32")
    t = distgrad.from_dlpack(array)
    t += 1
    assert t.is_cuda and array.get().tolist() == [1, 2, 3, 4]
    back = cupy.asarray(t)
    back *= 2
    assert t.tolist() == [2, 4, 6, 8]
    assert cupy.from_dlpack(t).get().tolist() == [2, 4, 6, 8]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    found = []
    for where in ("cuda", "cpu"):
        distgrad.manual_seed(1)
        a, b = (distgrad.randn(2, 3, 4, device=where).to(getattr(distgrad, dtype)) for _ in range(2))
        a.requires_grad_()
        y = (a @ b.transpose(1, 2)).softmax(-1).tanh() * 2
        y.sum().backward()
        found.append([numpy_of(t.float()) for t in (y, a.grad)])  # noqa: F405
    for value, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=3e-2, atol=3e-2)


def test_large_arrays() -> None:
    """More elements than one launch has threads, and products that need cuBLAS."""
    x = distgrad.randn(2048, 2048)
    there = x.to("cuda")
    np.testing.assert_allclose(there.sum().item(), x.sum().item(), rtol=1e-3, atol=1)
    np.testing.assert_allclose(numpy_of(there @ there)[:4], numpy_of(x @ x)[:4], rtol=1e-3, atol=1e-2)  # noqa: F405
    weight = distgrad.nn.Parameter(distgrad.zeros(5_000_000, device="cuda"))
    weight.grad = distgrad.ones_like(weight)
    distgrad.optim.SGD([weight], lr=0.5).step()
    assert weight.min().item() == weight.max().item() == -0.5
