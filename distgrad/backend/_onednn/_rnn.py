"""Recurrent layers by oneDNN's matrix products, with weights packed once for all steps.

Float32 sequences of one length go here; all else goes to the NumPy family. On one core with AVX-512 a training step of
a character model (32 x 64, width 256) takes 0.85 of NumPy's time by LSTM, 0.78 by GRU and by tanh. oneDNN's own
primitives for whole sequences are not used here; torch's LSTM uses them, and its step is 0.1 faster than ours.

A step's input, the state before it and a 1 for the bias lie side by side in a row of `joint`, padded to whole cache
lines. Gates are separate matrices (B, H) in a block (`_rnn_cells.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..._typing import Array
from .._kernels import RnnKernels
from .._rnn_cells import (
    GRU_SLOTS,
    GRU_WORK,
    LSTM_ORDER,
    LSTM_SLOTS,
    LSTM_WORK,
    gru_cell,
    gru_slopes,
    lstm_cell,
    lstm_slopes,
    simple_slopes,
)
from ._core import Family, Products
from ._rnn_products import multiply, product

SMALL = 1 << 20  # multiplications in a step, below which NumPy is as fast
FEW, SHORT = 8, 256  # sequences, and rows in all, below which packing the weights costs more than it wins
_LINE = 16  # numbers in a cache line


class _Kept(NamedTuple):
    """What a backward pass needs: the blocks (T, slots, B, H) and the joint rows (T * B, padded width)."""

    blocks: Array
    joint: Array


def _rows(total: int, *widths: int) -> Array:
    """An array with rows of these widths together, each row beginning a cache line after the last one's end."""
    return np.empty((total, -(-sum(widths) // _LINE) * _LINE), dtype=np.float32)


def _slopes(total: int, width: int) -> tuple[Array, Array]:
    """Room for the gradients of four gates, as (rows, 4 H) and as (4, rows, H).

    A cache line is left out between the rows: with rows of 4 KiB, products of the transposed matrix would be slower.
    """
    whole = _rows(total, 4 * width, _LINE)[:, : 4 * width]
    return whole, whole.reshape(total, 4, width).transpose(1, 0, 2)


def _steps(sizes: Sequence[int], reverse: bool) -> list[tuple[int, slice]]:
    """Each step's number and rows, in the order of computation."""
    n = sizes[0]
    steps = [(t, slice(t * n, t * n + n)) for t in range(len(sizes))]
    return steps[::-1] if reverse else steps


def _bias(wx: Array, bx: Array | None, bh: Array | None) -> Array:
    total = np.zeros(len(wx), dtype=wx.dtype)
    for bias in (bx, bh):
        if bias is not None:
            total += bias
    return total


def _state_gradient(given: Array | None, batch: int, width: int) -> Array:
    return np.zeros((batch, width), dtype=np.float32) if given is None else np.array(given, order="C")


def _column_sums(slopes: Array) -> Array:
    return np.ones(len(slopes), dtype=slopes.dtype) @ slopes


class OneDnnRnn(Family[RnnKernels]):
    """`RnnKernels` that use oneDNN where it is faster."""

    def _takes(self, x: Array, wx: Array, wh: Array, sizes: Sequence[int]) -> bool:
        """Whether oneDNN is to compute this layer."""
        n, joint = int(sizes[0]), wx.shape[1] + wh.shape[1]
        enough = n * len(wx) * joint >= SMALL and n >= FEW and len(x) >= max(SHORT, joint // 2) and wx.shape[1] > 0
        alike = all(s == n for s in sizes) and x.dtype == wx.dtype == wh.dtype == np.float32
        return enough and alike and self._core.plan(Products) is not None

    def _input_gradient(self, slopes: Array, wx: Array) -> Array:
        """slopes (rows, G) of any spread @ wx (G, I)."""
        out = np.empty((len(slopes), wx.shape[1]), dtype=np.float32)
        product(self._core, slopes, wx, "rnn weights").run(slopes, out)
        return out

    def _weight_gradient(self, slopes: Array, rows: Array) -> Array:
        """slopes.T (G, rows) @ rows (rows, K)."""
        out = np.empty((slopes.shape[1], rows.shape[1]), dtype=np.float32)
        return multiply(self._core, slopes.T, rows, out)

    # -- LSTM ----------------------------------------------------------------------------------------------------------

    def lstm_forward(
        self, x: Array, h: Array, c: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None,
        sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, Array, Array, object]:  # fmt: skip
        """The outputs (rows, H), the last states h and c, and what `lstm_backward` needs."""
        if not self._takes(x, wx, wh, sizes):
            return self._numpy.lstm_forward(x, h, c, wx, wh, bx, bh, tuple(sizes), reverse)
        (batch, width), inputs = h.shape, x.shape[1]
        joint = _rows(len(x), inputs, width, 1)
        joint[:, :inputs] = x
        joint[:, inputs + width] = 1
        states = joint[:, inputs : inputs + width]
        run = product(self._core, joint, _lstm_weights(wx, wh, _bias(wx, bx, bh)), "rnn weights", batch).run
        blocks = np.empty((len(sizes), LSTM_SLOTS, batch, width), dtype=np.float32)
        out = np.empty((len(x), width), dtype=np.float32)
        c, work = np.array(c, order="C"), np.empty((2, batch, width), dtype=np.float32)
        for t, rows in _steps(sizes, reverse):
            states[rows] = h
            run(joint[rows], blocks[t])
            h = out[rows]
            lstm_cell(np, blocks[t], c, work, h)
        return out, h.copy(), c, _Kept(blocks, joint)

    def lstm_backward(
        self, g: Array | None, gh: Array | None, gc: Array | None, saved: object, c0: Array, x: Array, wx: Array,
        wh: Array, sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, c, wx, wh and of each bias."""
        if not isinstance(saved, _Kept):
            return self._numpy.lstm_backward(g, gh, gc, saved, c0, x, wx, wh, tuple(sizes), reverse)
        blocks, joint = saved
        (batch, width), inputs = c0.shape, x.shape[1]
        dh, dc = _state_gradient(gh, batch, width), _state_gradient(gc, batch, width)
        slopes, by_gate = _slopes(len(x), width)
        work = np.empty((LSTM_WORK + 4, batch, width), dtype=np.float32)
        d = work[LSTM_WORK:]
        run = product(self._core, slopes, wh, "rnn weights", batch).run
        for t, rows in reversed(_steps(sizes, reverse)):
            if g is not None:
                dh += g[rows]
            lstm_slopes(np, blocks[t], dh, dc, work, d)
            by_gate[:, rows] = d
            run(slopes[rows], dh)
        both = self._weight_gradient(slopes, joint[:, : inputs + width])
        gradients = both[:, :inputs], both[:, inputs:]
        return (self._input_gradient(slopes, wx), dh, dc, *gradients, _column_sums(slopes))

    # -- GRU -----------------------------------------------------------------------------------------------------------

    def gru_forward(
        self, x: Array, h: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Sequence[int],
        reverse: bool,
    ) -> tuple[Array, Array, object]:  # fmt: skip
        """The outputs (rows, H), the last state, and what `gru_backward` needs."""
        if not self._takes(x, wx, wh, sizes):
            return self._numpy.gru_forward(x, h, wx, wh, bx, bh, tuple(sizes), reverse)
        (batch, width), inputs = h.shape, x.shape[1]
        joint = _rows(len(x), width, 1, inputs)  # the state, 1, the input: what gates and candidate need overlaps
        joint[:, width] = 1
        joint[:, width + 1 : width + 1 + inputs] = x
        states, given = joint[:, :width], joint[:, width:]
        gates, candidate, inner = _gru_weights(wx, wh, bx, bh)
        run_gates = product(self._core, joint, gates, "rnn weights", batch).run
        run_candidate = product(self._core, given, candidate, "rnn weights 2", batch).run
        run_inner = product(self._core, joint, inner, "rnn weights 3", batch).run
        blocks = np.empty((len(sizes), GRU_SLOTS, batch, width), dtype=np.float32)
        out = np.empty((len(x), width), dtype=np.float32)
        work = np.empty((batch, width), dtype=np.float32)
        for t, rows in _steps(sizes, reverse):
            states[rows] = h
            block, row = blocks[t], joint[rows]
            run_gates(row, block)
            run_candidate(given[rows], block[2])
            run_inner(row, block[3])
            before, h = h, out[rows]
            gru_cell(np, block, before, work, h)
        return out, h.copy(), _Kept(blocks, joint)

    def gru_backward(
        self, g: Array | None, gh: Array | None, saved: object, h0: Array, x: Array, wx: Array, wh: Array,
        sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, wx, wh, bx and bh."""
        if not isinstance(saved, _Kept):
            return self._numpy.gru_backward(g, gh, saved, h0, x, wx, wh, tuple(sizes), reverse)
        blocks, joint = saved
        (batch, width), states = h0.shape, joint[:, : h0.shape[1]]
        dh = _state_gradient(gh, batch, width)
        slopes, by_gate = _slopes(len(x), width)  # candidate, reset, update, the candidate's recurrent part
        recurrent = slopes[:, width:]
        work = np.empty((GRU_WORK + 5, batch, width), dtype=np.float32)
        d, flow = work[GRU_WORK:-1], work[-1]
        run = product(self._core, recurrent, wh, "rnn weights", batch).run
        for t, rows in reversed(_steps(sizes, reverse)):
            if g is not None:
                dh += g[rows]
            gru_slopes(np, blocks[t], states[rows], dh, work, d)
            by_gate[:, rows] = d
            run(recurrent[rows], flow)
            dh += flow
        gwx = np.empty(wx.shape, dtype=np.float32)
        multiply(self._core, slopes[:, width : 3 * width].T, x, gwx[: 2 * width])
        multiply(self._core, slopes[:, :width].T, x, gwx[2 * width :])
        turned = np.concatenate((wx[2 * width :], wx[: 2 * width]))
        gx = self._input_gradient(slopes[:, : 3 * width], turned)
        sums = _column_sums(slopes)
        gbx = np.concatenate((sums[width : 3 * width], sums[:width]))
        return gx, dh, gwx, self._weight_gradient(recurrent, states), gbx, sums[width:]

    # -- tanh and relu -------------------------------------------------------------------------------------------------

    def simple_forward(
        self, x: Array, h: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Sequence[int],
        reverse: bool, by_relu: bool,
    ) -> tuple[Array, Array, object]:  # fmt: skip
        """The outputs (rows, H), the last state, and what `simple_backward` needs."""
        if not self._takes(x, wx, wh, sizes):
            return self._numpy.simple_forward(x, h, wx, wh, bx, bh, tuple(sizes), reverse, by_relu)
        (batch, width), inputs = h.shape, x.shape[1]
        joint = _rows(len(x), inputs, width, 1)
        joint[:, :inputs] = x
        joint[:, inputs + width] = 1
        states = joint[:, inputs : inputs + width]
        weights = np.concatenate((wx, wh, _bias(wx, bx, bh)[:, None]), axis=1)
        run = product(self._core, joint, weights.T, "rnn weights", batch).run
        out = np.empty((len(x), width), dtype=np.float32)
        for _, rows in _steps(sizes, reverse):
            states[rows] = h
            h = out[rows]
            run(joint[rows], h)
            if by_relu:
                np.maximum(h, 0, out=h)
            else:
                np.tanh(h, out=h)
        return out, h.copy(), _Kept(out, joint)

    def simple_backward(
        self, g: Array | None, gh: Array | None, out: Array, saved: object, x: Array, wx: Array, wh: Array,
        sizes: Sequence[int], reverse: bool, by_relu: bool, batch: int,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, wx, wh and of each bias."""
        if not isinstance(saved, _Kept):
            return self._numpy.simple_backward(
                g, gh, out, saved, x, wx, wh, tuple(sizes), reverse, by_relu, batch
            )
        width, inputs = wh.shape[1], x.shape[1]
        dh = _state_gradient(gh, batch, width)
        slopes = np.empty((len(x), width), dtype=np.float32)
        run = product(self._core, slopes, wh, "rnn weights", batch).run
        for _, rows in reversed(_steps(sizes, reverse)):
            if g is not None:
                dh += g[rows]
            simple_slopes(np, out[rows], dh, by_relu, slopes[rows])
            run(slopes[rows], dh)
        both = self._weight_gradient(slopes, saved.joint[:, : inputs + width])
        gradients = both[:, :inputs], both[:, inputs:]
        return (self._input_gradient(slopes, wx), dh, *gradients, _column_sums(slopes))


def _lstm_weights(wx: Array, wh: Array, bias: Array) -> Array:
    """Weights (4, I + H + 1, H) for rows (input, state, 1), in a block's order, with those of the sigmoids halved."""
    width, inputs = wh.shape[1], wx.shape[1]
    joint = np.empty((4, width, inputs + width + 1), dtype=np.float32)
    for gate, place in zip(joint, LSTM_ORDER, strict=True):
        rows = slice(place * width, (place + 1) * width)
        gate[:, :inputs] = wx[rows]
        gate[:, inputs:-1] = wh[rows]
        gate[:, -1] = bias[rows]
    joint[:3] *= 0.5
    return joint.transpose(0, 2, 1)


def _gru_weights(wx: Array, wh: Array, bx: Array | None, bh: Array | None) -> tuple[Array, Array, Array]:
    """Weights for rows (state, 1, input): of the halved gates (2, H + 1 + I, H), and of the two parts of the candidate,
    (1 + I, H) by (1, input) and (H + 1, H) by (state, 1)."""
    width, inputs = wh.shape[1], wx.shape[1]
    by_input, by_state = _bias(wx, bx, None), _bias(wx, bh, None)
    gates = np.empty((2 * width, width + 1 + inputs), dtype=np.float32)
    gates[:, :width] = wh[: 2 * width]
    gates[:, width] = by_input[: 2 * width] + by_state[: 2 * width]
    gates[:, width + 1 :] = wx[: 2 * width]
    gates *= 0.5
    candidate = np.concatenate((by_input[2 * width :, None], wx[2 * width :]), axis=1)
    inner = np.concatenate((wh[2 * width :], by_state[2 * width :, None]), axis=1)
    return gates.reshape(2, width, -1).transpose(0, 2, 1), candidate.T, inner.T
