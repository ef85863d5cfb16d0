"""oneDNN's primitives for one recurrent layer over whole sequences, and the copies of its weights that they read."""

from collections.abc import Iterable
from ctypes import c_float, c_uint
from typing import NamedTuple

from ..._typing import Array
from ._core import (
    BACKWARD,
    BIAS,
    DIFF,
    DIFF_WEIGHTS_LAYOUT,
    DST,
    FORWARD,
    SRC,
    WEIGHTS,
    WEIGHTS_LAYOUT,
    WORKSPACE,
    WORKSPACE_LAYOUT,
    Primitive,
    Thread,
    row_major,
)
from ._library import Handle, Library

_FORWARDS, _BACKWARDS = 1, 2  # in time
_OVERWRITE = 1  # gradients of weights are written, not added to what is there


class Cell(NamedTuple):
    """What a step computes.

    Args:
        name: oneDNN's.
        activation: oneDNN's number of it, for a cell without gates.
        states: what is carried from step to step: two arrays for an LSTM.
        gates: how many sums there are, from inputs and state.
        biases: how many of their parts have a bias.
    """

    name: str
    activation: int
    states: int
    gates: int
    biases: int


LSTM = Cell("lstm", 0, 2, 4, 4)
GRU = Cell("lbr_gru", 0, 1, 3, 4)
TANH, RELU = (Cell("vanilla_rnn", activation, 1, 1, 1) for activation in (0x21, 0x20))


class Sizes(NamedTuple):
    """The number of steps and of sequences, the widths of input and state, and whether time runs backwards."""

    steps: int
    batch: int
    inputs: int
    width: int
    reverse: bool


def _plain(library: Library, *shape: int) -> Handle:
    return library.layout(shape, row_major(shape))


def _arguments(library: Library, cell: Cell, s: Sizes) -> dict[int, Handle]:
    """The layouts of inputs (T, B, I), states (B, H), biases (G, H), outputs (T, B, H) and last states."""
    state = _plain(library, 1, 1, s.batch, s.width)
    given = {SRC: _plain(library, s.steps, s.batch, s.inputs)}
    results = {DST: _plain(library, s.steps, s.batch, s.width)}
    for number in range(1, cell.states + 1):
        given[SRC + number] = results[DST + number] = state
    return {**given, BIAS: _plain(library, 1, 1, cell.biases, s.width), **results}


def _describe(library: Library, cell: Cell, s: Sizes, arguments: dict[int, Handle], hint: Handle | None) -> Handle:
    """The description of the forward pass, or with that as `hint` of the backward pass."""
    layouts: list[Handle | None] = list(arguments.values())
    weights: list[Handle | None] = [library.any_layout((1, 1, n, cell.gates, s.width)) for n in (s.inputs, s.width)]
    if cell is LSTM:
        weights += [None, None]  # no peepholes, no projection
    layouts[cell.states + 1 : cell.states + 1] = weights  # between the states and the biases
    first = (cell.activation,) * bool(cell.activation) + (_BACKWARDS if s.reverse else _FORWARDS,)
    last = (c_float(0), c_float(0)) * bool(cell.activation)  # slope and offset of the activation
    if hint is None:
        return library.describe(f"{cell.name}_forward", FORWARD, *first, *layouts, c_uint(0), *last)
    return library.describe(
        f"{cell.name}_backward", BACKWARD, *first, *layouts, *layouts, c_uint(_OVERWRITE), *last, hint
    )


class _Copies:
    """Copies (G H, I) and (G H, H) into the layout that a primitive has chosen, or back.

    Args:
        local: the thread's; its layers use the memory of the copies in turn.
        about: the primitive.
        query: what of it, weights or their gradients.
        number: the first one's number as an argument.
        cell, s: the layer.
        back: from the primitive's layout.
    """

    def __init__(
        self, local: Thread, about: Handle, query: int, number: int, cell: Cell, s: Sizes, back: bool = False
    ) -> None:
        library = local.library
        self.places: dict[int, tuple[Handle, Array]] = {}
        self._runs: list[Primitive] = []
        for index, n in enumerate((s.inputs, s.width)):
            gate = n * s.width
            plain = library.layout((1, 1, n, cell.gates, s.width), (gate * cell.gates, gate * cell.gates, 1, gate, n))
            inside = library.layout_of(about, query, index)
            place = inside, local.memory(f"rnn weights {number + index}", library.size(inside))
            self.places[number + index] = place
            if back:
                run = Primitive(local, library.describe_reorder(inside, plain), {DST: plain}, {SRC: place})
            else:
                run = Primitive(local, library.describe_reorder(plain, inside), {SRC: plain}, {DST: place})
            self._runs.append(run)

    def __call__(self, weights: Iterable[Array]) -> None:
        for run, weight in zip(self._runs, weights, strict=True):
            run(weight)


class Forward:
    """``run(x, *states, bias, out, *last states, workspace)``, after `put_weights`."""

    def __init__(self, local: Thread, cell: Cell, s: Sizes) -> None:
        library = local.library
        arguments = _arguments(library, cell, s)
        about = _describe(library, cell, s, arguments, None)
        _describe(library, cell, s, arguments, about)  # raises where there are no gradients
        workspace = library.layout_of(about, WORKSPACE_LAYOUT)
        self.workspace = library.size(workspace)
        self.put_weights = _Copies(local, about, WEIGHTS_LAYOUT, WEIGHTS, cell, s)
        self.run = Primitive(local, about, {**arguments, WORKSPACE: workspace}, self.put_weights.places, fast=True)


class Backward:
    """``run(x, *states, bias, out, *last states, workspace)`` and then the gradients of all but the workspace.

    `put_weights` comes before it, `take_gradients` after it.
    """

    def __init__(self, local: Thread, cell: Cell, s: Sizes) -> None:
        library = local.library
        arguments = _arguments(library, cell, s)
        hint = _describe(library, cell, s, arguments, None)
        about = _describe(library, cell, s, arguments, hint)
        self.put_weights = _Copies(local, about, WEIGHTS_LAYOUT, WEIGHTS, cell, s)
        self.take_gradients = _Copies(local, about, DIFF_WEIGHTS_LAYOUT, DIFF + WEIGHTS, cell, s, back=True)
        args = {**arguments, WORKSPACE: library.layout_of(hint, WORKSPACE_LAYOUT)}
        args.update({DIFF + number: layout for number, layout in arguments.items()})
        places = {**self.put_weights.places, **self.take_gradients.places}
        self.run = Primitive(local, about, args, places, fast=True)
