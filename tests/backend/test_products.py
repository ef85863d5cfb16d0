"""Products that are cut into pieces, against those that are not."""

import numpy as np
import pytest

from distgrad.backend._numpy import _products
from distgrad.backend._numpy._products import add_product_of_columns, product_of_rows, zero_total


@pytest.mark.parametrize("small", [0, 10_000])
@pytest.mark.parametrize("m", [0, 1, 47, 48, 49, 200])
@pytest.mark.parametrize("turned", [False, True])
def test_pieces_give_the_whole(monkeypatch: pytest.MonkeyPatch, small: int, m: int, turned: bool) -> None:
    monkeypatch.setattr(_products, "_SMALL", small)
    _products._piece.cache_clear()
    try:
        random = np.random.default_rng(0)
        rows, others = random.standard_normal((9, m)).T, random.standard_normal((m, 4))
        if not turned:
            rows = np.ascontiguousarray(rows)
        weight = random.standard_normal((9, 5))
        out, total = np.empty((m, 5)), zero_total(9, 4, np.float64)
        product_of_rows(rows, weight, out)
        np.testing.assert_allclose(out, rows @ weight, rtol=1e-12, atol=1e-12)
        for _ in range(2):
            add_product_of_columns(rows, others, total)
        np.testing.assert_allclose(total, 2 * (rows.T @ others), rtol=1e-12, atol=1e-12)
    finally:
        _products._piece.cache_clear()
