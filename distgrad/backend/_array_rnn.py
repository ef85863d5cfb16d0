"""Recurrent layers over whole sequences: one matrix product for all inputs, one a step for the recurrence.

Sequences are packed: the rows of step t follow those of step t - 1, and `sizes[t]` sequences are still running (never
more than at the step before). States are (B, H); a sequence that has ended, or not begun in the reverse direction,
keeps its row.

``sigmoid(x) = (tanh(x / 2) + 1) / 2``, so one tanh activates all gates of an LSTM. Its steps work on transposed
matrices, (4 H, B): each gate is then one run of memory, and so shaped the products are faster in BLAS. A step's input,
the state before it and a 1 for the bias lie side by side in one row, so that one product gives the gates of a step and
one the gradients of all weights.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from .._typing import Array


def _steps(sizes: Sequence[int], reverse: bool) -> Iterator[tuple[int, slice]]:
    """For each step, in the order of time or against it: how many sequences run, and their rows."""
    stops = list(accumulate(int(n) for n in sizes))
    order = range(len(sizes) - 1, -1, -1) if reverse else range(len(sizes))
    for t in order:
        n = int(sizes[t])
        yield n, slice(stops[t] - n, stops[t])


def _block(flat: Array, rows: slice, width: int) -> Array:
    """The part of a flat buffer that belongs to one step, as (width, sequences)."""
    return flat[rows.start * width : rows.stop * width].reshape(width, rows.stop - rows.start)


class ArrayRnn:
    """`RnnKernels` for any array module with NumPy's interface.

    Args:
        xp: the array module, numpy or cupy.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def _inputs(self, x: Array, weight: Array, *biases: Array | None) -> Array:
        """x @ weight.T plus the biases, for all steps at once."""
        xp = self._xp
        z = xp.matmul(x, weight.T)
        for bias in biases:
            if bias is not None:
                z += bias
        return z

    def _sigmoid_in_place(self, z: Array) -> None:
        xp = self._xp
        z *= 0.5
        xp.tanh(z, out=z)
        z += 1
        z *= 0.5

    def _joint_weights(self, wx: Array, wh: Array, bx: Array | None, bh: Array | None) -> Array:
        """Weights and bias for rows (input, state, 1), with those of the sigmoid gates halved."""
        parts = [wx, wh]
        if bx is not None or bh is not None:
            parts.append(sum(b for b in (bx, bh) if b is not None).reshape(-1, 1))
        joint = self._xp.concatenate(parts, axis=1)
        width = wh.shape[1]
        joint[: 2 * width] *= 0.5
        joint[3 * width :] *= 0.5
        return joint

    def lstm_forward(
        self, x: Array, h: Array, c: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None,
        sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, Array, Array, tuple[Array, Array, Array]]:  # fmt: skip
        """The outputs (rows, H), the last states h and c, and for `lstm_backward` gates, cells and joint rows."""
        xp = self._xp
        width, inputs, total = h.shape[1], x.shape[1], len(x)
        weights = self._joint_weights(wx, wh, bx, bh)  # (4 H, I + H + 1): input, forget, cell, output
        joint = xp.ones((total, weights.shape[1]), dtype=x.dtype)
        joint[:, :inputs] = x
        states = joint[:, inputs : inputs + width]
        gates, cells = (xp.empty(n * total, dtype=x.dtype) for n in (4 * width, width))
        out = xp.empty((total, width), dtype=x.dtype)
        h, c = h.copy(), c.T.copy()
        work = xp.empty((width, len(h)), dtype=x.dtype)
        for n, rows in _steps(sizes, reverse):
            z, kept, product = _block(gates, rows, 4 * width), _block(cells, rows, width), work[:, :n]
            states[rows] = h[:n]
            xp.matmul(weights, joint[rows].T, out=z)
            xp.tanh(z, out=z)
            for part in (z[: 2 * width], z[3 * width :]):
                part *= 0.5
                part += 0.5
            xp.multiply(c[:, :n], z[width : 2 * width], out=kept)
            kept += xp.multiply(z[:width], z[2 * width : 3 * width], out=product)
            c[:, :n] = kept
            xp.tanh(kept, out=product)
            product *= z[3 * width :]
            h[:n] = product.T
            out[rows] = h[:n]
        return out, h, c.T.copy(), (gates, cells, joint)

    def lstm_backward(
        self, g: Array | None, gh: Array | None, gc: Array | None, saved: tuple[Array, Array, Array], c0: Array,
        x: Array, wx: Array, wh: Array, sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, c, wx, wh and of each bias, from those of the outputs and the last states."""
        xp = self._xp
        gates, cells, joint = saved
        width, inputs = wh.shape[1], x.shape[1]
        dh = xp.zeros((width, len(c0)), dtype=x.dtype) if gh is None else gh.T.copy()
        dc = xp.zeros((width, len(c0)), dtype=x.dtype) if gc is None else gc.T.copy()
        slopes = xp.empty((len(x), 4 * width), dtype=x.dtype)
        first, turned = c0.T, xp.ascontiguousarray(wh.T)
        order = list(_steps(sizes, reverse))
        for position in range(len(order) - 1, -1, -1):
            n, rows = order[position]
            before = first[:, :n] if position == 0 else self._cells_before(cells, first, n, order[position - 1])
            hidden, cell = dh[:, :n], dc[:, :n]
            if g is not None:
                hidden += g[rows].T
            d = self._lstm_slopes(hidden, cell, _block(gates, rows, 4 * width), _block(cells, rows, width), before)
            slopes[rows] = d.T
            dh[:, :n] = xp.matmul(turned, d)
        both = xp.matmul(slopes.T, joint)
        bias = both[:, inputs + width] if both.shape[1] > inputs + width else self._column_sums(slopes)
        gradients = both[:, :inputs], both[:, inputs : inputs + width]
        return (xp.matmul(slopes, wx), dh.T, dc.T, *gradients, bias)

    def _lstm_slopes(self, dh: Array, dc: Array, gates: Array, cells: Array, before: Array) -> Array:
        """The gradient (4 H, n) of a step's gates before activation; `dc` becomes that of the cells before the step."""
        xp = self._xp
        width = len(cells)
        i, f, a, o = (gates[k * width : (k + 1) * width] for k in range(4))
        slopes = gates * gates
        xp.subtract(gates, slopes, out=slopes)  # s - s^2, right for the sigmoids
        di, df, da, do = (slopes[k * width : (k + 1) * width] for k in range(4))
        xp.multiply(a, a, out=da)
        xp.subtract(1, da, out=da)
        squashed = xp.tanh(cells)
        do *= squashed
        do *= dh
        squashed *= squashed
        xp.subtract(1, squashed, out=squashed)
        squashed *= o
        squashed *= dh
        dc += squashed
        for slope, factor in ((di, a), (df, before), (da, i)):
            slope *= factor
            slope *= dc
        dc *= f
        return slopes

    def _cells_before(self, cells: Array, first: Array, n: int, previous: tuple[int, slice]) -> Array:
        """The cell states (H, n) with which a step began; those of sequences that began with it are the given ones."""
        m, rows = previous
        kept = _block(cells, rows, len(first))
        return kept[:, :n] if m >= n else self._xp.concatenate((kept, first[:, m:n]), axis=1)

    def _column_sums(self, dz: Array) -> Array:
        xp = self._xp
        return xp.ones(len(dz), dtype=dz.dtype) @ dz

    def gru_forward(
        self, x: Array, h: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Sequence[int],
        reverse: bool,
    ) -> tuple[Array, Array, tuple[Array, Array, Array]]:  # fmt: skip
        """The outputs (rows, H), the last state, and gates, the candidate's recurrent part, previous h."""
        xp = self._xp
        width = h.shape[1]
        gates = self._inputs(x, wx, bx)  # (rows, 3 H): reset, update, candidate
        out, inner, before = (xp.empty((len(x), width), dtype=x.dtype) for _ in range(3))
        h = h.copy()
        wh_t = xp.ascontiguousarray(wh.T)
        recurrent = xp.empty((len(h), 3 * width), dtype=x.dtype)
        for n, rows in _steps(sizes, reverse):
            z, state = gates[rows], h[:n]
            before[rows] = state
            r = xp.matmul(state, wh_t, out=recurrent[:n])
            if bh is not None:
                r += bh
            inner[rows] = r[:, 2 * width :]
            both, candidate = z[:, : 2 * width], z[:, 2 * width :]
            both += r[:, : 2 * width]
            self._sigmoid_in_place(both)
            candidate += z[:, :width] * inner[rows]
            xp.tanh(candidate, out=candidate)
            state -= candidate
            state *= z[:, width : 2 * width]
            state += candidate
            out[rows] = state
        return out, h, (gates, inner, before)

    def gru_backward(
        self, g: Array | None, gh: Array | None, saved: tuple[Array, Array, Array], h0: Array, x: Array, wx: Array,
        wh: Array, sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, wx, wh, bx and bh."""
        xp = self._xp
        gates, inner, before = saved
        width = wh.shape[1]
        dh = xp.zeros_like(h0) if gh is None else gh.copy()
        dz, dr = xp.empty_like(gates), xp.empty_like(gates)  # by the inputs' part, by the recurrent part
        for n, rows in reversed(list(_steps(sizes, reverse))):
            z, d, hidden = gates[rows], dz[rows], dh[:n]
            if g is not None:
                hidden += g[rows]
            r, u, a = (z[:, k * width : (k + 1) * width] for k in range(3))
            d[:, width : 2 * width] = hidden * (before[rows] - a) * u * (1 - u)
            d[:, 2 * width :] = hidden * (1 - u) * (1 - a * a)
            d[:, :width] = d[:, 2 * width :] * inner[rows] * r * (1 - r)
            dr[rows] = d
            dr[rows][:, 2 * width :] *= r
            hidden *= u
            hidden += xp.matmul(dr[rows], wh)
        sums = self._column_sums(dz), self._column_sums(dr)
        return (xp.matmul(dz, wx), dh, xp.matmul(dz.T, x), xp.matmul(dr.T, before), *sums)

    def simple_forward(
        self, x: Array, h: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None, sizes: Sequence[int],
        reverse: bool, by_relu: bool,
    ) -> tuple[Array, Array, tuple[Array, Array]]:  # fmt: skip
        """The outputs of ``tanh`` (or relu) ``(wx x + wh h + biases)``, the last state, and a copy of the outputs with
        each step's previous h."""
        xp = self._xp
        out = self._inputs(x, wx, bx, bh)
        before = xp.empty((len(x), h.shape[1]), dtype=x.dtype)
        h = h.copy()
        for n, rows in _steps(sizes, reverse):
            z, state = out[rows], h[:n]
            before[rows] = state
            z += xp.matmul(state, wh.T)
            if by_relu:
                xp.maximum(z, 0, out=z)
            else:
                xp.tanh(z, out=z)
            state[...] = z
        return out, h, (out.copy(), before)

    def simple_backward(
        self, g: Array | None, gh: Array | None, saved: tuple[Array, Array], x: Array, wx: Array, wh: Array,
        sizes: Sequence[int], reverse: bool, by_relu: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, wx, wh and of each bias."""
        xp = self._xp
        out, before = saved
        dh = xp.zeros((sizes[0], wh.shape[1]), dtype=x.dtype) if gh is None else gh.copy()
        dz = xp.empty_like(out)
        for n, rows in reversed(list(_steps(sizes, reverse))):
            hidden, z, d = dh[:n], out[rows], dz[rows]
            if g is not None:
                hidden += g[rows]
            xp.multiply(hidden, z > 0 if by_relu else 1 - z * z, out=d)
            xp.matmul(d, wh, out=hidden)
        return xp.matmul(dz, wx), dh, xp.matmul(dz.T, x), xp.matmul(dz.T, before), self._column_sums(dz)
