"""Recurrent layers over whole sequences."""

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any

from .. import ops
from .._parameter import Parameter
from .._tensor import Tensor
from ..errors import ShapeError
from . import init
from ._module import Module
from ._new import new_parameter
from ._packed import PackedSequence

States = tuple[Tensor, ...]
Result = tuple[Tensor, States]


class RNNBase(Module, ABC):
    """What LSTM, GRU and RNN share: parameters for each layer and direction, shapes, packed input.

    Args:
        mode: ``"LSTM"``, ``"GRU"``, ``"RNN_TANH"`` or ``"RNN_RELU"``.
    """

    gates: int  # how many times the hidden size the weights have rows
    states: int  # how many states a step passes on

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _check_sizes(hidden_size, num_layers, dropout, proj_size)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._weight_names: list[list[str]] = []
        for layer in range(num_layers):
            for direction in range(1 + bidirectional):
                self._weight_names.append(self._add_weights(layer, direction, device, dtype))
        self.reset_parameters()

    def _add_weights(self, layer: int, direction: int, device: Any, dtype: Any) -> list[str]:
        """Registers the parameters of one layer and direction; returns their names."""
        rows = self.gates * self.hidden_size
        out = self.proj_size or self.hidden_size
        width = self.input_size if layer == 0 else out * (1 + self.bidirectional)
        end = f"_l{layer}{'_reverse' if direction else ''}"
        shapes: dict[str, tuple[int, ...]] = {f"weight_ih{end}": (rows, width), f"weight_hh{end}": (rows, out)}
        if self.bias:
            shapes |= {f"bias_ih{end}": (rows,), f"bias_hh{end}": (rows,)}
        if self.proj_size:
            shapes[f"weight_hr{end}"] = (self.proj_size, self.hidden_size)
        for name, shape in shapes.items():
            self.register_parameter(name, new_parameter(*shape, device=device, dtype=dtype))
        return list(shapes)

    def reset_parameters(self) -> None:
        """Draws new initial values: uniform in +-1/sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._weight_names]

    @property
    def _flat_weights(self) -> list[Parameter]:
        return [weight for weights in self.all_weights for weight in weights]

    def flatten_parameters(self) -> None:
        """Accepted as in torch; there is nothing to do."""

    @abstractmethod
    def _run(self, input: Tensor, states: States, batch_first: bool, batch_sizes: Any) -> Result:
        """The outputs and the last states."""

    def _forward(self, input: Any, states: States | None) -> tuple[Any, States]:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, states)
        if input.ndim not in (2, 3):
            raise ValueError(f"{self.mode}: Expected input to be 2D or 3D, got {input.ndim}D instead")
        single = input.ndim == 2
        if single:
            _need_dims(self.mode, states, 2, "unbatched 2-D")
            input = input.unsqueeze(1)
            states = None if states is None else tuple(s.unsqueeze(1) for s in states)
        else:
            _need_dims(self.mode, states, 3, "batched 3-D")
        batch_first = self.batch_first and not single
        states = self._checked(input, states, input.shape[0 if batch_first else 1])
        output, last = self._run(input, states, batch_first, None)
        if single:
            return output.squeeze(1), tuple(s.squeeze(1) for s in last)
        return output, last

    def _forward_packed(self, packed: PackedSequence, states: States | None) -> tuple[Any, States]:
        order, back = packed.sorted_indices, packed.unsorted_indices
        if states is not None and order is not None:
            states = tuple(ops.index_select(s, 1, order) for s in states)
        states = self._checked(packed.data, states, int(packed.batch_sizes[0]))
        output, last = self._run(packed.data, states, False, packed.batch_sizes)
        if back is not None:
            last = tuple(ops.index_select(s, 1, back) for s in last)
        return packed._replace(data=output), last

    def _checked(self, input: Tensor, states: States | None, batch: int) -> States:
        """The states to begin with, zeros where none are given."""
        if input.shape[-1] != self.input_size:
            raise ShapeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )
        numbers = self.num_layers * (1 + self.bidirectional)
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: self.states]
        if states is None:
            return tuple(
                ops.zeros(numbers, batch, size, dtype=input.dtype, device=input.device) for size in sizes
            )
        for i, (state, size) in enumerate(zip(states, sizes, strict=True)):
            if tuple(state.shape) != (numbers, batch, size):
                raise ShapeError(
                    f"Expected hidden{f'[{i}]' if self.states > 1 else ''} size {(numbers, batch, size)}, got "
                    f"{list(state.shape)}"
                )
        return states

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if not self.bias:
            text += f", bias={self.bias}"
        if self.batch_first:
            text += f", batch_first={self.batch_first}"
        if self.dropout:
            text += f", dropout={self.dropout}"
        return f"{text}, bidirectional={self.bidirectional}" if self.bidirectional else text


def _check_sizes(hidden_size: int, num_layers: int, dropout: float, proj_size: int) -> None:
    if isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being zeroed, got "
            f"{dropout}"
        )
    if not isinstance(hidden_size, int):
        raise TypeError(f"hidden_size should be of type int, got: {type(hidden_size).__name__}")
    if hidden_size <= 0 or num_layers <= 0:
        raise ValueError(f"hidden_size and num_layers must be greater than zero, got {hidden_size} and {num_layers}")
    if not 0 <= proj_size < hidden_size:
        raise ValueError(f"proj_size must be from 0 to hidden_size - 1, got {proj_size} and {hidden_size}")
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers "
            f"greater than 1, but got dropout={dropout} and num_layers={num_layers}",
            stacklevel=4,
        )


def _need_dims(mode: str, states: States | None, dims: int, what: str) -> None:
    for state in states or ():
        if state.ndim != dims:
            raise ShapeError(f"{mode}: for {what} input, hx should also be {dims}-D but got {state.ndim}-D tensor")


class _OneState(RNNBase):
    """A recurrence that passes on one state."""

    states = 1

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """The outputs (T, N, directions * H) of the last layer, and the last states (layers * directions, N, H)."""
        output, (last,) = self._forward(input, None if hx is None else (hx,))
        return output, last


class RNN(_OneState):
    """Layers of h' = tanh(W_ih x + b_ih + W_hh h + b_hh) (Elman, 1990); arguments as in `LSTM`.

    Args:
        nonlinearity: ``"tanh"`` or ``"relu"``.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'.")
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )
        self.nonlinearity = nonlinearity

    def _run(self, input: Tensor, states: States, batch_first: bool, batch_sizes: Any) -> Result:
        run = ops.rnn_tanh if self.nonlinearity == "tanh" else ops.rnn_relu
        output, last = run(
            input,
            states[0],
            self._flat_weights,
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            batch_first,
            batch_sizes,
        )
        return output, (last,)


class GRU(_OneState):
    """Layers of gated recurrent units (Cho et al., 2014); arguments as in `LSTM`."""

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )

    def _run(self, input: Tensor, states: States, batch_first: bool, batch_sizes: Any) -> Result:
        output, last = ops.gru(
            input,
            states[0],
            self._flat_weights,
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            batch_first,
            batch_sizes,
        )
        return output, (last,)


class LSTM(RNNBase):
    """Layers of long short-term memory (Hochreiter and Schmidhuber, 1997).

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: layers, each reading the outputs of the one before.
        bias: whether there are b_ih and b_hh.
        batch_first: inputs and outputs are (N, T, *) instead of (T, N, *).
        dropout: probability between layers, while training.
        bidirectional: each layer also runs backwards; outputs have both.
        proj_size: P; the hidden state is projected to this size (Sak et al., 2014).

    Shapes: input (T, N, I), (T, I) or a PackedSequence; states h (layers * directions, N, P or H) and c (..., N, H).
    """

    gates = 4
    states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(
            "LSTM", *sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype
        )

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """The outputs (T, N, directions * H) of the last layer, and the last states (h, c)."""
        if isinstance(hx, Tensor):
            raise TypeError("LSTM: expected hx to be a tuple (h, c) of two Tensors, got one Tensor")
        output, (h, c) = self._forward(input, hx)
        return output, (h, c)

    def _run(self, input: Tensor, states: States, batch_first: bool, batch_sizes: Any) -> Result:
        if self.proj_size:
            return self._run_projected(input, states, batch_first, batch_sizes)
        output, h, c = ops.lstm(
            input,
            states,
            self._flat_weights,
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            batch_first,
            batch_sizes,
        )
        return output, (h, c)

    def _run_projected(self, input: Tensor, states: States, batch_first: bool, batch_sizes: Any) -> Result:
        """The same with projections, step by step."""
        if batch_sizes is not None:
            raise ShapeError("LSTM: a PackedSequence with proj_size > 0 is not supported; pad the sequences instead")
        x = input.transpose(0, 1) if batch_first else input
        last: list[tuple[Tensor, Tensor]] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(1 + self.bidirectional):
                number = len(last)
                steps = list(x.unbind(0))[:: -1 if direction else 1]
                out, final = _projected_steps(steps, states[0][number], states[1][number], self.all_weights[number])
                outputs.append(ops.stack(out[:: -1 if direction else 1], 0))
                last.append(final)
            x = ops.cat(outputs, 2) if self.bidirectional else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                x = ops.dropout(x, self.dropout, self.training)
        h, c = (ops.stack(group, 0) for group in zip(*last, strict=True))
        return x.transpose(0, 1) if batch_first else x, (h, c)


def _projected_steps(
    steps: list[Tensor], h: Tensor, c: Tensor, weights: list[Parameter]
) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """One layer in one direction, with a projected hidden state."""
    w_ih, w_hh, *biases, w_hr = weights
    b_ih, b_hh = biases or (None, None)
    outputs = []
    for x in steps:
        i, f, g, o = (ops.linear(x, w_ih, b_ih) + ops.linear(h, w_hh, b_hh)).chunk(4, 1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.linear(ops.sigmoid(o) * ops.tanh(c), w_hr)
        outputs.append(h)
    return outputs, (h, c)
