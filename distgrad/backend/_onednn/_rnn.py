"""Recurrent layers by oneDNN's primitives for whole sequences, which torch uses on CPUs as well.

Float32 sequences of one length go here; all else goes to the NumPy family. A forward pass writes what gradients need
into a workspace that only oneDNN reads. Gates are in torch's order, but for the GRU's: oneDNN begins with the update
gate, and gives the candidate two biases.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..._typing import Array
from .._kernels import RnnKernels
from ._core import Family, on_a_page
from ._dense import FLOAT32
from ._rnn_primitives import GRU, LSTM, RELU, TANH, Backward, Cell, Forward, Sizes

STEPS = 4  # below which NumPy is as fast
_SWAPPED = [1, 0, 2]  # the gates of a GRU, from torch's order (reset, update, candidate) to oneDNN's or back


class _Kept(NamedTuple):
    """What a backward pass needs besides the input: the first states, copies of outputs and last states, and more."""

    states: tuple[Array, ...]
    results: tuple[Array, ...]
    workspace: Array


def _plain(x: Array) -> Array:
    return np.ascontiguousarray(x, dtype=FLOAT32)


def _bias(wx: Array, *biases: Array | None) -> Array:
    total = np.zeros(len(wx), dtype=FLOAT32)
    for bias in biases:
        if bias is not None:
            total += bias
    return total


def _given(g: Array | None, like: Array) -> Array:
    return np.zeros(like.shape, dtype=FLOAT32) if g is None else _plain(g)


def _swapped(w: Array) -> Array:
    """The weights or biases (3 H, ...) of a GRU in the other order of gates."""
    return w.reshape(3, len(w) // 3, *w.shape[1:])[_SWAPPED].reshape(w.shape)


def _run(
    plan: Forward, x: Array, states: tuple[Array, ...], weights: tuple[Array, Array], bias: Array
) -> tuple[tuple[Array, ...], _Kept]:
    """Outputs and last states, and what a backward pass needs."""
    states = tuple(map(_plain, states))
    results = tuple(np.empty((rows, states[0].shape[1]), dtype=FLOAT32) for rows in (len(x), *map(len, states)))
    workspace = on_a_page(plan.workspace)
    plan.put_weights(map(_plain, weights))
    plan.run(_plain(x), *states, bias, *results, workspace)
    return results, _Kept(states, tuple(r.copy() for r in results), workspace)


class OneDnnRnn(Family[RnnKernels]):
    """`RnnKernels` that use oneDNN where it is faster."""

    def _plan(
        self, cell: Cell, x: Array, states: tuple[Array, ...], wx: Array, wh: Array, sizes: Sequence[int], reverse: bool
    ) -> Forward | None:
        """The primitive of a forward pass; None where NumPy is to compute this, or to say what is wrong with it."""
        batch, inputs, width = int(sizes[0]), wx.shape[1], wh.shape[1]
        if len(sizes) < STEPS or any(n != batch for n in sizes) or not x.dtype == wx.dtype == wh.dtype == FLOAT32:
            return None
        shapes = [x.shape, wx.shape, wh.shape, *(s.shape for s in states)]
        rows = cell.gates * width
        expected = [(len(sizes) * batch, inputs), (rows, inputs), (rows, width), *((batch, width) for _ in states)]
        if shapes != expected or 0 in (batch, inputs, width):
            return None
        return self._core.plan(Forward, cell, Sizes(len(sizes), batch, inputs, width, reverse))

    def _backward(
        self, cell: Cell, grads: Sequence[Array | None], kept: _Kept, x: Array, weights: tuple[Array, Array],
        sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of the input, the states, the biases and both weights."""
        batch, (wx, wh) = int(sizes[0]), weights
        plan = self._core.plan(Backward, cell, Sizes(len(sizes), batch, wx.shape[1], wh.shape[1], reverse))
        assert plan is not None  # the plan of the forward pass has seen that there is one
        bias = np.zeros((cell.biases, wh.shape[1]), dtype=FLOAT32)  # not used
        inputs = _plain(x), *kept.states, bias
        found = [np.empty(a.shape, dtype=FLOAT32) for a in (*inputs, *weights)]
        given = (_given(g, result) for g, result in zip(grads, kept.results, strict=True))
        plan.put_weights(map(_plain, weights))
        plan.run(*inputs, *kept.results, kept.workspace, *found[:-2], *given)
        plan.take_gradients(found[-2:])
        return tuple(found)

    def lstm_forward(
        self, x: Array, h: Array, c: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None,
        sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, Array, Array, object]:  # fmt: skip
        """The outputs (rows, H), the last states h and c, and what `lstm_backward` needs."""
        plan = self._plan(LSTM, x, (h, c), wx, wh, sizes, reverse)
        if plan is None:
            return self._numpy.lstm_forward(x, h, c, wx, wh, bx, bh, tuple(sizes), reverse)
        (out, h, c), kept = _run(plan, x, (h, c), (wx, wh), _bias(wx, bx, bh))
        return out, h, c, kept

    def lstm_backward(
        self, g: Array | None, gh: Array | None, gc: Array | None, saved: object, c0: Array, x: Array, wx: Array,
        wh: Array, sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, c, wx, wh and of each bias."""
        if not isinstance(saved, _Kept):
            return self._numpy.lstm_backward(g, gh, gc, saved, c0, x, wx, wh, tuple(sizes), reverse)
        *inputs, bias, gwx, gwh = self._backward(LSTM, (g, gh, gc), saved, x, (wx, wh), sizes, reverse)
        return (*inputs, gwx, gwh, bias.reshape(-1))

    def gru_forward(
        self, x: Array, h: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Sequence[int],
        reverse: bool,
    ) -> tuple[Array, Array, object]:  # fmt: skip
        """The outputs (rows, H), the last state, and what `gru_backward` needs."""
        plan = self._plan(GRU, x, (h,), wx, wh, sizes, reverse)
        if plan is None:
            return self._numpy.gru_forward(x, h, wx, wh, bx, bh, tuple(sizes), reverse)
        by_input, by_state = (_swapped(_bias(wx, b)).reshape(3, -1) for b in (bx, bh))
        bias = np.concatenate((by_input, by_state[2:]))
        bias[:2] += by_state[:2]
        (out, h), kept = _run(plan, x, (h,), (_swapped(wx), _swapped(wh)), bias)
        return out, h, kept

    def gru_backward(
        self, g: Array | None, gh: Array | None, saved: object, h0: Array, x: Array, wx: Array, wh: Array,
        sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, wx, wh, bx and bh."""
        if not isinstance(saved, _Kept):
            return self._numpy.gru_backward(g, gh, saved, h0, x, wx, wh, tuple(sizes), reverse)
        weights = _swapped(wx), _swapped(wh)
        gx, gh0, bias, gwx, gwh = self._backward(GRU, (g, gh), saved, x, weights, sizes, reverse)
        by_state = _swapped(bias[[0, 1, 3]].reshape(-1))
        return gx, gh0, _swapped(gwx), _swapped(gwh), _swapped(bias[:3].reshape(-1)), by_state

    def simple_forward(
        self, x: Array, h: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Sequence[int],
        reverse: bool, by_relu: bool,
    ) -> tuple[Array, Array, object]:  # fmt: skip
        """The outputs (rows, H), the last state, and what `simple_backward` needs."""
        plan = self._plan(RELU if by_relu else TANH, x, (h,), wx, wh, sizes, reverse)
        if plan is None:
            return self._numpy.simple_forward(x, h, wx, wh, bx, bh, tuple(sizes), reverse, by_relu)
        (out, h), kept = _run(plan, x, (h,), (wx, wh), _bias(wx, bx, bh))
        return out, h, kept

    def simple_backward(
        self, g: Array | None, gh: Array | None, saved: object, x: Array, wx: Array, wh: Array, sizes: Sequence[int],
        reverse: bool, by_relu: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, wx, wh and of each bias."""
        if not isinstance(saved, _Kept):
            return self._numpy.simple_backward(g, gh, saved, x, wx, wh, tuple(sizes), reverse, by_relu)
        cell = RELU if by_relu else TANH
        gx, gh0, bias, gwx, gwh = self._backward(cell, (g, gh), saved, x, (wx, wh), sizes, reverse)
        return gx, gh0, gwx, gwh, bias.reshape(-1)
