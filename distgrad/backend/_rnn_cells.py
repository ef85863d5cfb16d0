"""What a step of a recurrent layer computes beside its matrix products, for arrays of any shape S.

A step's block holds its gates and what else its gradient needs, each gate as one run of memory, so that a few calls
work on several gates at once. `xp` is NumPy or what has its interface.

``sigmoid(x) = (tanh(x / 2) + 1) / 2``, so one tanh activates all gates of an LSTM; the products leave half the sum
where a sigmoid follows.
"""

from typing import Any

from .._typing import Array

LSTM_ORDER = (3, 0, 1, 2)  # a block's gates output, input, forget, cell, by their places in torch's order
LSTM_SLOTS, LSTM_WORK = 5, 7  # arrays of shape S in a block, and in the scratch of `lstm_slopes`
GRU_SLOTS, GRU_WORK = 4, 3


def lstm_cell(xp: Any, block: Array, c: Array, work: Array, out: Array) -> None:
    """One step of an LSTM.

    Args:
        xp: the array module.
        block: (5, *S); the sums for output, input, forget (halves) and cell, which become the gates. The cell state
            before the step is added.
        c: (*S), the cell state, which becomes the next one.
        work: scratch (2, *S).
        out: (*S), receives the next h.
    """
    gates, sigmoids = block[:4], block[:3]
    xp.tanh(gates, out=gates)
    sigmoids *= 0.5
    sigmoids += 0.5
    block[4] = c
    xp.multiply(block[1:3], block[3:], out=work)  # input * cell, forget * c
    xp.add(work[0], work[1], out=c)
    xp.tanh(c, out=work[0])
    xp.multiply(work[0], block[0], out=out)


def lstm_slopes(xp: Any, block: Array, dh: Array, dc: Array, work: Array, slopes: Array) -> None:
    """The gradients of a step's sums.

    Args:
        xp: the array module.
        block: (5, *S), as `lstm_cell` left it.
        dh: (*S), the gradient of the step's h.
        dc: (*S), the gradient of the cell state after the step, which becomes that of the one before.
        work: scratch (7, *S).
        slopes: (4, *S), receives the gradients of input, forget, cell and output.
    """
    o, i, f, g, _ = block
    parts, rest, squashed, product = work[:2], work[2:5], work[5], work[6]
    xp.multiply(block[1:3], block[3:], out=parts)  # input * cell, forget * c
    xp.add(parts[0], parts[1], out=squashed)
    xp.tanh(squashed, out=squashed)
    xp.subtract(1, block[:3], out=rest)
    xp.multiply(squashed, o, out=product)
    rest[0] *= product
    xp.multiply(rest[0], dh, out=slopes[3])
    product *= squashed
    xp.subtract(o, product, out=product)  # o (1 - tanh(c)^2)
    product *= dh
    dc += product
    rest[1:] *= parts
    xp.multiply(rest[1:], dc, out=slopes[:2])
    xp.multiply(parts[0], g, out=product)
    xp.subtract(i, product, out=product)  # i (1 - g^2)
    xp.multiply(product, dc, out=slopes[2])
    dc *= f


def gru_cell(xp: Any, block: Array, h: Array, work: Array, out: Array) -> None:
    """One step of a GRU.

    Args:
        xp: the array module.
        block: (4, *S): the sums for reset and update (halves), the inputs' part of the candidate, its recurrent part.
            The first three become the gates.
        h: (*S), the state before the step.
        work: scratch (*S).
        out: (*S), receives the next h.
    """
    sigmoids, candidate = block[:2], block[2]
    xp.tanh(sigmoids, out=sigmoids)
    sigmoids *= 0.5
    sigmoids += 0.5
    candidate += xp.multiply(block[0], block[3], out=work)
    xp.tanh(candidate, out=candidate)
    xp.subtract(h, candidate, out=work)
    work *= block[1]
    xp.add(work, candidate, out=out)


def gru_slopes(xp: Any, block: Array, before: Array, dh: Array, work: Array, slopes: Array) -> None:
    """The gradients of a step's sums.

    Args:
        xp: the array module.
        block: (4, *S), as `gru_cell` left it.
        before: (*S), the state before the step.
        dh: (*S), the gradient of the step's h; becomes its part that does not flow through the sums.
        work: scratch (3, *S).
        slopes: (4, *S), receives the gradients of the candidate's inputs' part, of reset and update, and of the
            candidate's recurrent part: first three the inputs' sums, last three the recurrent ones.
    """
    reset, update, candidate, inner = block
    rest, product = work[:2], work[2]
    xp.subtract(1, block[:2], out=rest)
    xp.multiply(candidate, candidate, out=product)
    xp.subtract(1, product, out=product)
    product *= rest[1]
    xp.multiply(product, dh, out=slopes[0])
    xp.subtract(before, candidate, out=product)
    product *= dh
    rest *= block[:2]
    xp.multiply(product, rest[1], out=slopes[2])
    xp.multiply(slopes[0], inner, out=product)
    xp.multiply(product, rest[0], out=slopes[1])
    xp.multiply(slopes[0], reset, out=slopes[3])
    dh *= update


def simple_slopes(xp: Any, out: Array, dh: Array, by_relu: bool, slopes: Array) -> None:
    """The gradients of the sums of ``out = tanh(sums)``, or relu, from that of out; all of shape (*S)."""
    if by_relu:
        xp.multiply(dh, out > 0, out=slopes)
        return
    xp.multiply(out, out, out=slopes)
    xp.subtract(1, slopes, out=slopes)
    slopes *= dh
