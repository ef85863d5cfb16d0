"""The tape: a step as lines of Python on raw arrays, put together while it runs and compiled in the end."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..autograd._base import TensorBase
from ..autograd._node import Node
from ..backend import backends_by_array_type, device, dtype
from ._errors import Unrecordable

_VARIABLE = re.compile(r"\b[vg]\d+\b")
_CONSTANT = (float, complex, np.dtype, *{type(np.dtype(char)) for char in "?bhilBHILefdFD"}, type, dtype, device)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


class Line(NamedTuple):
    """One statement, at a depth of indentation."""

    depth: int
    text: str


class Recorded(NamedTuple):
    """An operation on the tape.

    Args:
        ctx: the context in which replays run it.
        name: of the context.
        inputs, outputs: names of arrays, or numbers as they are.
    """

    ctx: Node
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Tape:
    """What a step does to arrays, in order.

    Attributes:
        lines: the program.
        constants: what it refers to by name: arrays that live on, functions, contexts, tensors.
        nodes: the operations that may run backward, by the id of their node.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.depth = 1
        self.constants: dict[str, Any] = {}
        self.made: set[str] = set()  # names of constants that the step made itself
        self.nodes: dict[int, Recorded] = {}
        self.kept: list[Any] = []  # keeps alive what `_names` and `nodes` know by id
        self._names: dict[int, str] = {}
        self._bound: dict[int, str] = {}
        self._count = 0

    # ---- names ---------------------------------------------------------------------------------------------------

    def fresh(self, letter: str) -> str:
        """A name that was not used yet."""
        self._count += 1
        return f"{letter}{self._count}"

    def bind(self, value: Any, letter: str = "c") -> str:
        """The name of a constant."""
        name = self._bound.get(id(value))
        if name is None:
            name = self._bound[id(value)] = self.fresh(letter)
            self.constants[name] = value
        return name

    def define(self, array: Any, name: str) -> None:
        """From here on `name` holds this array."""
        self._names[id(array)] = name
        self.kept.append(array)

    def knows(self, array: Any) -> bool:
        """Whether a replay has this array."""
        return id(array) in self._names

    def array(self, array: Any) -> str:
        """The name that holds an array.

        Raises:
            Unrecordable: it came from elsewhere.
        """
        name = self._names.get(id(array))
        if name is None:
            raise Unrecordable(
                f"it uses values of shape {list(array.shape)} that were computed outside of recorded operations"
            )
        return name

    def value(self, value: Any) -> str:
        """An expression for an argument: arrays by name, what is plain literally, containers part by part."""
        if value.__class__ in backends_by_array_type:
            return self.array(value)
        if isinstance(value, TensorBase):
            self.array(value._data)
            return self.bind(value)
        if value.__class__ is tuple:
            return f"({''.join(f'{self.value(part)}, ' for part in value)})"
        if value.__class__ is list:
            return f"[{', '.join(map(self.value, value))}]"
        if value.__class__ is slice:
            return f"slice({self.value(value.start)}, {self.value(value.stop)}, {self.value(value.step)})"
        if value.__class__ in (bool, int, str, type(None), type(Ellipsis)):
            return repr(value)
        if isinstance(value, np.generic):
            raise Unrecordable("it uses a number that was computed outside of recorded operations")
        if value.__class__ in _CONSTANT:
            return self.bind(value)
        raise Unrecordable(f"an operation has an argument of class {type(value).__name__}")

    # ---- lines ---------------------------------------------------------------------------------------------------

    def add(self, text: str) -> None:
        """Appends a statement."""
        self.lines.append(Line(self.depth, text))

    def assign(self, letter: str, expression: str) -> str:
        """Appends an assignment to a fresh name, which it returns."""
        name = self.fresh(letter)
        self.add(f"{name} = {expression}")
        return name

    # ---- the end -------------------------------------------------------------------------------------------------

    def form(self) -> list[Any]:
        """What must be the same whenever the same step is recorded."""
        return [*self.lines, *((name, _form(value, name in self.made)) for name, value in self.constants.items())]

    def source(self) -> str:
        """The program as a function; every array is let go of after its last use."""
        last = {name: i for i, line in enumerate(self.lines) for name in _VARIABLE.findall(line.text)}
        ends: dict[int, list[str]] = {}
        for name, i in last.items():
            ends.setdefault(i, []).append(name)
        text = ["def replay(args, kwargs):"]
        for i, (depth, line) in enumerate(self.lines):
            text.append("    " * depth + line)
            if i in ends and not line.startswith(("return", "with")):
                text.append("    " * depth + "".join(f"{name} = " for name in ends[i]) + "None")
        return "\n".join(text) + "\n"

    def build(self) -> Callable[[Any, Any], Any]:
        """The program, ready to run."""
        scope = dict(self.constants)
        exec(compile(self.source(), "<replay>", "exec"), scope)
        return scope["replay"]  # type: ignore[no-any-return]


def _form(value: Any, made: bool) -> Any:
    if value.__class__ is Node:
        return (value.op, repr(value.params) if _is_plain(value.params) else len(value.params))
    if value.__class__ in _PLAIN:
        return (value.__class__, repr(value))
    if value.__class__ in backends_by_array_type:
        return (value.shape, value.dtype.str, value.tobytes() if made else id(value))
    return value.__class__


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if value.__class__ is tuple else value.__class__ in _PLAIN
