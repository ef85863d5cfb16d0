"""Random tensors: seeds and states, distributions, errors. Thresholds are far out, and the seeds fixed."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

import distgrad as dg

N = 200_000


@pytest.fixture(autouse=True)
def seed() -> None:
    dg.manual_seed(1234)


# ---- generators ------------------------------------------------------------------------------------------------------


def test_a_seed_repeats() -> None:
    first = (dg.randn(5).tolist(), dg.rand(3).tolist(), dg.randperm(4).tolist())
    dg.manual_seed(1234)
    assert (dg.randn(5).tolist(), dg.rand(3).tolist(), dg.randperm(4).tolist()) == first
    dg.manual_seed(1235)
    assert dg.randn(5).tolist() != first[0]
    assert dg.initial_seed() == 1235


def test_any_integer_is_a_seed() -> None:
    for value in (0, -1, 2**40, 2**64 - 1):
        assert dg.Generator().manual_seed(value).initial_seed() == value % 2**64


def test_a_state_continues() -> None:
    dg.randn(3)
    dg.randint(0, 10, (3,))
    state = dg.get_rng_state()
    expected = dg.randn(7).tolist() + dg.rand(3).tolist() + dg.randint(0, 100, (3,)).tolist()
    dg.set_rng_state(state)
    assert dg.randn(7).tolist() + dg.rand(3).tolist() + dg.randint(0, 100, (3,)).tolist() == expected
    assert state.dtype == dg.uint8
    with pytest.raises(ValueError, match="random state"):
        dg.set_rng_state(dg.zeros(3, dtype=dg.uint8))


def test_a_state_holds_half_used_words() -> None:
    g = dg.Generator().manual_seed(3)
    dg.rand(3, generator=g)  # float32 numbers use half of a 64-bit word each
    copied = g.clone_state()
    assert dg.rand(5, generator=g).tolist() == dg.rand(5, generator=copied).tolist()
    assert copied.initial_seed() == 3


def test_a_generator_is_apart_from_the_default() -> None:
    g = dg.Generator().manual_seed(1234)
    expected = dg.randn(4).tolist()
    dg.manual_seed(1234)
    assert dg.randn(4, generator=g).tolist() == expected
    assert dg.randn(4).tolist() == expected
    assert g.device == dg.device("cpu")


def test_generators_pickle() -> None:
    g = dg.Generator().manual_seed(5)
    dg.randn(3, generator=g)
    for other in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g)):
        assert dg.randn(4, generator=other).tolist() == dg.randn(4, generator=g.clone_state()).tolist()


def test_seed_draws_a_seed() -> None:
    assert dg.seed() != dg.seed()
    g = dg.Generator()
    assert g.seed() == g.initial_seed()


# ---- distributions ---------------------------------------------------------------------------------------------------


def fits(sample: dg.Tensor, cdf: Callable[[np.ndarray], np.ndarray]) -> bool:
    """The Kolmogorov-Smirnov test at six standard errors."""
    return bool(scipy.stats.kstest(sample.double().numpy().reshape(-1), cdf).pvalue > 1e-9)


@pytest.mark.parametrize("dtype", [dg.float32, dg.float64])
@pytest.mark.parametrize("size", [N, N + 1, (301, 77)])
def test_normal_and_uniform(dtype: dg.dtype, size: object) -> None:
    z, u = dg.randn(size, dtype=dtype), dg.rand(size, dtype=dtype)
    assert z.dtype == u.dtype == dtype
    assert fits(z, scipy.stats.norm.cdf) and fits(u, scipy.stats.uniform.cdf)
    assert u.min().item() >= 0 and u.max().item() < 1
    flat = z.reshape(-1).double().numpy()
    for lag in (1, 2, 16384, flat.size // 2):  # neighbours, and the two halves of a Box-Muller block
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 6 / np.sqrt(flat.size - lag)
    assert abs(np.corrcoef(flat[:-16384] ** 2, flat[16384:] ** 2)[0, 1]) < 6 / np.sqrt(flat.size - 16384)


def test_the_ks_test_notices_a_wrong_spread() -> None:
    assert not fits(dg.randn(N) * 1.05, scipy.stats.norm.cdf)


@pytest.mark.parametrize("dtype", [dg.float16, dg.bfloat16])
def test_half_precision(dtype: dg.dtype) -> None:
    u = dg.rand(N, dtype=dtype)
    assert u.dtype == dtype and u.float().max().item() < 1 and abs(u.float().mean().item() - 0.5) < 0.01
    assert abs(dg.randn(N, dtype=dtype).float().std().item() - 1) < 0.02


def test_randint() -> None:
    t = dg.randint(3, 7, (N,))
    assert t.dtype == dg.int64
    counts = np.bincount(t.numpy(), minlength=7)
    assert counts[:3].sum() == 0 and (abs(counts[3:] / N - 0.25) < 0.01).all()
    assert dg.randint(5, (2, 3)).shape == (2, 3)
    assert dg.randint(5, (2,), dtype=dg.float32).dtype == dg.float32
    with pytest.raises(ValueError, match="low < high"):
        dg.randint(3, 3, (1,))


def test_randperm() -> None:
    p = dg.randperm(100)
    assert sorted(p.tolist()) == list(range(100)) and p.tolist() != list(range(100))
    assert dg.randperm(0).shape == (0,) and dg.randperm(3, dtype=dg.int32).dtype == dg.int32
    with pytest.raises(ValueError, match="n >= 0"):
        dg.randperm(-1)


def test_like() -> None:
    t = dg.zeros(2, 3, dtype=dg.float64)
    for u in (dg.rand_like(t), dg.randn_like(t)):
        assert u.shape == (2, 3) and u.dtype == dg.float64
    assert dg.randint_like(t, 3, 5).dtype == dg.float64
    assert dg.randint_like(t, 5).max().item() < 5
    assert dg.rand_like(t, dtype=dg.float32, requires_grad=True).requires_grad


def test_normal_with_parameters() -> None:
    t = dg.normal(5.0, 2.0, (N,))
    assert fits((t - 5) / 2, scipy.stats.norm.cdf)
    mean = dg.arange(3.0).reshape(3, 1)
    u = dg.normal(mean, dg.ones(1, N) * 0.1)
    np.testing.assert_allclose(u.numpy().mean(axis=1), [0, 1, 2], atol=0.01)
    assert dg.normal(mean).shape == (3, 1)
    with pytest.raises(ValueError, match="std >= 0"):
        dg.normal(0.0, -1.0, (2,))
    with pytest.raises(TypeError, match="size"):
        dg.normal(0.0, 1.0)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1 / 3, 0.999, 1.0])
def test_bernoulli(p: float) -> None:
    t = dg.empty(N).bernoulli_(p)
    assert set(t.unique().tolist()) <= {0.0, 1.0}
    assert abs(t.mean().item() - p) <= 6 * np.sqrt(p * (1 - p) / N)
    u = dg.bernoulli(dg.full((N,), p))
    assert abs(u.mean().item() - p) <= 6 * np.sqrt(p * (1 - p) / N) + 1e-9


def test_bernoulli_is_exact_between_the_256ths() -> None:
    counts = sum(dg.empty(2_000_000).bernoulli_(0.1001).sum().item() for _ in range(5))
    assert abs(counts / 1e7 - 0.1001) < 6 * np.sqrt(0.09 / 1e7)


def test_bernoulli_arguments() -> None:
    assert dg.bernoulli(dg.tensor([0.0, 1.0], dtype=dg.float64)).dtype == dg.float64
    assert dg.ones(3, dtype=dg.int64).bernoulli_(1.0).tolist() == [1, 1, 1]
    assert dg.zeros(2).bernoulli_(dg.tensor([1.0, 0.0])).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="probabilit"):
        dg.bernoulli(dg.tensor([1.5]))
    with pytest.raises(ValueError, match="probabilit"):
        dg.zeros(1).bernoulli_(-0.1)


def test_multinomial() -> None:
    weights = dg.tensor([1.0, 0.0, 3.0])
    t = dg.multinomial(weights, N, replacement=True)
    np.testing.assert_allclose(np.bincount(t.numpy(), minlength=3) / N, [0.25, 0, 0.75], atol=0.01)
    rows = dg.multinomial(dg.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]]), 2)
    assert rows.shape == (2, 2) and rows.dtype == dg.int64
    assert len(set(rows[0].tolist())) == 2 and 3 not in rows[0].tolist()
    assert sorted(rows[1].tolist()) == [2, 3]
    first = dg.tensor([dg.multinomial(weights, 2)[0].item() for _ in range(2000)])
    assert abs((first == 2).float().mean().item() - 0.75) < 0.06
    for weights, count, match in (
        (dg.tensor([-1.0, 1.0]), 1, "weights >= 0"),
        (dg.tensor([0.0, 0.0]), 1, "row of zeros"),
        (dg.ones(2), 3, "without replacement"),
        (dg.tensor([1.0, 0.0]), 2, "positive weights"),
        (dg.ones(2), 0, "num_samples > 0"),
    ):
        with pytest.raises(ValueError, match=match):
            dg.multinomial(weights, count)


def test_poisson_and_binomial() -> None:
    t = dg.poisson(dg.full((N,), 3.0))
    assert t.dtype == dg.float32 and abs(t.mean().item() - 3) < 0.03 and abs(t.var().item() - 3) < 0.1
    b = dg.binomial(dg.full((N,), 10.0), dg.tensor(0.3))
    assert abs(b.mean().item() - 3) < 0.03 and b.max().item() <= 10


@pytest.mark.parametrize(
    ("fill", "cdf"),
    [
        (lambda t: t.uniform_(-1, 3), scipy.stats.uniform(-1, 4).cdf),
        (lambda t: t.normal_(2, 0.5), scipy.stats.norm(2, 0.5).cdf),
        (lambda t: t.exponential_(2.0), scipy.stats.expon(scale=0.5).cdf),
        (lambda t: t.cauchy_(1.0, 2.0), scipy.stats.cauchy(1.0, 2.0).cdf),
        (lambda t: t.log_normal_(0.5, 0.25), scipy.stats.lognorm(0.25, scale=np.exp(0.5)).cdf),
    ],
)
@pytest.mark.parametrize("dtype", [dg.float32, dg.float64])
def test_in_place(
    fill: Callable[[dg.Tensor], dg.Tensor], cdf: Callable[[np.ndarray], np.ndarray], dtype: dg.dtype
) -> None:
    t = dg.empty(N, dtype=dtype)
    assert fill(t) is t and t.dtype == dtype and t._version == 1
    assert fits(t, cdf)
    u = dg.empty(400, 500, dtype=dtype).t()
    assert fits(fill(u), cdf)


def test_geometric_and_random() -> None:
    t = dg.empty(N).geometric_(0.25)
    assert abs(t.mean().item() - 4) < 0.06 and t.min().item() == 1
    assert dg.empty(N, dtype=dg.int64).random_(3, 6).unique().tolist() == [3, 4, 5]
    assert dg.empty(N).random_(2).unique().tolist() == [0.0, 1.0]
    assert dg.empty(N, dtype=dg.uint8).random_().max().item() == 255
    assert dg.empty(N, dtype=dg.bool).random_().float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_in_place_errors() -> None:
    t = dg.empty(2)
    for call, match in (
        (lambda: t.uniform_(1, 0), "from <= to"),
        (lambda: t.normal_(0, -1), "std >= 0"),
        (lambda: t.exponential_(0), "lambd > 0"),
        (lambda: t.cauchy_(0, 0), "sigma > 0"),
        (lambda: t.log_normal_(0, 0), "std > 0"),
        (lambda: t.geometric_(0), "0 < p < 1"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(TypeError, match="floating-point"):
        dg.empty(2, dtype=dg.int64).normal_()
    with pytest.raises(RuntimeError, match="leaf Variable"):
        dg.ones(2, requires_grad=True).uniform_()


def test_a_filled_tensor_has_no_history() -> None:
    x = dg.ones(2, requires_grad=True)
    y = x * 2
    y.normal_()
    assert not y.requires_grad
    with dg.no_grad():
        x.uniform_()
    assert x.is_leaf and x.requires_grad


def test_out_and_device() -> None:
    out = dg.empty(3)
    assert dg.randn(3, out=out) is out
    assert dg.randn(2, device="cpu").device == dg.device("cpu")
    with pytest.raises(TypeError, match="floating-point"):
        dg.rand(2, dtype=dg.int64)
