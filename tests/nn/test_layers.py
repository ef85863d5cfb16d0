"""Layers against formulas in NumPy, their shapes, their texts and their errors."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import nn
from distgrad.errors import ShapeError


def random(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape)


def as_tensor(array: np.ndarray[Any, Any]) -> distgrad.Tensor:
    return distgrad.tensor(array)


def test_linear() -> None:
    layer = nn.Linear(3, 2).double()
    x = random(4, 5, 3)
    expected = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(as_tensor(x)).detach().numpy(), expected)
    assert nn.Linear(3, 2, bias=False).bias is None


def test_bilinear() -> None:
    layer = nn.Bilinear(3, 4, 2).double()
    a, b = random(5, 3), random(5, 4)
    expected = np.einsum("ni,oij,nj->no", a, layer.weight.detach().numpy(), b) + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(as_tensor(a), as_tensor(b)).detach().numpy(), expected)


def test_flatten_and_unflatten() -> None:
    x = distgrad.zeros(2, 3, 4, 5)
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 2)(x).shape == (24, 5)
    assert nn.Unflatten(1, (3, -1))(distgrad.zeros(2, 12)).shape == (2, 3, 4)
    assert nn.Identity(1, what=2)(x) is x


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_convolution_with_other_edges(mode: str) -> None:
    layer = nn.Conv2d(1, 1, 3, padding=(1, 2), padding_mode=mode, bias=False).double()
    x = random(1, 1, 5, 6)
    numpys = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    padded: Any = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)], mode=numpys)  # type: ignore[call-overload]
    windows = np.lib.stride_tricks.sliding_window_view(padded[0, 0], (3, 3))
    expected = (windows * layer.weight.detach().numpy()[0, 0]).sum((2, 3))
    np.testing.assert_allclose(layer(as_tensor(x)).detach().numpy()[0, 0], expected)


def test_transposed_convolution_reaches_an_output_size() -> None:
    down = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    up = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1)
    for size in (11, 12):
        x = distgrad.randn(1, 2, size, size)
        assert up(down(x), output_size=x.shape).shape == x.shape
    with pytest.raises(ShapeError, match="can be 11 to 12"):
        up(distgrad.randn(1, 3, 6, 6), output_size=(14, 14))


def test_batch_norm_trains_and_evaluates() -> None:
    norm = nn.BatchNorm2d(3, momentum=0.3).double()
    x = random(4, 3, 5, 5) * 2 + 1
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    shape = (1, 3, 1, 1)
    expected = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + norm.eps)
    np.testing.assert_allclose(norm(as_tensor(x)).detach().numpy(), expected)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.3 * mean)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.7 + 0.3 * var * 100 / 99)
    assert int(norm.num_batches_tracked) == 1
    norm.eval()
    running_mean, running_var = norm.running_mean.numpy().reshape(shape), norm.running_var.numpy().reshape(shape)
    expected = (x - running_mean) / np.sqrt(running_var + norm.eps)
    np.testing.assert_allclose(norm(as_tensor(x)).detach().numpy(), expected)
    assert int(norm.num_batches_tracked) == 1


def test_batch_norm_with_plain_average() -> None:
    norm = nn.BatchNorm1d(2, momentum=None).double()
    batches = [random(6, 2) + i for i in range(3)]
    for batch in batches:
        norm(as_tensor(batch))
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean([b.mean(0) for b in batches], axis=0))


def test_batch_norm_without_running_statistics() -> None:
    norm = nn.BatchNorm1d(2, track_running_stats=False, affine=False).double().eval()
    x = random(6, 2) * 3
    np.testing.assert_allclose(norm(as_tensor(x)).numpy(), (x - x.mean(0)) / np.sqrt(x.var(0) + norm.eps))
    assert list(norm.state_dict()) == []


@pytest.mark.parametrize(
    ("layer", "dims"), [(nn.BatchNorm1d, "2D or 3D"), (nn.BatchNorm2d, "4D"), (nn.BatchNorm3d, "5D")]
)
def test_batch_norm_of_wrong_dimensions(layer: Any, dims: str) -> None:
    with pytest.raises(ValueError, match=rf"expected {dims} input \(got 1D input\)"):
        layer(2)(distgrad.ones(2))


def test_instance_norm_of_one_sample_and_of_several() -> None:
    norm = nn.InstanceNorm2d(3).double()
    x = random(2, 3, 4, 4)
    out = norm(as_tensor(x))
    expected = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(out.numpy(), expected)
    np.testing.assert_allclose(norm(as_tensor(x[0])).numpy(), expected[0])


def test_layer_group_and_rms_norm() -> None:
    x = random(4, 6, 5)
    out = nn.LayerNorm((6, 5)).double()(as_tensor(x)).detach().numpy()
    np.testing.assert_allclose(out.mean((1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(out.std((1, 2)), 1, rtol=1e-4)
    out = nn.GroupNorm(2, 6).double()(as_tensor(x)).detach().numpy().reshape(4, 2, 15)
    np.testing.assert_allclose(out.std(2), 1, rtol=1e-4)
    out = nn.RMSNorm(5, eps=0.0).double()(as_tensor(x)).detach().numpy()
    np.testing.assert_allclose((out**2).mean(2), 1)
    with pytest.raises(ValueError, match="divisible"):
        nn.GroupNorm(4, 6)


def test_dropout_only_while_training() -> None:
    x = distgrad.ones(10_000)
    layer = nn.Dropout(0.25)
    out = layer(x).numpy()
    assert set(np.unique(out).tolist()) <= {0.0, np.float32(1 / 0.75).item()}
    assert (out == 0).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(layer.eval()(x).numpy(), x.numpy())
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_embedding() -> None:
    table = nn.Embedding(5, 3, padding_idx=-1)
    assert table.padding_idx == 4
    index = distgrad.tensor([[0, 4], [2, 0]])
    out = table(index)
    np.testing.assert_array_equal(out.detach().numpy(), table.weight.detach().numpy()[index.numpy()])
    out.sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad[:, 0].tolist() == [2.0, 0.0, 1.0, 0.0, 0.0]
    frozen = nn.Embedding.from_pretrained(distgrad.ones(2, 3))
    assert not frozen.weight.requires_grad and frozen.embedding_dim == 3


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode: str) -> None:
    bag = nn.EmbeddingBag(6, 3, mode=mode)
    index = distgrad.tensor([[0, 1, 2], [5, 5, 0]])
    rows = bag.weight.detach().numpy()[index.numpy()]
    expected = {"sum": rows.sum(1), "mean": rows.mean(1), "max": rows.max(1)}[mode]
    np.testing.assert_allclose(bag(index).detach().numpy(), expected, rtol=1e-6)


def test_max_pool_and_its_inverse() -> None:
    x = as_tensor(np.arange(16.0).reshape(1, 1, 4, 4))
    pooled, places = nn.MaxPool2d(2, return_indices=True)(x)
    assert pooled.flatten().tolist() == [5, 7, 13, 15] and places.flatten().tolist() == [5, 7, 13, 15]


def test_adaptive_pool_of_any_size() -> None:
    x = as_tensor(random(2, 3, 7, 5))
    np.testing.assert_allclose(nn.AdaptiveAvgPool2d(1)(x).numpy()[..., 0, 0], x.numpy().mean((2, 3)))
    assert nn.AdaptiveAvgPool2d((None, 2))(x).shape == (2, 3, 7, 2)
    assert nn.AdaptiveMaxPool2d((3, 2))(x).shape == (2, 3, 3, 2)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.ZeroPad2d((1, 2, 3, 4)), (1, 1, 2, 2), (1, 1, 9, 5)),
        (nn.ReflectionPad1d(2), (1, 1, 4), (1, 1, 8)),
        (nn.ConstantPad3d(1, 2.0), (1, 1, 2, 2, 2), (1, 1, 4, 4, 4)),
        (nn.PixelShuffle(2), (1, 8, 3, 3), (1, 2, 6, 6)),
        (nn.PixelUnshuffle(3), (1, 1, 6, 6), (1, 9, 2, 2)),
        (nn.Upsample(scale_factor=2), (1, 2, 3, 3), (1, 2, 6, 6)),
        (nn.Unfold(2), (1, 2, 4, 4), (1, 8, 9)),
        (nn.Fold((4, 4), 2), (1, 8, 9), (1, 2, 4, 4)),
        (nn.ChannelShuffle(2), (1, 4, 2, 2), (1, 4, 2, 2)),
    ],
)
def test_shapes(layer: nn.Module, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert layer(distgrad.randn(*shape)).shape == expected


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.Conv2d(2, 4, 3), "Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1))"),
        (
            nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular", bias=False, groups=2, dilation=2),
            "Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(2, 2), groups=2, bias=False, "
            "padding_mode=circular)",
        ),
        (nn.Conv1d(1, 2, 3, padding="same"), "Conv1d(1, 2, kernel_size=(3,), stride=(1,), padding=same)"),
        (
            nn.ConvTranspose2d(2, 2, 3, stride=2, output_padding=1),
            "ConvTranspose2d(2, 2, kernel_size=(3, 3), stride=(2, 2), output_padding=(1, 1))",
        ),
        (
            nn.BatchNorm2d(3, bias=False),
            "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=False, track_running_stats=True)",
        ),
        (nn.LayerNorm(3), "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True)"),
        (nn.GroupNorm(1, 3), "GroupNorm(1, 3, eps=1e-05, affine=True, bias=True)"),
        (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
        (nn.AvgPool1d(2), "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"),
        (nn.AdaptiveAvgPool2d((1, 1)), "AdaptiveAvgPool2d(output_size=(1, 1))"),
        (nn.Embedding(3, 2, padding_idx=0), "Embedding(3, 2, padding_idx=0)"),
        (nn.EmbeddingBag(3, 2), "EmbeddingBag(3, 2, mode='mean')"),
        (nn.LSTM(2, 3, 2, bidirectional=True), "LSTM(2, 3, num_layers=2, bidirectional=True)"),
        (nn.GRUCell(2, 3, bias=False), "GRUCell(2, 3, bias=False)"),
        (nn.Bilinear(1, 2, 3), "Bilinear(in1_features=1, in2_features=2, out_features=3, bias=True)"),
        (nn.ReLU(inplace=True), "ReLU(inplace=True)"),
        (nn.LeakyReLU(), "LeakyReLU(negative_slope=0.01)"),
        (nn.ELU(inplace=True), "ELU(alpha=1.0, inplace=True)"),
        (nn.GELU("tanh"), "GELU(approximate='tanh')"),
        (nn.Softmax(1), "Softmax(dim=1)"),
        (nn.Hardtanh(), "Hardtanh(min_val=-1.0, max_val=1.0)"),
        (nn.PReLU(), "PReLU(num_parameters=1)"),
        (nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
        (nn.Unflatten(1, (2, 3)), "Unflatten(dim=1, unflattened_size=(2, 3))"),
        (nn.Upsample(scale_factor=2), "Upsample(scale_factor=2.0, mode='nearest')"),
        (nn.ZeroPad2d(1), "ZeroPad2d((1, 1, 1, 1))"),
        (nn.ConstantPad1d(1, 2.0), "ConstantPad1d(padding=(1, 1), value=2.0)"),
        (nn.CrossEntropyLoss(), "CrossEntropyLoss()"),
        (
            nn.MultiheadAttention(4, 2),
            "MultiheadAttention(\n  (out_proj): NonDynamicallyQuantizableLinear(in_features=4, out_features=4, "
            "bias=True)\n)",
        ),
    ],
)
def test_repr_is_torchs(module: nn.Module, text: str) -> None:
    assert repr(module) == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "divisible by groups, got 3 and 4 with 2 groups"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "kernel_size: expected one number or 2"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), "Invalid padding string 'full'"),
        (lambda: nn.Conv2d(3, 4, 3, padding="same", stride=2), "not supported for strided"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="wrap"), "padding_mode must be one of"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), 'Only "zeros"'),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_every_activation_runs_and_has_a_gradient() -> None:
    names = (
        "ReLU ReLU6 SELU SiLU Mish Hardswish Hardsigmoid ELU CELU LeakyReLU PReLU RReLU GELU GLU Hardtanh Hardshrink "
        "Softshrink Softplus Sigmoid Tanh LogSigmoid Softsign Tanhshrink"
    )
    for name in names.split():
        x = distgrad.randn(4, 6, requires_grad=True)
        out = getattr(nn, name)()(x)
        out.sum().backward()
        assert x.grad is not None and np.isfinite(x.grad.numpy()).all(), name
    assert float(nn.Softmax(-1)(distgrad.randn(2, 3)).sum()) == pytest.approx(2.0)
    assert nn.Softmax2d()(distgrad.randn(1, 3, 2, 2)).sum(1).flatten().tolist() == pytest.approx([1.0] * 4)
    np.testing.assert_allclose(nn.LogSoftmax(1)(distgrad.zeros(1, 4)).numpy(), np.log(0.25), rtol=1e-6)
