"""Recurrent layers against loops in NumPy; packed sequences against each sequence alone."""

from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import Tensor, nn
from distgrad.errors import DTypeError, ShapeError
from distgrad.nn.utils import rnn

Arrays = list[np.ndarray[Any, Any]]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def lstm_step(x: Any, states: Arrays, w: Arrays) -> Arrays:
    i, f, g, o = np.split(x @ w[0].T + states[0] @ w[1].T + w[2] + w[3], 4, axis=-1)
    c = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def gru_step(x: Any, states: Arrays, w: Arrays) -> Arrays:
    xr, xz, xn = np.split(x @ w[0].T + w[2], 3, axis=-1)
    hr, hz, hn = np.split(states[0] @ w[1].T + w[3], 3, axis=-1)
    z = sigmoid(xz + hz)
    return [(1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * states[0]]


def rnn_step(x: Any, states: Arrays, w: Arrays) -> Arrays:
    return [np.tanh(x @ w[0].T + states[0] @ w[1].T + w[2] + w[3])]


KINDS = [(nn.LSTM, lstm_step, 2), (nn.GRU, gru_step, 1), (nn.RNN, rnn_step, 1)]


def by_loop(layer: nn.RNNBase, step: Any, count: int, x: np.ndarray[Any, Any]) -> tuple[Any, Arrays]:
    """Outputs and last states of all layers and directions, for x (T, N, I) and zero states."""
    last: list[Arrays] = []
    for number in range(layer.num_layers):
        outputs = []
        for direction in range(1 + layer.bidirectional):
            w = [p.detach().numpy() for p in layer.all_weights[number * (1 + layer.bidirectional) + direction]]
            states: Arrays = [np.zeros((x.shape[1], layer.hidden_size))] * count
            rows = []
            for row in x[:: -1 if direction else 1]:
                states = step(row, states, w)
                rows.append(states[0])
            outputs.append(np.stack(rows[:: -1 if direction else 1]))
            last.append(states)
        x = np.concatenate(outputs, axis=-1)
    return x, [np.stack(group) for group in zip(*last, strict=True)]


@pytest.mark.parametrize(("kind", "step", "count"), KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_against_a_loop(kind: Any, step: Any, count: int, bidirectional: bool, batch_first: bool) -> None:
    layer = kind(3, 4, num_layers=2, bidirectional=bidirectional, batch_first=batch_first).double()
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    output, last = layer(distgrad.tensor(x.swapaxes(0, 1) if batch_first else x))
    expected, states = by_loop(layer, step, count, x)
    np.testing.assert_allclose(output.detach().numpy(), expected.swapaxes(0, 1) if batch_first else expected)
    for got, want in zip(last if count == 2 else (last,), states, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), want)


@pytest.mark.parametrize(("kind", "count"), [(kind, count) for kind, _, count in KINDS])
def test_one_sequence_without_batch(kind: Any, count: int) -> None:
    layer = kind(3, 4)
    x = distgrad.randn(5, 3)
    output, last = layer(x)
    batched, _ = layer(x.unsqueeze(1))
    np.testing.assert_allclose(output.detach().numpy(), batched.detach().numpy()[:, 0], rtol=1e-6)
    assert all(tuple(s.shape) == (1, 4) for s in (last if count == 2 else (last,)))


@pytest.mark.parametrize("kind", [kind for kind, _, _ in KINDS])
def test_outputs_may_be_changed_in_place(kind: Any) -> None:
    layer, x = kind(3, 4), distgrad.randn(5, 2, 3)
    gradients = []
    for factor in (1, 3):
        layer.zero_grad()
        output, _ = layer(x)
        total = output.sum()
        output.mul_(factor)
        total.backward()
        gradients.append([p.grad.numpy().copy() for p in layer.parameters()])
    assert all(np.array_equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(("kind", "cell"), [(nn.LSTM, nn.LSTMCell), (nn.GRU, nn.GRUCell), (nn.RNN, nn.RNNCell)])
def test_cell_is_one_step(kind: Any, cell: Any) -> None:
    layer, one = kind(3, 4), cell(3, 4)
    one.load_state_dict({name[:-3]: value for name, value in layer.state_dict().items()})
    x = distgrad.randn(6, 2, 3)
    output, _ = layer(x)
    state: Any = None
    for step in range(6):
        state = one(x[step], state)
        h = state[0] if cell is nn.LSTMCell else state
        np.testing.assert_allclose(h.detach().numpy(), output.detach().numpy()[step], rtol=1e-5, atol=1e-6)
    single = one(x[0, 0])
    first = single[0] if cell is nn.LSTMCell else single
    np.testing.assert_allclose(first.detach().numpy(), output.detach().numpy()[0, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "count"), [(kind, count) for kind, _, count in KINDS])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_is_each_sequence_alone(kind: Any, count: int, bidirectional: bool) -> None:
    layer = kind(3, 4, num_layers=2, bidirectional=bidirectional).double()
    sequences = [distgrad.randn(n, 3, dtype=distgrad.float64, requires_grad=True) for n in (2, 5, 3)]
    packed = rnn.pack_sequence(sequences, enforce_sorted=False)
    output, last = layer(packed)
    padded, lengths = rnn.pad_packed_sequence(output)
    assert lengths.tolist() == [2, 5, 3]
    padded.sum().backward()
    gradients = [s.grad for s in sequences]
    for i, sequence in enumerate(sequences):
        twin = sequence.detach().requires_grad_()
        alone, state = layer(twin)
        alone.sum().backward()
        np.testing.assert_allclose(padded[: len(sequence), i].detach().numpy(), alone.detach().numpy())
        assert float(padded[len(sequence) :, i].detach().abs().sum()) == 0.0
        for got, want in zip(last if count == 2 else (last,), state if count == 2 else (state,), strict=True):
            np.testing.assert_allclose(got[:, i].detach().numpy(), want.detach().numpy())
        np.testing.assert_allclose(gradients[i].numpy(), twin.grad.numpy())  # type: ignore[union-attr]


def test_lstm_with_projection_has_its_shapes() -> None:
    layer = nn.LSTM(3, 5, num_layers=2, proj_size=2, bidirectional=True)
    output, (h, c) = layer(distgrad.randn(4, 2, 3))
    assert output.shape == (4, 2, 4) and h.shape == (4, 2, 2) and c.shape == (4, 2, 5)
    assert layer.weight_hr_l0.shape == (2, 5)
    assert layer.weight_ih_l1.shape == (20, 4)


def test_parameter_names_are_torchs() -> None:
    layer = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    ends = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    expected = [f"{kind}{end}" for end in ends for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert list(layer.state_dict()) == expected
    assert layer.weight_ih_l1.shape == (16, 8)


def test_errors_say_what_is_needed() -> None:
    layer = nn.LSTM(3, 4)
    with pytest.raises(DTypeError, match=r"lstm: expected one dtype, got input int64, weight float32; convert"):
        layer(distgrad.zeros(2, 1, 3, dtype=distgrad.int64))
    with pytest.raises(ShapeError, match="Expected 3, got 5"):
        layer(distgrad.randn(2, 1, 5))
    with pytest.raises(ShapeError, match=r"Expected hidden\[1\] size \(1, 2, 4\), got \[1, 2, 5\]"):
        layer(distgrad.randn(6, 2, 3), (distgrad.zeros(1, 2, 4), distgrad.zeros(1, 2, 5)))
    with pytest.raises(ShapeError, match=r"expected a state of shape \(layers \* directions, 2, 4\)"):
        weights = list(layer.parameters())
        distgrad.lstm(distgrad.randn(6, 2, 3), distgrad.zeros(2, 1, 2, 5), weights, True, 1, 0.0, False, False)
    with pytest.raises(ShapeError, match="should also be 3-D but got 2-D"):
        nn.GRU(3, 4)(distgrad.randn(6, 2, 3), distgrad.zeros(1, 4))
    with pytest.raises(ValueError, match="2D or 3D"):
        layer(distgrad.randn(3))
    with pytest.raises(ValueError, match="Unknown nonlinearity"):
        nn.RNN(3, 4, nonlinearity="sin")
    with pytest.warns(UserWarning, match="num_layers"):
        nn.LSTM(3, 4, dropout=0.5)


# ---- sequences of different lengths ----------------------------------------------------------------------------------


def test_pack_and_pad_are_inverse() -> None:
    x = distgrad.arange(24.0).reshape(4, 3, 2)  # (T, B, *)
    packed = rnn.pack_padded_sequence(x, [4, 2, 1])
    assert packed.batch_sizes.tolist() == [3, 2, 1, 1] and packed.data.shape == (7, 2)
    assert packed.data[:, 0].tolist() == [0, 2, 4, 6, 8, 12, 18]
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first=True, padding_value=-1.0, total_length=5)
    assert lengths.tolist() == [4, 2, 1] and padded.shape == (3, 5, 2)
    assert padded[1, :, 0].tolist() == [2, 8, -1, -1, -1]


def test_unsorted_sequences_come_back_in_their_order() -> None:
    sequences = [distgrad.full((n,), float(n)) for n in (2, 3, 1)]
    packed = rnn.pack_sequence(sequences, enforce_sorted=False)
    assert packed.sorted_indices is not None and packed.sorted_indices.tolist() == [1, 0, 2]
    assert [s.tolist() for s in rnn.unpack_sequence(packed)] == [s.tolist() for s in sequences]
    with pytest.raises(ValueError, match="sorted in decreasing order"):
        rnn.pack_sequence(sequences)


def test_pad_sequence() -> None:
    sequences = [distgrad.tensor([1.0, 2.0]), distgrad.tensor([3.0])]
    assert rnn.pad_sequence(sequences).tolist() == [[1, 3], [2, 0]]
    assert rnn.pad_sequence(sequences, batch_first=True, padding_value=9).tolist() == [[1, 2], [3, 9]]
    assert rnn.pad_sequence(sequences, batch_first=True, padding_side="left").tolist() == [[1, 2], [0, 3]]
    padded = rnn.pad_sequence(sequences)
    assert [s.tolist() for s in rnn.unpad_sequence(padded, [2, 1])] == [[1, 2], [3]]
    with pytest.raises(ShapeError, match="one shape"):
        rnn.pad_sequence([distgrad.ones(2, 3), distgrad.ones(2, 4)])


@pytest.mark.parametrize(
    ("lengths", "message"), [([3, 0], "greater than 0"), ([5, 1], "at most 4"), ([3], "for each of 2")]
)
def test_lengths_that_cannot_be(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rnn.pack_padded_sequence(distgrad.zeros(4, 2, 1), lengths)


def test_packed_sequence_moves() -> None:
    packed: Any = rnn.pack_sequence([distgrad.ones(2)])
    assert packed.double().data.dtype == distgrad.float64
    assert isinstance(packed.cpu(), rnn.PackedSequence) and not packed.is_cuda
    assert isinstance(packed.to(distgrad.float16).data, Tensor)
