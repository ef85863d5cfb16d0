"""Single steps of recurrences, for loops of one's own."""

import math
from typing import Any

from .. import ops
from .._parameter import Parameter
from .._tensor import Tensor
from ..errors import ShapeError
from . import init
from ._module import Module
from ._new import new_parameter

States = tuple[Tensor, ...]


class RNNCellBase(Module):
    """What all cells have: weights, biases, and checks of their input."""

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = new_parameter(rows, input_size, device=device, dtype=dtype)
        self.weight_hh = new_parameter(rows, hidden_size, device=device, dtype=dtype)
        self.register_parameter("bias_ih", new_parameter(rows, device=device, dtype=dtype) if bias else None)
        self.register_parameter("bias_hh", new_parameter(rows, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values: uniform in +-1/sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def _batched(self, input: Tensor, states: States | None, count: int) -> tuple[Tensor, States]:
        """Input (N, I) and states (N, H), with a batch of one for a single vector."""
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: expected an input of size {self.input_size}, got {input.shape[-1]}")
        x = input if input.ndim == 2 else input.unsqueeze(0)
        if states is None:
            zero = ops.zeros(x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)
            return x, (zero,) * count
        batched = tuple(s if s.ndim == 2 else s.unsqueeze(0) for s in states)
        for state in batched:
            if tuple(state.shape) != (x.shape[0], self.hidden_size):
                raise ShapeError(
                    f"{name}: expected a state of shape {[x.shape[0], self.hidden_size]}, got {list(state.shape)}"
                )
        return x, batched

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"


class RNNCell(RNNCellBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh); ``nonlinearity="relu"`` takes relu instead."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity: {nonlinearity}")
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Input (N, I) and state (N, H) to the new state."""
        x, (h,) = self._batched(input, None if hx is None else (hx,), 1)
        step = ops.rnn_tanh_cell if self.nonlinearity == "tanh" else ops.rnn_relu_cell
        result = step(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return result if input.ndim == 2 else result.squeeze(0)

    def extra_repr(self) -> str:
        text = super().extra_repr()
        return text if self.nonlinearity == "tanh" else f"{text}, nonlinearity={self.nonlinearity}"


class GRUCell(RNNCellBase):
    """One step of `GRU`."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Input (N, I) and state (N, H) to the new state."""
        x, (h,) = self._batched(input, None if hx is None else (hx,), 1)
        result = ops.gru_cell(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return result if input.ndim == 2 else result.squeeze(0)


class LSTMCell(RNNCellBase):
    """One step of `LSTM`."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Input (N, I) and states (h, c), each (N, H), to the new states."""
        x, states = self._batched(input, hx, 2)
        h, c = ops.lstm_cell(x, states, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return (h, c) if input.ndim == 2 else (h.squeeze(0), c.squeeze(0))
