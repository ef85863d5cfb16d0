"""Recurrent layers as one operation for each layer and direction."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._engine import grad
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..errors import ShapeError
from ._activation import relu
from ._common import need_same_dtype, tensor_of
from ._dropout import dropout as drop
from ._elementwise import sigmoid, tanh
from ._join import cat, stack
from ._linear import linear
from ._spec import op

if TYPE_CHECKING:
    from .._tensor import Tensor

Sizes = tuple[int, ...]


class _Recurrent(Op):
    """Inputs: x (rows, I), the states (B, H), wx, wh, bx, bh (the biases may be None); outputs: (rows, H) and the last
    states.

    ``params = (sizes, reverse, ...)``: how many sequences run at each step. Second derivatives come from the layer
    composed of cells.
    """

    quiet = True

    @staticmethod
    def compose(*arguments: Any) -> Any:
        """The same layer from differentiable operations on Tensors."""
        raise NotImplementedError

    @staticmethod
    def backward(xp: Any, ctx: Node, grads: Any, *saved: Any) -> Any:
        wanted = [i for i, needed in enumerate(ctx.needs) if needed]
        # Fresh nodes, so that the inner pass ends at the inputs and goes no further.
        inputs = [t * 1 if i in wanted else t for i, t in enumerate(saved)]
        outputs = ctx.op.compose(*inputs, *ctx.params)
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
        found = grad(
            [o for o, _ in pairs],
            [inputs[i] for i in wanted],
            [g for _, g in pairs],
            create_graph=True,
            allow_unused=True,
        )
        result: list[Any] = [None] * len(saved)
        for i, g in zip(wanted, found, strict=True):
            result[i] = g
        return tuple(result)


def _cells(
    x: Any, states: Sequence[Any], sizes: Sizes, reverse: bool, cell: Callable[[Any, Sequence[Any]], Sequence[Any]]
) -> tuple[Any, ...]:
    """Runs `cell(input, states) -> states` over packed rows; the first state is the output."""
    starts = [sum(sizes[:t]) for t in range(len(sizes))]
    outputs: list[Any] = [None] * len(sizes)
    current = list(states)
    for t in reversed(range(len(sizes))) if reverse else range(len(sizes)):
        n = sizes[t]
        new = cell(x[starts[t] : starts[t] + n], [s[:n] for s in current])
        outputs[t] = new[0]
        current = [a if n == len(s) else cat((a, s[n:]), 0) for a, s in zip(new, current, strict=True)]
    return (cat(outputs, 0), *current)


class Lstm(_Recurrent):
    saves = ((0, 1, 2, 3, 4, 5, 6),) * 7

    @staticmethod
    def forward(
        ctx: Node, x: Array, h: Array, c: Array, wx: Array, wh: Array, bx: Any, bh: Any, sizes: Sizes, reverse: bool
    ) -> tuple[Array, Array, Array]:
        out, h_n, c_n, ctx.cache = ctx.kernels.rnn.lstm_forward(x, h, c, wx, wh, bx, bh, sizes, reverse)
        return out, h_n, c_n

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, grads: Any, *saved: Any) -> Any:
        x, _, c, wx, wh, *_ = saved
        kernels, kept = ctx.kernels.rnn, ctx.cache
        if kept is None:
            kept = kernels.lstm_forward(*saved, *ctx.params)[3]
        *rest, bias = kernels.lstm_backward(*grads, kept, c, x, wx, wh, *ctx.params)
        return (*rest, bias if ctx.needs[5] else None, bias if ctx.needs[6] else None)

    @staticmethod
    def compose(x: Any, h: Any, c: Any, wx: Any, wh: Any, bx: Any, bh: Any, sizes: Sizes, reverse: bool) -> Any:
        def cell(row: Any, states: Sequence[Any]) -> Sequence[Any]:
            i, f, g, o = (linear(row, wx, bx) + linear(states[0], wh, bh)).chunk(4, 1)
            new = sigmoid(f) * states[1] + sigmoid(i) * tanh(g)
            return sigmoid(o) * tanh(new), new

        return _cells(x, (h, c), sizes, reverse, cell)


class Gru(_Recurrent):
    saves = ((0, 1, 2, 3, 4, 5),) * 6

    @staticmethod
    def forward(
        ctx: Node, x: Array, h: Array, wx: Array, wh: Array, bx: Any, bh: Any, sizes: Sizes, reverse: bool
    ) -> tuple[Array, Array]:
        out, h_n, ctx.cache = ctx.kernels.rnn.gru_forward(x, h, wx, wh, bx, bh, sizes, reverse)
        return out, h_n

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, grads: Any, *saved: Any) -> Any:
        x, h, wx, wh, *_ = saved
        kernels, kept = ctx.kernels.rnn, ctx.cache
        if kept is None:
            kept = kernels.gru_forward(*saved, *ctx.params)[2]
        *rest, gbx, gbh = kernels.gru_backward(*grads, kept, h, x, wx, wh, *ctx.params)
        return (*rest, gbx if ctx.needs[4] else None, gbh if ctx.needs[5] else None)

    @staticmethod
    def compose(x: Any, h: Any, wx: Any, wh: Any, bx: Any, bh: Any, sizes: Sizes, reverse: bool) -> Any:
        def cell(row: Any, states: Sequence[Any]) -> Sequence[Any]:
            a, b, c = linear(row, wx, bx).chunk(3, 1)
            d, e, f = linear(states[0], wh, bh).chunk(3, 1)
            update = sigmoid(b + e)
            candidate = tanh(c + sigmoid(a + d) * f)
            return ((states[0] - candidate) * update + candidate,)

        return _cells(x, (h,), sizes, reverse, cell)


class Rnn(_Recurrent):
    """``params = (sizes, reverse, by_relu)``."""

    saves = ((0, 1, 2, 3, 4, 5),) * 6

    @staticmethod
    def forward(
        ctx: Node,
        x: Array,
        h: Array,
        wx: Array,
        wh: Array,
        bx: Any,
        bh: Any,
        sizes: Sizes,
        reverse: bool,
        by_relu: bool,
    ) -> tuple[Array, Array]:
        out, h_n, ctx.cache = ctx.kernels.rnn.simple_forward(x, h, wx, wh, bx, bh, sizes, reverse, by_relu)
        return out, h_n

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, grads: Any, *saved: Any) -> Any:
        x, _, wx, wh, *_ = saved
        kernels, kept = ctx.kernels.rnn, ctx.cache
        if kept is None:
            kept = kernels.simple_forward(*saved, *ctx.params)[2]
        *rest, bias = kernels.simple_backward(*grads, kept, x, wx, wh, *ctx.params)
        return (*rest, bias if ctx.needs[4] else None, bias if ctx.needs[5] else None)

    @staticmethod
    def compose(x: Any, h: Any, wx: Any, wh: Any, bx: Any, bh: Any, sizes: Sizes, reverse: bool, by_relu: bool) -> Any:
        def cell(row: Any, states: Sequence[Any]) -> Sequence[Any]:
            return ((relu if by_relu else tanh)(linear(row, wx, bx) + linear(states[0], wh, bh)),)

        return _cells(x, (h,), sizes, reverse, cell)


def _layers(
    kind: Any,
    x: Any,
    states: tuple[Any, ...],
    params: Sequence[Any],
    sizes: Sizes,
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    *extra: Any,
) -> tuple[Any, tuple[Any, ...]]:
    """All layers over packed rows: the outputs (rows, directions * H), and each state (layers * directions, B, H)."""
    directions = 2 if bidirectional else 1
    width = 4 if has_biases else 2
    last: list[tuple[Any, ...]] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            weights = [*params[number * width : (number + 1) * width], *(() if has_biases else (None, None))]
            given = tuple(s[number] for s in states)
            out, *final = apply(kind, (x, *given, *weights), (sizes, direction == 1, *extra))
            outputs.append(out)
            last.append(tuple(final))
        x = outputs[0] if directions == 1 else cat(outputs, 1)
        if dropout and train and layer < layers - 1:
            x = drop(x, dropout)
    return x, tuple(stack(group, 0) for group in zip(*last, strict=True))


def _check(name: str, x: Any, states: tuple[Any, ...], params: Sequence[Any], batch: int) -> None:
    width = x._data.shape[-1]
    need_same_dtype(name, input=x, weight=params[0])
    if params[0]._data.shape[1] != width:
        raise ShapeError(
            f"{name}: expected an input of {params[0]._data.shape[1]} features in its last dimension, got "
            f"{list(x._data.shape)}"
        )
    hidden = params[1]._data.shape[1]
    for state in states:
        if state._data.ndim != 3 or state._data.shape[1:] != (batch, hidden):
            raise ShapeError(
                f"{name}: expected a state of shape (layers * directions, {batch}, {hidden}) for a batch of {batch} "
                f"and weights for states of {hidden} features, got {list(state._data.shape)}"
            )


def _run(
    kind: Any,
    name: str,
    input: Any,
    states: tuple[Any, ...],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    batch_sizes: Any,
    *extra: Any,
) -> tuple[Any, tuple[Any, ...]]:
    if batch_sizes is not None:
        sizes = tuple(int(n) for n in batch_sizes)
        _check(name, input, states, params, sizes[0])
        return _layers(
            kind, input, states, params, sizes, has_biases, num_layers, dropout, train, bidirectional, *extra
        )
    input = tensor_of(input, name)
    x = input.transpose(0, 1) if batch_first else input
    steps, batch, width = x._data.shape
    _check(name, input, states, params, batch)
    rows = x.reshape(steps * batch, width)
    out, last = _layers(
        kind, rows, states, params, (batch,) * steps, has_biases, num_layers, dropout, train, bidirectional, *extra
    )
    out = out.reshape(steps, batch, math.prod(out._data.shape[1:]))
    return (out.transpose(0, 1) if batch_first else out), last


@op(method=False)
def lstm(
    input: "Tensor",
    hx: Any,
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    batch_sizes: Any = None,
) -> tuple["Tensor", "Tensor", "Tensor"]:
    """Layers of LSTM (Hochreiter and Schmidhuber 1997) over whole sequences.

    Args:
        input: (T, N, I), with `batch_first` (N, T, I), or packed (rows, I) with `batch_sizes`.
        hx: the states h and c, each (layers * directions, N, H).
        params: for each layer and direction ``w_ih (4 H, I), w_hh (4 H, H)`` and, with `has_biases`, ``b_ih, b_hh (4
            H,)``; the gates in torch's order: input, forget, cell, output.
        has_biases: whether `params` has biases.
        num_layers: the number of layers.
        dropout: the probability with which each layer's output but the last one's is dropped in training.
        train: whether dropout is active.
        bidirectional: each layer also runs backwards.
        batch_first: the batch is the first dimension of input and output.
        batch_sizes: how many sequences run at each step of a packed input; not increasing.

    Returns:
        The outputs, and the last states h and c.
    """
    out, (h, c) = _run(
        Lstm,
        "lstm",
        input,
        tuple(hx),
        params,
        has_biases,
        num_layers,
        dropout,
        train,
        bidirectional,
        batch_first,
        batch_sizes,
    )
    return out, h, c


@op(method=False)
def gru(
    input: "Tensor",
    hx: "Tensor",
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    batch_sizes: Any = None,
) -> tuple["Tensor", "Tensor"]:
    """Layers of gated recurrent units (Cho et al. 2014, arXiv:1406.1078) over whole sequences; arguments as `lstm`,
    with one state.
    """
    out, (h,) = _run(
        Gru, "gru", input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional, batch_first,
        batch_sizes,
    )  # fmt: skip
    return out, h


@op(method=False)
def rnn_tanh(
    input: "Tensor",
    hx: "Tensor",
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    batch_sizes: Any = None,
) -> tuple["Tensor", "Tensor"]:
    """Layers of ``tanh(w_ih x + b_ih + w_hh h + b_hh)`` over whole sequences; arguments as `lstm`, with one state."""
    out, (h,) = _run(
        Rnn,
        "rnn_tanh",
        input,
        (hx,),
        params,
        has_biases,
        num_layers,
        dropout,
        train,
        bidirectional,
        batch_first,
        batch_sizes,
        False,
    )
    return out, h


@op(method=False)
def rnn_relu(
    input: "Tensor",
    hx: "Tensor",
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    batch_sizes: Any = None,
) -> tuple["Tensor", "Tensor"]:
    """As `rnn_tanh`, with relu."""
    out, (h,) = _run(
        Rnn,
        "rnn_relu",
        input,
        (hx,),
        params,
        has_biases,
        num_layers,
        dropout,
        train,
        bidirectional,
        batch_first,
        batch_sizes,
        True,
    )
    return out, h


@op(method=False)
def lstm_cell(
    input: "Tensor", hx: Any, w_ih: "Tensor", w_hh: "Tensor", b_ih: "Tensor | None" = None, b_hh: "Tensor | None" = None
) -> tuple["Tensor", "Tensor"]:
    """One step of `lstm`: input (N, I) and states (N, H) to the new states h and c."""
    _, h, c = apply(
        Lstm, (input, *hx, w_ih, w_hh, b_ih, b_hh), ((tensor_of(input, "lstm_cell")._data.shape[0],), False)
    )
    return h, c


@op(method=False)
def gru_cell(
    input: "Tensor",
    hx: "Tensor",
    w_ih: "Tensor",
    w_hh: "Tensor",
    b_ih: "Tensor | None" = None,
    b_hh: "Tensor | None" = None,
) -> "Tensor":
    """One step of `gru`: input (N, I) and state (N, H) to the new state."""
    return apply(Gru, (input, hx, w_ih, w_hh, b_ih, b_hh), ((tensor_of(input, "gru_cell")._data.shape[0],), False))[1]  # type: ignore[no-any-return]


@op(method=False)
def rnn_tanh_cell(
    input: "Tensor",
    hx: "Tensor",
    w_ih: "Tensor",
    w_hh: "Tensor",
    b_ih: "Tensor | None" = None,
    b_hh: "Tensor | None" = None,
) -> "Tensor":
    """One step of `rnn_tanh`: input (N, I) and state (N, H) to the new state."""
    params = ((tensor_of(input, "rnn_tanh_cell")._data.shape[0],), False, False)
    return apply(Rnn, (input, hx, w_ih, w_hh, b_ih, b_hh), params)[1]  # type: ignore[no-any-return]


@op(method=False)
def rnn_relu_cell(
    input: "Tensor",
    hx: "Tensor",
    w_ih: "Tensor",
    w_hh: "Tensor",
    b_ih: "Tensor | None" = None,
    b_hh: "Tensor | None" = None,
) -> "Tensor":
    """One step of `rnn_relu`: input (N, I) and state (N, H) to the new state."""
    params = ((tensor_of(input, "rnn_relu_cell")._data.shape[0],), False, True)
    return apply(Rnn, (input, hx, w_ih, w_hh, b_ih, b_hh), params)[1]  # type: ignore[no-any-return]
