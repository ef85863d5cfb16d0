"""What a recording rests on: all that the step's own code can see by name, and the state of tensors and modes.

`Surroundings` walks from the step function along closures, globals, attributes and containers, and remembers each
object by identity. `holds` compares; whatever the walk does not understand cannot be recorded.
"""

import argparse
import builtins
import enum
import functools
import math
import sys
import types
from collections.abc import Callable, Iterable
from itertools import chain
from operator import attrgetter, is_
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Generic, Protocol

from .._tensor import Tensor
from ..autograd._base import TensorBase
from ..nn import Module
from ..optim import Optimizer
from ..optim.lr_scheduler import LRScheduler
from . import _trusted
from ._errors import Unrecordable

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented), slice, range)
_MODULES = frozenset(
    [
        "math",
        "operator",
        "typing",
        "functools",
        "itertools",
        "collections",
        "dataclasses",
        "abc",
        "enum",
        "numbers",
        "types",
        "builtins",
        "__future__",
        "collections.abc",
        "contextlib",
    ]
)
_NUMPY_NAMES = frozenset(
    [
        "sqrt",
        "log",
        "log2",
        "exp",
        "pi",
        "e",
        "inf",
        "nan",
        "prod",
        "ceil",
        "floor",
        "float16",
        "float32",
        "float64",
        "int32",
        "int64",
    ]
)
_STATE_OF_OPTIMIZERS = frozenset(
    ["param_groups", "state", "defaults", "base_lrs", "last_epoch", "_last_lr", "_step_count"]
)
_BUILTINS = frozenset(dir(builtins))  # which globals may hide
_HEAP_TYPE = 1 << 9  # of classes made by a class statement, and of some made in C
_BOOKKEEPING = frozenset(["_parameters", "_buffers", "_non_persistent"])

_OF_FUNCTIONS = (attrgetter("__code__"), attrgetter("__defaults__"), attrgetter("__kwdefaults__"))

Codes = dict[CodeType, dict[str, Any]]


class Surroundings:
    """What the step can see, as it is now.

    Args:
        function: the step.
        objects: what it is called with, besides tensors.
        codes: the user's functions that ran, with their globals.

    Attributes:
        tensors: by id.

    Raises:
        Unrecordable: something has a state that cannot be watched.
    """

    def __init__(self, function: Any, objects: Iterable[Any], codes: Codes) -> None:
        self.tensors: dict[int, Any] = {}
        self._codes = codes
        self._names = {name for code in codes for name in code.co_names}
        self._seen: dict[int, Any] = {}
        self._dicts: list[dict[Any, Any]] = []  # whose keys count
        self._parts: list[Iterable[Any]] = []  # live views of what was seen
        self._labels: list[str] = []
        self._getters: list[tuple[Callable[[Any], Any], Any]] = []
        self._found: set[CodeType] = set()
        self._cells: list[Any] = []
        for label, value in (("the step", function), *((f"argument {i}", o) for i, o in enumerate(objects))):
            self._walk(value, label)
        for code, names in codes.items():
            self._walk_globals(code, names)
        self._check_closures()
        self._check_names()
        self._keys = list(chain.from_iterable(self._dicts))
        self._values = self._current()

    @property
    def objects(self) -> Iterable[Any]:
        """All that was seen."""
        return self._seen.values()

    # ---- comparing -------------------------------------------------------------------------------------------------

    def _current(self) -> list[Any]:
        values = list(chain.from_iterable(self._parts))
        values += [cell.cell_contents for cell in self._cells]
        values += [get(source) for get, source in self._getters]
        return values

    def holds(self) -> bool:
        """Whether everything is as it was."""
        try:
            values = self._current()
        except (KeyError, ValueError):
            return False
        before = self._values
        if len(values) != len(before) or not (all(map(is_, values, before)) or all(map(_same, values, before))):
            return False
        return list(chain.from_iterable(self._dicts)) == self._keys

    def difference(self) -> str:
        """Where something has changed, in words."""
        for parts, label in zip(self._parts, self._labels, strict=True):
            values = list(parts)
            start = sum(1 for _ in chain.from_iterable(self._parts[: self._parts.index(parts)]))
            if not all(map(_same, values, self._values[start : start + len(values)])):
                return label
        return "a global or enclosing variable"

    # ---- walking ---------------------------------------------------------------------------------------------------

    def _watch(self, parts: Iterable[Any], label: str) -> None:
        self._parts.append(parts)
        self._labels.append(label)

    def _walk(self, value: Any, label: str) -> None:
        kind = value.__class__
        if kind in _PLAIN or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if len(self._seen) > 20_000:
            raise Unrecordable("it can see more than 20,000 objects")
        if isinstance(value, TensorBase):
            self.tensors[id(value)] = value
            if self._names & getattr(value, "__dict__", {}).keys():
                raise Unrecordable(f"{label}: a tensor has attributes of the user's")
        elif isinstance(value, Module):
            self._walk_module(value, label)
        elif isinstance(value, (FunctionType, MethodType, functools.partial)):
            self._walk_callable(value, label)
        elif isinstance(value, ModuleType):
            self._walk_python_module(value, label)
        elif isinstance(value, (list, tuple, dict)):
            self._walk_container(value, label)
        elif isinstance(value, (set, frozenset)):
            self._walk_container(tuple(value), label)
            self._watch(_Sorted(value), label)
        elif isinstance(value, (type, BuiltinFunctionType, enum.Enum, property, staticmethod, classmethod)):
            self._walk_class(value, label)
        elif isinstance(value, (Optimizer, LRScheduler)) or _is_ours(type(value)):
            pass  # calls of its methods are looked at one by one
        elif type(value).__module__ == "typing":
            pass
        else:
            self._walk_object(value, label)

    def _walk_container(self, value: Any, label: str) -> None:
        if isinstance(value, dict):
            self._dicts.append(value)
            self._watch(value.values(), label)
            parts: list[tuple[Any, Any]] = list(value.items())
        else:
            if isinstance(value, list):
                self._watch(value, label)
            parts = list(enumerate(value))
        for key, part in parts:
            self._walk(part, f"{label}[{key!r}]")

    def _walk_module(self, module: Module, label: str) -> None:
        own = vars(module)
        if own.get("_hooks") is not None:
            raise Unrecordable(f"{label}: a module has hooks")
        self._dicts.append(own)
        self._watch(own.values(), label)
        for name, part in own.items():
            if name in _BOOKKEEPING:
                continue
            if name == "_modules":
                self._walk_container(part, label)
            elif name in self._names or _is_known(part):
                self._walk(part, f"{label}.{name}")
        self._walk_class(type(module), label)

    def _walk_callable(self, value: Any, label: str) -> None:
        if isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self._walk(part, label)
        elif isinstance(value, MethodType):
            self._walk(value.__self__, label)
            self._walk(value.__func__, label)
        elif value.__code__ in self._codes:
            self._found.add(value.__code__)
            self._getters += [(get, value) for get in _OF_FUNCTIONS]
            for part in (value.__defaults__, value.__kwdefaults__):
                self._walk(part, f"a default of {value.__name__}()")
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                self._walk_cell(name, cell)
            self._walk(value.__dict__.get("__wrapped__"), label)
        elif _trusted.file_of(value.__code__) is not None:  # a decorator of distgrad's around a function of the user's
            self._walk(value.__dict__.get("__wrapped__"), label)

    def _walk_cell(self, name: str, cell: Any) -> None:
        if any(cell is other for other in self._cells):
            return
        try:
            content = cell.cell_contents
        except ValueError:
            return  # not set; the step would fail if it looked
        self._cells.append(cell)
        self._walk(content, name)

    def _walk_globals(self, code: CodeType, names: dict[str, Any]) -> None:
        for name in sorted(set(code.co_names) & (names.keys() | _BUILTINS)):
            self._getters.append((names.get, name))
            self._walk(names.get(name), name)

    def _walk_python_module(self, module: ModuleType, label: str) -> None:
        name = module.__name__
        if name in _MODULES or name.split(".")[0] == "distgrad":
            return
        used = sorted(self._names & vars(module).keys())
        if name == "numpy" and set(used) <= _NUMPY_NAMES | {"float", "int"}:
            return
        file = getattr(module, "__file__", None) or ""
        if not file or file.startswith(_trusted.LIBRARY) or "site-packages" in file:
            if used:
                raise Unrecordable(f"it uses {used[0]} of the module {name}, which a replay would not do again")
            return
        for attribute in used:
            self._getters.append((vars(module).get, attribute))
            self._walk(vars(module)[attribute], f"{label}.{attribute}")

    def _walk_class(self, value: Any, label: str) -> None:
        if not isinstance(value, type):
            return
        for cls in value.__mro__:
            if _is_ours(cls) or cls.__module__ in ("builtins", "typing", "collections", "abc", "enum"):
                continue
            self._watch(vars(cls).values(), f"class {cls.__name__}")
            for name, part in list(vars(cls).items()):
                if name in self._names and not name.startswith("__"):
                    self._walk(part.__func__ if isinstance(part, (staticmethod, classmethod)) else part, name)
                elif isinstance(part, FunctionType):
                    self._walk(part, name)

    def _walk_object(self, value: Any, label: str) -> None:
        cls = type(value)
        if cls is not types.SimpleNamespace and not _is_plain_class(cls):
            raise Unrecordable(f"{label} is a {cls.__name__}, whose state cannot be watched")
        own = _attributes(value)
        if "__dict__" in self._names:
            raise Unrecordable(f"{label}: its attributes are read through __dict__")
        for name in sorted(self._names):
            if name in own or any(name in vars(base) for base in cls.__mro__):  # perhaps to be hidden by one of its own
                self._getters.append((_Attribute(name), value))
                self._walk(own.get(name), f"{label}.{name}")
        self._walk_class(cls, label)

    # ---- what remains ----------------------------------------------------------------------------------------------

    def _check_closures(self) -> None:
        """Functions that were made in the step see its own variables; of others all closures must have been found."""
        inner = {c for code in self._codes for c in code.co_consts if isinstance(c, CodeType)}
        for code in self._codes.keys() - self._found - inner:
            if code.co_freevars and code.co_freevars != ("__class__",):
                raise Unrecordable(f"it calls {code.co_name}(), whose enclosing variables cannot be found")

    def _check_names(self) -> None:
        read = sorted(self._names & _STATE_OF_OPTIMIZERS)
        if read and any(isinstance(v, (Optimizer, LRScheduler)) for v in self._seen.values()):
            raise Unrecordable(f"it reads {read[0]} of an optimizer or scheduler")


class _Sorted:
    """The elements of a set, by their ids."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __iter__(self) -> Any:
        return iter(sorted(self._value, key=id))


class _Attribute:
    """Gives an attribute; a mark of its own where there is none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, value: Any) -> Any:
        return _attributes(value).get(self._name, self)


def _attributes(value: Any) -> dict[str, Any]:
    own = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            member = cls.__dict__.get(name)
            if isinstance(member, types.MemberDescriptorType):
                try:
                    own[name] = member.__get__(value)
                except AttributeError:
                    continue
    return own


def _is_plain_class(cls: Any) -> bool:
    """Whether a class is written in Python, by users, on nothing that keeps a state of its own in C."""
    for base in cls.__mro__:
        file = getattr(sys.modules.get(base.__module__), "__file__", None) or ""
        if base is object or base is argparse.Namespace or base in (Protocol, Generic):
            continue
        if file.startswith(_trusted.LIBRARY) and "site-packages" not in file:
            return False
        if not base.__flags__ & _HEAP_TYPE or base.__module__ == "builtins":
            return False
        if file and not file.endswith(".py"):
            return False
    return True


def _is_ours(cls: Any) -> bool:
    name: str = cls.__module__
    return name.split(".")[0] == "distgrad" and name != "distgrad.bench._workloads"


def _is_known(value: Any) -> bool:
    """Whether an attribute of a module that no code of the user's names can be watched."""
    if isinstance(value, (list, tuple, dict)):
        parts = value.values() if isinstance(value, dict) else value
        return all(map(_is_known, parts))
    return isinstance(value, (*_PLAIN, Tensor, Module, FunctionType))


def _same(a: Any, b: Any) -> bool:
    """Whether two objects are one, or plain and indistinguishable."""
    if a is b:
        return True
    if a.__class__ is not b.__class__ or a.__class__ not in (bool, int, float, complex, str, bytes):
        return False
    return bool(a == b) and (a.__class__ is not float or math.copysign(1, a) == math.copysign(1, b))
