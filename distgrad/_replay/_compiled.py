"""`compile`: a step that is recorded and replayed."""

import functools
import sys
import threading
import warnings
from collections.abc import Callable
from types import CodeType
from typing import Any

from .._shard import current_shard
from ..autograd import _pass
from ..autograd._base import TensorBase
from ..autograd._mode import anomaly, intercepts, mode
from ..backend import get_default_dtype
from ..data import current_share
from ..parallel import DistributedDataParallel
from ._errors import Unrecordable
from ._guards import Surroundings
from ._recorder import Recorder

_PROGRAMS = 8  # kept at most
_TRIALS = 4  # recordings in a row that fail, before it is given up
_EVICTIONS = 16  # programs that had to make room


class Signature:
    """How a call's arguments are built, and a test for others that are built alike.

    Raises:
        Unrecordable: an argument cannot be one of a replay.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.tensors: list[tuple[str, Any]] = []  # how a program gets at them
        self.objects: list[Any] = []
        self._scope: dict[str, Any] = {}
        self._tests = [f"len(args) == {len(args)}", f"{{*kwargs}} == {set(kwargs) or '{*()}'}"]
        for i, value in enumerate(args):
            self._add(f"args[{i}]", value)
        for name, value in kwargs.items():
            self._add(f"kwargs[{name!r}]", value)
        if len({id(t) for _, t in self.tensors}) < len(self.tensors):
            raise Unrecordable("one tensor is given for two arguments")
        exec(f"def fits(args, kwargs):\n    return {' and '.join(self._tests)}\n", self._scope)
        self.fits: Callable[[Any, Any], bool] = self._scope["fits"]

    def is_kept(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the step left its arguments as they were."""
        if not self.fits(args, kwargs):
            return False
        scope = {"args": args, "kwargs": kwargs}
        return all(eval(place, scope) is t for place, t in self.tensors)

    def _bind(self, value: Any) -> str:
        name = f"c{len(self._scope)}"
        self._scope[name] = value
        return name

    def _add(self, place: str, value: Any) -> None:
        tests, kind = self._tests, value.__class__
        tests.append(f"{place}.__class__ is {self._bind(kind)}")
        if isinstance(value, TensorBase):
            if value._target is not None:
                raise Unrecordable("an argument requires grad")
            array = value._data
            tests.append(f"{place}._target is None")
            for what in ("__class__", "shape", "strides", "dtype"):
                test = "is" if what == "__class__" else "=="
                tests.append(f"{place}._data.{what} {test} {self._bind(getattr(array, what))}")
            self.tensors.append((place, value))
        elif kind in (tuple, list):
            tests.append(f"len({place}) == {len(value)}")
            for i, part in enumerate(value):
                self._add(f"{place}[{i}]", part)
        elif kind is dict and all(key.__class__ is str for key in value):
            tests.append(f"[*{place}] == {[*value]}")
            for key, part in value.items():
                self._add(f"{place}[{key!r}]", part)
        elif kind in (bool, int, str, float, type(None)):
            text = self._bind(value)
            tests.append(f"({place} is {text} or repr({place}) == {self._bind(repr(value))})")
        else:
            tests.append(f"{place} is {self._bind(value)}")
            self.objects.append(value)


class _Modes:
    """The modes under which operations run, as they are now.

    Raises:
        Unrecordable: one of them cannot be repeated.
    """

    def __init__(self, models: list[DistributedDataParallel]) -> None:
        self._grad, self._inference, self._dtype = mode.grad, mode.inference, get_default_dtype()
        self._reducers = [model._reducer for model in models]
        if not self.hold():
            raise Unrecordable("autocast, a profiler, anomaly mode, a logical shard or weighted samples are on")

    def hold(self) -> bool:
        """Whether they are the same, and none is on that would have to see operations."""
        now = mode
        if now.grad is not self._grad or now.inference is not self._inference or get_default_dtype() is not self._dtype:
            return False
        if intercepts.active and (now.autocast is not None or now.observers):
            return False
        if (intercepts.collecting and now.collector is not None) or anomaly.enabled or _pass._pass_hooks:
            return False
        if current_shard() is not None:
            return False
        if self._reducers:
            share = current_share()
            return (share is None or share.factor == 1.0) and all(r is None or r.is_current() for r in self._reducers)
        return True


class Program:
    """A recording that can be replayed, and what it rests on."""

    def __init__(self, recorder: Recorder, signature: Signature, surroundings: Surroundings, modes: _Modes) -> None:
        self.signature = signature
        self.surroundings = surroundings
        self.form = recorder.tape.form()
        self.source = recorder.tape.source()
        self.run = recorder.tape.build()
        self._modes = modes
        self._tensors_hold = _tensor_test(recorder)

    def fits(self, args: Any, kwargs: Any) -> bool:
        """Whether the recording is true for this call."""
        return (
            self.signature.fits(args, kwargs)
            and self._tensors_hold()
            and self._modes.hold()
            and self.surroundings.holds()
        )

    def holds_after(self) -> str | None:
        """What the step itself has changed of all that it rests on."""
        if not self.surroundings.holds():
            return self.surroundings.difference()
        return None if self._modes.hold() else "a mode"


def _tensor_test(recorder: Recorder) -> Callable[[], bool]:
    """A test of the tensors that a program uses: same memory, same place in the graph, gradients in the same state."""
    scope: dict[str, Any] = {}
    tests = ["True"]

    def bind(value: Any) -> str:
        name = f"c{len(scope)}"
        scope[name] = value
        return name

    for t in recorder.used.values():
        name = bind(t)
        tests.append(f"{name}._data is {bind(t._data)} and {name}._target is {bind(t._target)}")
        tests.append(f"{name}._base is {bind(t._base)}")
        if t._base is not None:
            tests.append(f"{bind(t._base)}._target is None")
    for t, grad in recorder.leaves.values():
        extra, name = t._get_extra(), bind(t)
        place, hooks = bind(extra), extra.post_accumulate
        tests.append(f"not {place}.hooks and {place}.grad_slot is {bind(extra.grad_slot)}")
        tests.append(f"{bind(hooks)} == {bind(dict(hooks))}" if hooks else f"not {bind(hooks)}")
        if grad is None or grad is extra.grad_slot:
            tests.append(f"{name}._grad is {bind(grad)}")
        else:
            tests.append(f"{name}._grad is not None and {name}._grad is not {place}.grad_slot")
    exec(f"def holds():\n    return {' and '.join(tests)}\n", scope)
    return scope["holds"]  # type: ignore[no-any-return]


class Compiled:
    """A function that replays what it did before, where that is sure to give the same; see `compile`.

    Attributes:
        replays: calls that were replayed.
        eager_calls: calls that ran eagerly, recordings among them.
    """

    def __init__(self, function: Callable[..., Any], fullgraph: bool = False) -> None:
        functools.update_wrapper(self, function, updated=())
        self.replays = 0
        self.eager_calls = 0
        self._function = function
        self._fullgraph = fullgraph
        self._programs: list[Program] = []
        self._candidates: list[Program] = []
        self._codes: dict[CodeType, dict[str, Any]] = {}
        self._reasons: dict[str, int] = {}
        self._trials = _TRIALS
        self._room = _EVICTIONS
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # A debugger's breakpoints lie in the step itself. The lock is held by another thread, or by itself.
        if sys.gettrace() is not None or not self._lock.acquire(blocking=False):
            return self._function(*args, **kwargs)
        try:
            for program in self._programs:
                if program.fits(args, kwargs):
                    self.replays += 1
                    if program is not self._programs[0]:
                        self._programs.remove(program)
                        self._programs.insert(0, program)
                    return self._replay(program, args, kwargs)
            self.eager_calls += 1
            return self._record(args, kwargs) if self._trials else self._function(*args, **kwargs)
        finally:
            self._lock.release()

    def _replay(self, program: Program, args: Any, kwargs: Any) -> Any:
        try:
            return program.run(args, kwargs)
        except BaseException:
            self._programs.remove(program)  # its contexts hold what they held in the middle
            raise

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def explain(self) -> str:
        """What happened so far, in words: how many calls were replayed, and why the others were not."""
        sizes = ", ".join(str(p.source.count("\n")) for p in self._programs)
        lines = [f"{self.replays} calls replayed, {self.eager_calls} run eagerly"]
        if sizes:
            lines.append(f"recordings: {len(self._programs)}, of {sizes} lines")
        lines += [f"{count} x not recorded: {reason}" for reason, count in self._reasons.items()]
        if not self._trials:
            lines.append("given up: every call runs eagerly")
        return "\n".join(lines)

    # ---- recording -------------------------------------------------------------------------------------------------

    def _record(self, args: Any, kwargs: Any) -> Any:
        if sys.getprofile() is not None:
            return self._function(*args, **kwargs)  # a profiler is on, and there can be only one
        try:
            signature = Signature(args, kwargs)
            surroundings = Surroundings(self._function, signature.objects, self._codes)
            modes = _Modes([v for v in surroundings.objects if isinstance(v, DistributedDataParallel)])
            recorder = Recorder(surroundings.tensors)
            if not self._codes:
                recorder.fail(_FIRST)
            recorder.take_arguments(signature.tensors)
        except Unrecordable as problem:
            self._note(str(problem))
            return self._function(*args, **kwargs)
        earlier = next((c for c in self._candidates if c.fits(args, kwargs)), None)
        result = recorder.run(self._function, args, kwargs)
        new = recorder.codes.keys() - self._codes.keys()
        self._codes.update(recorder.codes)
        try:
            if recorder.reason is None and new:
                raise Unrecordable(_FIRST)
            if recorder.reason is not None:
                raise Unrecordable(recorder.reason)
            recorder.write_result(result)
            program = Program(recorder, signature, surroundings, modes)
            if not signature.is_kept(args, kwargs):
                raise Unrecordable("it changes an argument")
            changed = program.holds_after()
            if changed is not None:
                raise Unrecordable(f"it changes {changed}")
            self._keep(program, earlier)
        except Unrecordable as problem:
            self._note(str(problem))
        return result

    def _keep(self, program: Program, earlier: Program | None) -> None:
        """A program counts when a second recording under the same guards has brought the same one."""
        if earlier is not None:
            self._candidates.remove(earlier)
            if earlier.form == program.form:
                self._programs.insert(0, program)
                self._trials = _TRIALS
                self._make_room()
                return
            self._note(f"two recordings of it differ: {_difference(earlier.form, program.form)}")
        self._candidates.append(program)
        del self._candidates[:-_PROGRAMS]

    def _make_room(self) -> None:
        if len(self._programs) > _PROGRAMS:
            self._programs.pop()
            self._room -= 1
            if not self._room:
                self._trials = 1
                self._note("its arguments or surroundings change in almost every call")

    def _note(self, reason: str) -> None:
        self._reasons[reason] = self._reasons.get(reason, 0) + 1
        if reason == _FIRST:
            return
        self._trials -= 1
        if self._trials:
            return
        text = f"distgrad.compile: {self.__name__} runs eagerly, because {reason}"  # type: ignore[attr-defined]
        if self._fullgraph:
            raise RuntimeError(f"{text}; leave out fullgraph=True to allow that")
        warnings.warn(text, RuntimeWarning, stacklevel=4)


def _difference(before: list[Any], after: list[Any]) -> str:
    """The first place where two recordings differ."""
    for a, b in zip(before, after, strict=False):
        if a != b:
            return f"{a!r:.200} and {b!r:.200}"
    return "one is longer"


_FIRST = "code ran for the first time"


def compile(
    model: Callable[..., Any] | None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: str = "replay",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
) -> Any:
    """A training step that is recorded in its first calls and replayed afterwards: same bits, less Python.

    Args:
        model: the step: forward, loss, ``backward()``, ``optimizer.step()`` and ``zero_grad()`` in one function. None
            makes this a decorator with arguments.
        fullgraph: raise where torch's would: when it is clear that the step cannot be replayed.
        dynamic, mode, options, backend: accepted as in torch; each set of shapes is a recording of its own.
        disable: return the function as it is.

    Returns:
        a `Compiled`; its `explain` tells what happened.

    Raises:
        RuntimeError: later, when it is called: with `fullgraph`, the step cannot be replayed.

    Example:
        >>> @distgrad.compile
        ... def step(x, y):
        ...     optimizer.zero_grad()
        ...     loss = loss_fn(model(x), y)
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
    """
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, disable=disable)
    return model if disable else Compiled(model, fullgraph)
