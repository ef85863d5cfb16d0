"""Multi-head attention and transformers."""

import math
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import nn
from distgrad.errors import DTypeError, ShapeError

RNG = np.random.default_rng(2)


def by_numpy(layer: nn.MultiheadAttention, q: Any, k: Any, v: Any, mask: Any = 0.0) -> tuple[Any, Any]:
    """Output and weights of each head, for (N, L, E) inputs."""
    weight, bias = layer.in_proj_weight.detach().numpy(), layer.in_proj_bias.detach().numpy()
    parts = [
        (x @ w.T + b).reshape(*x.shape[:2], layer.num_heads, -1).swapaxes(1, 2)
        for x, w, b in zip((q, k, v), np.split(weight, 3), np.split(bias, 3), strict=True)
    ]
    scores = parts[0] @ parts[1].swapaxes(-1, -2) / math.sqrt(layer.head_dim) + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = (weights @ parts[2]).swapaxes(1, 2).reshape(q.shape)
    out = layer.out_proj
    return mixed @ out.weight.detach().numpy().T + out.bias.detach().numpy(), weights


def attention(**options: Any) -> nn.MultiheadAttention:
    layer = nn.MultiheadAttention(8, 2, batch_first=True, **options).double()
    for p in layer.parameters():
        p.data = distgrad.tensor(RNG.standard_normal(p.shape) * 0.5)
    return layer


def inputs(*lengths: int) -> list[Any]:
    return [RNG.standard_normal((3, n, 8)) for n in lengths]


@pytest.mark.parametrize("need_weights", [True, False])
def test_against_numpy(need_weights: bool) -> None:
    layer = attention()
    q, k, v = inputs(4, 5, 5)
    output, weights = layer(*[distgrad.tensor(a) for a in (q, k, v)], need_weights=need_weights)
    expected, expected_weights = by_numpy(layer, q, k, v)
    np.testing.assert_allclose(output.detach().numpy(), expected)
    if need_weights:
        np.testing.assert_allclose(weights.detach().numpy(), expected_weights.mean(1))
        _, each = layer(*[distgrad.tensor(a) for a in (q, k, v)], average_attn_weights=False)
        np.testing.assert_allclose(each.detach().numpy(), expected_weights)
    else:
        assert weights is None


@pytest.mark.parametrize("need_weights", [True, False])
def test_masks_add_up(need_weights: bool) -> None:
    layer = attention()
    (x,) = inputs(4)
    causal = np.triu(np.ones((4, 4), dtype=bool), 1)
    hidden = np.zeros((3, 4), dtype=bool)
    hidden[1, 2:] = True
    mask = np.where(causal[None, None] | hidden[:, None, None], -np.inf, 0.0)
    expected, _ = by_numpy(layer, x, x, x, mask)
    t = distgrad.tensor(x)
    float_mask = distgrad.tensor(np.where(causal, -np.inf, 0.0))
    per_head = float_mask.expand(6, 4, 4)
    for attn_mask in (distgrad.tensor(causal), float_mask, per_head):
        output, _ = layer(
            t, t, t, key_padding_mask=distgrad.tensor(hidden), attn_mask=attn_mask, need_weights=need_weights
        )
        np.testing.assert_allclose(output.detach().numpy(), expected)


def test_causal_hint_is_the_causal_mask() -> None:
    layer = attention()
    t = distgrad.tensor(inputs(4)[0])
    mask = nn.Transformer.generate_square_subsequent_mask(4, dtype=distgrad.float64)
    plain, _ = layer(t, t, t, attn_mask=mask, need_weights=False)
    hinted, _ = layer(t, t, t, attn_mask=mask, need_weights=False, is_causal=True)
    np.testing.assert_allclose(plain.detach().numpy(), hinted.detach().numpy())
    with pytest.raises(ValueError, match="Need attn_mask"):
        layer(t, t, t, is_causal=True)


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 8, "vdim": 6}])
def test_layouts_agree(options: dict[str, Any]) -> None:
    first = attention(**options)
    second = nn.MultiheadAttention(8, 2, **options).double()
    second.load_state_dict(first.state_dict())
    q, k = (distgrad.tensor(a) for a in inputs(4, 5))
    v = distgrad.tensor(RNG.standard_normal((3, 5, first.vdim)))
    output, weights = first(q, k, v)
    other, other_weights = second(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1))
    np.testing.assert_allclose(other.transpose(0, 1).detach().numpy(), output.detach().numpy())
    np.testing.assert_allclose(other_weights.detach().numpy(), weights.detach().numpy())
    alone, alone_weights = second(q[1], k[1], v[1])
    np.testing.assert_allclose(alone.detach().numpy(), output.detach().numpy()[1])
    np.testing.assert_allclose(alone_weights.detach().numpy(), weights.detach().numpy()[1])
    added = ("add_bias_kv" in options) + ("add_zero_attn" in options)
    assert weights.shape == (3, 4, 5 + added)
    np.testing.assert_allclose(weights.sum(-1).detach().numpy(), 1.0)


def test_zero_attention_takes_part_of_the_weight() -> None:
    plain, zero = attention(), attention(add_zero_attn=True)
    zero.load_state_dict(plain.state_dict())
    t = distgrad.tensor(inputs(4)[0])
    _, weights = zero(t, t, t, average_attn_weights=False)
    _, expected = plain(t, t, t, average_attn_weights=False)
    kept = weights[..., :4]
    np.testing.assert_allclose((kept / kept.sum(-1, keepdim=True)).detach().numpy(), expected.detach().numpy())


def test_wrong_inputs() -> None:
    layer = attention()
    t = distgrad.tensor(inputs(4)[0])
    with pytest.raises(ShapeError, match="queries of size 8, got 6"):
        layer(t[..., :6], t, t)
    with pytest.raises(ShapeError, match="3 dimensions"):
        layer(t, t[0], t)
    with pytest.raises(ShapeError, match=r"attn_mask of shape \[4, 4\].*got \[5, 4\]"):
        layer(t, t, t, attn_mask=distgrad.zeros(5, 4, dtype=distgrad.float64))
    with pytest.raises(ShapeError, match="key_padding_mask"):
        layer(t, t, t, key_padding_mask=distgrad.zeros(3, 5, dtype=distgrad.float64))
    with pytest.raises(DTypeError, match="only bool and floating types of attn_mask"):
        layer(t, t, t, attn_mask=distgrad.zeros(4, 4, dtype=distgrad.int64))
    with pytest.raises(AssertionError, match="divisible by num_heads"):
        nn.MultiheadAttention(8, 3)


@pytest.mark.parametrize("norm_first", [False, True])
def test_causal_encoder_does_not_look_ahead(norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, norm_first=norm_first, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8))
    x = distgrad.randn(2, 5, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    before = encoder(x, mask).detach().numpy()
    x[:, 3:] = 0.0
    after = encoder(x, mask, is_causal=True).detach().numpy()
    np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-4, atol=1e-5)
    assert abs(before[:, 3:] - after[:, 3:]).max() > 0.01
    assert encoder.layers[0].linear1.weight is not encoder.layers[1].linear1.weight


def test_transformer_has_torchs_shapes_and_names() -> None:
    model = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0)
    out = model(distgrad.randn(6, 3, 8), distgrad.randn(4, 3, 8))
    assert out.shape == (4, 3, 8)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    names = list(model.state_dict())
    assert "encoder.layers.0.self_attn.in_proj_weight" in names
    assert "decoder.layers.0.multihead_attn.out_proj.bias" in names
    with pytest.raises(ShapeError, match="batch number"):
        model(distgrad.randn(6, 3, 8), distgrad.randn(4, 2, 8))
    with pytest.raises(ValueError, match="relu/gelu"):
        nn.TransformerEncoderLayer(8, 2, activation="sin")


def test_padding_mask_hides_keys_from_the_decoder() -> None:
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2)
    tgt, memory = distgrad.randn(2, 3, 8), distgrad.randn(2, 5, 8)
    hidden = distgrad.tensor([[False] * 4 + [True]] * 2)
    before = decoder(tgt, memory, memory_key_padding_mask=hidden).detach().numpy()
    memory[:, 4] = 100.0
    after = decoder(tgt, memory, memory_key_padding_mask=hidden).detach().numpy()
    np.testing.assert_allclose(before, after)
