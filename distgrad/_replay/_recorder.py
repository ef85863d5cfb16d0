"""The recorder: watches one call of a step and writes it on a tape, or finds out why that cannot be done.

Two things tell it what happens. Operations and backward passes call it (an observer, `RecordedPass`). And Python's
profiling hook shows every function that is called, so that nothing goes unseen: each is one of the user's, whose names
are to be guarded; or one of distgrad, which `_trusted.py` must know.
"""

import functools
import gc
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FrameType, MethodDescriptorType, ModuleType
from typing import Any

from ..autograd._accumulate import announce
from ..autograd._base import LEAF_MARK, TensorBase, wrap
from ..autograd._mode import add_observer, mode, remove_observer
from ..autograd._node import Node
from ..backend import backend_of, backends_by_array_type
from ..ops._masked import MaskedFill
from ..parallel._watch import _Distributed
from . import _trusted
from ._errors import Unrecordable
from ._pass import RecordedPass
from ._results import expression
from ._scope import PassScope
from ._tape import Line, Recorded, Tape

_PURE = frozenset(
    [
        "len",
        "isinstance",
        "issubclass",
        "callable",
        "abs",
        "min",
        "max",
        "sum",
        "round",
        "sorted",
        "all",
        "any",
        "divmod",
        "pow",
        "repr",
        "format",
        "ord",
        "chr",
        "hasattr",
        "__build_class__",
    ]
)
_CONTAINERS = (str, bytes, tuple, list, dict, set, frozenset, int, float, complex, bool, range, slice)


class Recorder:
    """One call under observation.

    Args:
        tensors: those that exist before and may be used, by id.

    Attributes:
        tensors: as given.
        reason: why this cannot be replayed; None so far.
        codes: the user's functions that ran, with their globals.
        used: the tensors of `tensors` that the tape refers to.
        leaves: those that received gradients, with their state before.
        spent: the nodes, by id, that were there at the end of a backward pass of the step.
    """

    def __init__(self, tensors: dict[int, Any]) -> None:
        self.tape = Tape()
        self.reason: str | None = None
        self.codes: dict[CodeType, dict[str, Any]] = {}
        self.used: dict[int, Any] = {}
        self.leaves: dict[int, Any] = {}
        self.results: list[Any] = []
        self.spent: set[int] = set()
        self.tensors = tensors
        self._grads = {key: t._grad for key, t in tensors.items()}
        self._versions: list[tuple[list[int], int]] = []
        self._window: FrameType | None = None
        self._on_return: Callable[[Any], None] | None = None
        self._kinds: dict[CodeType, Any] = {}
        for t in tensors.values():
            self._watch_version(t)

    def take_arguments(self, tensors: list[tuple[str, Any]]) -> None:
        """Begins the tape with the tensors that the step is called with.

        Raises:
            Unrecordable: one is also seen otherwise, so that it is not clear which one is meant.
        """
        arrays = {id(t._data) for t in self.tensors.values()}
        for place, t in tensors:
            if id(t._data) in arrays or self.tape.knows(t._data):
                raise Unrecordable("an argument is a tensor, or shares one, that the step also sees otherwise")
            self.tape.define(t._data, self.tape.assign("v", f"{place}._data"))
            self._watch_version(t)

    def fail(self, problem: Unrecordable | str) -> None:
        """Notes the first reason."""
        if self.reason is None:
            self.reason = str(problem)

    # ---- tensors ---------------------------------------------------------------------------------------------------

    def _watch_version(self, t: Any) -> None:
        self._versions.append((t._cell, t._cell[0]))

    def check_versions(self) -> None:
        """Looks whether anything was written in place since the last look."""
        if any(cell[0] != version for cell, version in self._versions):
            self.fail("it writes into a tensor in place")

    def _settle_versions(self) -> None:
        self._versions = [(cell, cell[0]) for cell, _ in self._versions]

    def name_of(self, t: Any) -> str:
        """The name that holds a tensor's array.

        Raises:
            Unrecordable: nothing leads to this tensor.
        """
        if id(t) in self.tensors and id(t) not in self.used:
            self.used[id(t)] = t
            base = t._base
            if not (t._target is None or (t._target is LEAF_MARK and base is None)) or (
                base is not None and base._target is not None
            ):
                raise Unrecordable("it uses a tensor with a history from outside of the step")
            self.tape.define(t._data, self.tape.bind(t._data))
        return self.tape.array(t._data)

    def leaf(self, leaf: Any) -> str:
        """The name of a tensor that receives a gradient.

        Raises:
            Unrecordable: nothing leads to this tensor, or a hook of the user's waits there.
        """
        extra = leaf._extra
        hooks = () if extra is None else extra.post_accumulate.values()
        if any(_trusted.file_of(hook.__code__) is None for hook in hooks):
            raise Unrecordable("a tensor has a hook on its gradient")
        if id(leaf) in self.tensors:
            self.leaves.setdefault(id(leaf), (leaf, self._grads[id(leaf)]))
        elif not hooks:
            raise Unrecordable("a tensor receives a gradient that nothing in the step leads to")
        return self.tape.bind(leaf, "t")

    # ---- the call --------------------------------------------------------------------------------------------------

    def run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Calls the step and returns what it returned."""
        collects = gc.isenabled()
        gc.disable()  # finalizers of garbage are no part of the step, and would end the recording as calls in it
        observer = self._observe
        add_observer(observer)
        mode.make_pass = functools.partial(RecordedPass, self)
        sys.setprofile(self._watch)
        try:
            return function(*args, **kwargs)
        finally:
            sys.setprofile(None)
            if collects:
                gc.enable()
            mode.make_pass = None
            remove_observer(observer)
            self.check_versions()

    def _observe(self, op: Any, node: Node, inputs: tuple[Any, ...], result: Any) -> None:
        """An operation was applied."""
        if self.reason is not None or (self._window is not None and self._window.f_code is not _trusted.OPERATION):
            return
        try:
            self._write(op, node, inputs, result)
        except Unrecordable as problem:
            self.fail(problem)

    def _write(self, op: Any, node: Node, inputs: tuple[Any, ...], result: Any) -> None:
        tape = self.tape
        names = [self.name_of(t) if isinstance(t, TensorBase) else tape.value(t) for t in inputs]
        if op is _Distributed:
            if node.params[0] != 1.0:
                raise Unrecordable("the gradients of this rank are weighted")
            params = [tape.bind(p) for p in node.params]
        else:
            params = [tape.value(p) for p in node.params]
            if op is not MaskedFill and any(map(_holds_mask, node.params)):
                raise Unrecordable("it selects by a mask, so that shapes depend on values")
        backend = node.backend
        ctx = Node(op, backend, node.params)
        name = tape.bind(ctx, "n")
        if any(_holds_array(p) for p in node.params) and op is not _Distributed:
            tape.add(f"{name}.params = ({', '.join(params)},)")
        results = result if result.__class__ is tuple else (result,)
        outputs = [tape.fresh("v") for _ in results]
        target = ", ".join(outputs) + ("," if result.__class__ is tuple and len(outputs) == 1 else "")
        tape.add(f"{target} = {tape.bind(op.forward)}({', '.join([name, *names, *params])})")
        for output, r in zip(outputs, results, strict=True):
            if r._data.ndim == 0:  # NumPy may have given a scalar
                array_type = tape.bind(r._data.__class__)
                tape.add(
                    f"if {output}.__class__ is not {array_type}: {output} = {tape.bind(backend.asarray)}({output})"
                )
            if not tape.knows(r._data):
                tape.define(r._data, output)
            self._watch_version(r)
            self.results.append(r)
        linked = any(r._target is not None for r in results)
        if linked:
            tape.nodes[id(node)] = Recorded(ctx, name, tuple(names), tuple(outputs))
            tape.kept.append(node)
        else:
            tape.add(f"{name}.cache = {name}.aux = None")

    # ---- what Python shows -----------------------------------------------------------------------------------------

    def _watch(self, frame: FrameType, event: str, arg: Any) -> None:
        if self._window is not None:
            if event == "return" and frame is self._window:
                self._window, closing = None, self._on_return
                if closing is not None:
                    self._guarded(closing, arg)
        elif event == "call":
            self._guarded(self._called if self.reason is None else self._passed, frame)
        elif event == "c_call" and self.reason is None:
            self._guarded(self._called_c, (frame, arg))

    def _guarded(self, function: Callable[[Any], None], argument: Any) -> None:
        try:
            function(argument)
        except Unrecordable as problem:
            self.fail(problem)

    def _open(self, frame: FrameType, on_return: Callable[[Any], None] | None = None) -> None:
        self._window, self._on_return = frame, on_return

    def _passed(self, frame: FrameType) -> None:
        """A function is called in a step that is not recorded any more: the user's count."""
        code = frame.f_code
        if _trusted.file_of(code) is None:
            self._note_code(frame)
        elif code in _trusted.HOSTS or code in (_trusted.OPERATION, _trusted.BACKWARD):
            self._open(frame)

    def _note_code(self, frame: FrameType) -> None:
        code, caller = frame.f_code, frame.f_back
        by_trusted = caller is not None and (
            _trusted.file_of(caller.f_code) is not None or caller.f_code in self._kinds
        )
        if by_trusted and _trusted.is_library(code):
            self._kinds[code] = "library"
        else:
            self.codes[code] = frame.f_globals

    def _called(self, frame: FrameType) -> None:
        code = frame.f_code
        file = _trusted.file_of(code)
        if file is None:
            self._note_code(frame)
            return
        if code in _trusted.HOSTS:
            self._host(frame)
        elif code is _trusted.OPERATION:
            self._open(frame)
        elif code is _trusted.BACKWARD:
            self._backward(frame)
        elif code is _trusted.FACTOR:
            self._open(frame, self._check_factor)
        elif code is _trusted.CURRENT_REDUCER:
            self._check_settled(frame.f_locals["self"])
            self._open(frame)
        else:
            self._pass_through(frame, file, code)

    def _pass_through(self, frame: FrameType, file: str, code: CodeType) -> None:
        reason = _trusted.refusal(file, code)
        if reason is not None:
            raise Unrecordable(reason)
        if code.co_name == "_array_index":
            part = frame.f_locals["part"]
            if isinstance(part, TensorBase) and part._data.ndim == 0:
                raise Unrecordable("it indexes with a number that is a tensor")
        created = _trusted.is_creation(file, code, frame.f_locals)
        if created is not None:
            self._open(frame, self._created if created else self._made)

    def _created(self, result: Any) -> None:
        """A tensor was made of plain numbers: the same in every step."""
        if isinstance(result, TensorBase) and not self.tape.knows(result._data):
            if result._target is not None:
                raise Unrecordable("it makes a tensor that requires grad")
            name = self.tape.bind(result._data)
            self.tape.made.add(name)
            self.tape.define(result._data, name)
            self._watch_version(result)
            self.results.append(result)

    def _made(self, result: Any) -> None:
        if isinstance(result, TensorBase) and not self.tape.knows(result._data):
            raise Unrecordable("it makes a tensor of values that are not plain numbers")

    def _check_factor(self, factor: Any) -> None:
        if factor != 1.0:
            raise Unrecordable("the gradients of this rank are weighted")

    def _check_settled(self, model: Any) -> None:
        """A reducer that is about to change its mind is left to do so first."""
        reducer = model._reducer
        learns = reducer is not None and reducer.arrived is not None and model._settings.learns_order
        if reducer is None or not reducer.is_current() or learns or model._settings.autotune or reducer.overlap:
            raise Unrecordable("the reducer of DistributedDataParallel is not settled, or overlaps")

    def _backward(self, frame: FrameType) -> None:
        tape = self.tape
        outputs = frame.f_locals["outputs"]
        for t in outputs:
            if isinstance(t, TensorBase):
                self.name_of(t)
        for g in frame.f_locals["grads"]:
            if isinstance(g, TensorBase):
                self.name_of(g)
        start = len(tape.lines)
        quiet = f"{tape.bind(backend_of(outputs[0]._data))}.quiet()"
        tape.add(f"with {quiet}:")
        tape.depth += 1

        def after(_: Any) -> None:
            tape.add("pass")
            tape.depth -= 1
            self.spent |= tape.nodes.keys()
            if any(line.text.startswith(tape.bind(announce) + "(") for line in tape.lines[start:]):
                tape.lines[start] = Line(tape.depth, f"with {tape.bind(PassScope)}(), {quiet}:")

        self._open(frame, after)

    def _host(self, frame: FrameType) -> None:
        """A call that replays make again."""
        self.check_versions()
        given = frame.f_locals
        tape = self.tape
        if "running" in given and given["running"] is None:
            self._open(frame)
            return
        function, args = _trusted.HOSTS[frame.f_code](given)
        text = ", ".join(tape.bind(a.value) if isinstance(a, _trusted._Fixed) else self._argument(a) for a in args)
        name = tape.assign("v", f"{tape.bind(function)}({text})")

        def after(result: Any) -> None:
            self._settle_versions()
            if result is not None and not isinstance(result, TensorBase):
                raise Unrecordable(f"{frame.f_code.co_name}() returns {type(result).__name__}")
            if isinstance(result, TensorBase):
                tape.add(f"{name} = {name}._data")
                tape.define(result._data, name)
                self._watch_version(result)
                self.results.append(result)

        self._open(frame, after)

    def _argument(self, value: Any) -> str:
        if value.__class__ in backends_by_array_type:
            for t in self.tensors.values():
                if t._data is value:
                    return self.name_of(t)
            return self.tape.array(value)
        if isinstance(value, TensorBase):
            name = self.name_of(value)
            return self.tape.bind(value) if id(value) in self.tensors else f"{self.tape.bind(wrap)}({name})"
        return self.tape.value(value)

    def _called_c(self, what: tuple[FrameType, Any]) -> None:
        frame, function = what
        code = frame.f_code
        owner = function.__self__ if isinstance(function, BuiltinFunctionType) else None
        if _trusted.file_of(code) is not None or code in self._kinds:
            if owner.__class__ in backends_by_array_type and _trusted.reads_values(function.__name__):
                raise Unrecordable(f"an operation looks at values ({function.__name__}) to decide what it does")
            return
        if owner is None or isinstance(owner, ModuleType):
            kind = function.__objclass__ if isinstance(function, MethodDescriptorType) else None
            if kind in _CONTAINERS or (owner is not None and owner.__name__ == "math"):
                return
            if kind is None and function.__name__ in _PURE:
                return
        elif isinstance(owner, _CONTAINERS) or (owner is tuple and function.__name__ == "__new__"):
            return
        raise Unrecordable(f"it calls {function.__name__}(), which a replay would not do again")

    # ---- the end ---------------------------------------------------------------------------------------------------

    def write_result(self, result: Any) -> None:
        """Ends the tape with what the step returned.

        Raises:
            Unrecordable: that cannot be made again.
        """
        self.tape.add(f"return {expression(self, result)}")


def _holds_mask(value: Any) -> bool:
    if value.__class__ in (tuple, list):
        return any(map(_holds_mask, value))
    return value.__class__ in backends_by_array_type and value.dtype.kind == "b"


def _holds_array(value: Any) -> bool:
    if value.__class__ in (tuple, list):
        return any(map(_holds_array, value))
    if value.__class__ is slice:
        return any(map(_holds_array, (value.start, value.stop, value.step)))
    return value.__class__ in backends_by_array_type
