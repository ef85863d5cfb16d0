"""Special functions of the NumPy backend against SciPy."""

import numpy as np
import pytest
import scipy.special

from distgrad.backend import CPU

X = np.concatenate([np.linspace(-8, 8, 4001), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-300, 0.46875, 4.0, 6.0]])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 2e-15), ("float32", 3e-7)])
def test_erf_and_sigmoid(dtype: str, tolerance: float) -> None:
    x = X.astype(dtype)
    with CPU.quiet():
        for name, reference in (("erf", scipy.special.erf), ("sigmoid", scipy.special.expit)):
            result = getattr(CPU.kernels.special, name)(x)
            assert result.dtype == x.dtype
            np.testing.assert_allclose(result, reference(x), rtol=tolerance, atol=1e-300)


def test_shapes_and_layouts() -> None:
    x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4)
    for view in (x, x.T, x[:, ::2], x[0, 0, 0:0], np.asarray(x[0, 0, 0])):
        for name in ("erf", "erfc", "sigmoid"):
            result = getattr(CPU.kernels.special, name)(view)
            assert result.shape == view.shape
            np.testing.assert_allclose(result, getattr(CPU.kernels.special, name)(view.copy()))


def test_erfc_keeps_its_digits_where_it_is_small() -> None:
    x = np.linspace(-7, 26, 20001)
    with np.errstate(under="ignore"):
        np.testing.assert_allclose(CPU.kernels.special.erfc(x), scipy.special.erfc(x), rtol=1e-12)
    ends = CPU.kernels.special.erfc(np.array([np.inf, -np.inf, 40.0, np.nan]))
    np.testing.assert_array_equal(ends, [0, 2, 0, np.nan])
    assert CPU.kernels.special.erfc(np.array(5, dtype=np.float32)) == np.float32(scipy.special.erfc(5))
