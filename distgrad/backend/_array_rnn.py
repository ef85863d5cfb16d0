"""Recurrent layers over whole sequences: one matrix product for all inputs, one a step for the recurrence.

Sequences are packed: the rows of step t follow those of step t - 1, and `sizes[t]` sequences are still running (never
more than at the step before). States are (B, H); a sequence that has ended, or not begun in the reverse direction,
keeps its row.

Gates are activated by one tanh each step: ``sigmoid(x) = (tanh(x / 2) + 1) / 2``.
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

    def lstm_forward(
        self, x: Array, h: Array, c: Array, wx: Array, wh: Array, bx: Array | None, bh: Array | None,
        sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, Array, Array, tuple[Array, Array, Array]]:  # fmt: skip
        """The outputs (rows, H), the last states h and c, and for `lstm_backward` gates, cells and previous h."""
        xp = self._xp
        width = h.shape[1]
        gates = self._inputs(x, wx, bx, bh)  # (rows, 4 H): input, forget, cell, output
        out, cells, before = (xp.empty((len(x), width), dtype=x.dtype) for _ in range(3))
        h, c = h.copy(), c.copy()
        wh_t = xp.ascontiguousarray(wh.T)
        scratch = xp.empty((len(h), 4 * width), dtype=x.dtype)
        for n, rows in _steps(sizes, reverse):
            z, state, cell = gates[rows], h[:n], c[:n]
            before[rows] = state
            z += xp.matmul(state, wh_t, out=scratch[:n])
            self._sigmoid_in_place(z[:, : 2 * width])
            candidate = z[:, 2 * width : 3 * width]
            xp.tanh(candidate, out=candidate)
            self._sigmoid_in_place(z[:, 3 * width :])
            cell *= z[:, width : 2 * width]
            cell += xp.multiply(z[:, :width], candidate, out=state)
            cells[rows] = cell
            xp.tanh(cell, out=state)
            state *= z[:, 3 * width :]
            out[rows] = state
        return out, h, c, (gates, cells, before)

    def lstm_backward(
        self, g: Array | None, gh: Array | None, gc: Array | None, saved: tuple[Array, Array, Array], c0: Array,
        x: Array, wx: Array, wh: Array, sizes: Sequence[int], reverse: bool,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, c, wx, wh and of each bias, from those of the outputs and the last states."""
        xp = self._xp
        gates, cells, before = saved
        width = wh.shape[1]
        dh = xp.zeros_like(c0) if gh is None else gh.copy()
        dc = xp.zeros_like(c0) if gc is None else gc.copy()
        dz = xp.empty_like(gates)
        order = list(_steps(sizes, reverse))
        for position in range(len(order) - 1, -1, -1):
            n, rows = order[position]
            previous = self._previous_cells(cells, c0, order, position)
            z, d, dcell = gates[rows], dz[rows], dc[:n]
            i, f, a, o = (z[:, k * width : (k + 1) * width] for k in range(4))
            di, df, da, do = (d[:, k * width : (k + 1) * width] for k in range(4))
            hidden = dh[:n]
            if g is not None:
                hidden += g[rows]
            squashed = xp.tanh(cells[rows])
            xp.multiply(hidden, squashed, out=do)
            hidden *= o
            squashed *= squashed
            xp.subtract(1, squashed, out=squashed)
            squashed *= hidden
            dcell += squashed
            xp.multiply(dcell, a, out=di)
            xp.multiply(dcell, previous, out=df)
            xp.multiply(a, a, out=da)
            xp.subtract(1, da, out=da)
            da *= i
            da *= dcell
            dcell *= f
            for slope, gate in ((di, i), (df, f), (do, o)):
                slope *= gate
                slope *= xp.subtract(1, gate, out=squashed)
            xp.matmul(d, wh, out=hidden)
        return (xp.matmul(dz, wx), dh, dc, xp.matmul(dz.T, x), xp.matmul(dz.T, before), self._column_sums(dz))

    def _column_sums(self, dz: Array) -> Array:
        xp = self._xp
        return xp.ones(len(dz), dtype=dz.dtype) @ dz

    def _previous_cells(self, cells: Array, c0: Array, order: list[tuple[int, slice]], position: int) -> Array:
        """The cell states with which a step began."""
        xp = self._xp
        n, _ = order[position]
        if position == 0:
            return c0[:n]
        m, rows = order[position - 1]
        if m >= n:
            return cells[rows.start : rows.start + n]
        return xp.concatenate((cells[rows], c0[m:n]))

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
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """The outputs of ``tanh`` (or relu) ``(wx x + wh h + biases)``, the last state, and each step's previous h."""
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
        return out, h, before

    def simple_backward(
        self, g: Array | None, gh: Array | None, out: Array, before: Array, x: Array, wx: Array, wh: Array,
        sizes: Sequence[int], reverse: bool, by_relu: bool, batch: int,
    ) -> tuple[Array, ...]:  # fmt: skip
        """The gradients of x, h, wx, wh and of each bias."""
        xp = self._xp
        dh = xp.zeros((batch, wh.shape[1]), dtype=x.dtype) if gh is None else gh.copy()
        dz = xp.empty_like(out)
        for n, rows in reversed(list(_steps(sizes, reverse))):
            hidden, d = dh[:n], dz[rows]
            if g is not None:
                hidden += g[rows]
            slope = out[rows] > 0 if by_relu else 1 - out[rows] * out[rows]
            xp.multiply(hidden, slope, out=d)
            xp.matmul(d, wh, out=hidden)
        return xp.matmul(dz, wx), dh, xp.matmul(dz.T, x), xp.matmul(dz.T, before), self._column_sums(dz)
