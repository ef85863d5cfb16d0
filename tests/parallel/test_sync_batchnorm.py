"""SyncBatchNorm: statistics, results and gradients are those of the whole batch, however it is spread over ranks."""

import itertools
from typing import Any

import numpy as np
import pytest

import distgrad as dg
from distgrad import nn
from distgrad.comm import get_rank, run_threads
from distgrad.errors import AutogradError, ShapeError

RNG = np.random.default_rng(5)
WHOLE = RNG.normal(3.0, 2.0, (12, 4, 3, 2))
WEIGHTS = RNG.normal(size=WHOLE.shape)  # of a loss that treats every element differently


def layer(cls: Any, dtype: Any = dg.float64) -> Any:
    made = cls(4).to(dtype)
    with dg.no_grad():
        made.weight.copy_(dg.tensor([0.5, 1.0, 2.0, -1.0]))
        made.bias.copy_(dg.tensor([0.0, 1.0, -1.0, 3.0]))
    return made


def step(bn: Any, part: slice, dtype: Any = dg.float64) -> dict[str, np.ndarray]:
    x = dg.tensor(WHOLE[part], dtype=dtype, requires_grad=True)
    y = bn(x)
    (y * dg.tensor(WEIGHTS[part], dtype=dtype)).sum().backward()
    found = {"y": y, "gx": x.grad, "gw": bn.weight.grad, "gb": bn.bias.grad}
    found |= {"mean": bn.running_mean, "var": bn.running_var, "count": bn.num_batches_tracked}
    return {name: t.detach().numpy().copy() for name, t in found.items()}


@pytest.mark.parametrize("cuts", [(0, 6, 12), (0, 1, 12), (0, 4, 8, 12), (0, 0, 5, 12)], ids=str)
def test_equals_one_rank_with_the_whole_batch(cuts: tuple[int, ...]) -> None:
    reference = step(layer(nn.BatchNorm2d), slice(None))
    parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    results = run_threads(len(parts), lambda: step(layer(nn.SyncBatchNorm), parts[get_rank()]))
    for name in ("y", "gx"):
        np.testing.assert_allclose(np.concatenate([r[name] for r in results]), reference[name], rtol=1e-9, atol=1e-10)
    for name in ("gw", "gb"):
        np.testing.assert_allclose(sum(r[name] for r in results), reference[name], rtol=1e-9, atol=1e-10)
    for r in results:
        for name in ("mean", "var", "count"):
            np.testing.assert_allclose(r[name], reference[name], rtol=1e-9)


def test_plain_batchnorm_would_differ() -> None:
    """The comparison above can fail: without synchronisation the halves are normalised by themselves."""
    whole = step(layer(nn.BatchNorm2d), slice(None))
    half = step(layer(nn.BatchNorm2d), slice(0, 6))
    assert np.abs(half["y"] - whole["y"][:6]).max() > 1e-3


def test_evaluation_uses_running_statistics_and_no_communication() -> None:
    bn = layer(nn.SyncBatchNorm)
    bn.eval()
    reference = layer(nn.BatchNorm2d)
    reference.eval()
    x = dg.tensor(WHOLE)
    assert dg.allclose(bn(x), reference(x))


def test_convert_keeps_parameters_and_buffers() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.BatchNorm2d(4))
    keys, weight = list(net.state_dict()), net[1][0].weight
    net.eval()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert converted is net
    assert isinstance(net[1][0], nn.SyncBatchNorm) and isinstance(net[2], nn.SyncBatchNorm)
    assert net[1][0].weight is weight and list(net.state_dict()) == keys
    assert not net[1][0].training


def test_without_bias() -> None:
    bn = nn.SyncBatchNorm(4, bias=False)
    assert bn.bias is None and bn.weight is not None
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(4, bias=False)))
    assert converted[0].bias is None and "bias" not in converted[0].state_dict()
    results = run_threads(2, lambda: nn.SyncBatchNorm(4, bias=False)(dg.tensor(WHOLE[6 * get_rank() :][:6]).float()))
    plain = nn.BatchNorm2d(4, bias=False)(dg.tensor(WHOLE).float())
    np.testing.assert_allclose(dg.cat(results).detach().numpy(), plain.detach().numpy(), atol=1e-5)


def test_no_rank_has_a_sample() -> None:
    def on_rank() -> list[float]:
        bn = nn.SyncBatchNorm(4)
        x = dg.zeros(0, 4, 3, 2, requires_grad=True)
        bn(x).sum().backward()
        assert bn.weight.grad is not None and x.grad is not None and x.grad.shape == x.shape
        return bn.weight.grad.tolist()  # type: ignore[no-any-return]

    assert run_threads(2, on_rank) == [[0.0] * 4] * 2


def test_wrong_channels_and_second_derivatives_are_errors() -> None:
    bn = layer(nn.SyncBatchNorm)
    with pytest.raises(ShapeError, match=r"expected input \(N, 4, \.\.\.\), got \[2, 3\]"):
        bn(dg.zeros(2, 3, dtype=dg.float64))
    x = dg.tensor(WHOLE, requires_grad=True)
    with pytest.raises(AutogradError, match="second derivatives"):
        dg.autograd.grad(bn(x).sum(), x, create_graph=True)
