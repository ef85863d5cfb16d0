"""Whether operations are recorded, for each thread, and the interceptors that see every operation while they are on."""

import functools
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Mode(threading.local):
    """State of one thread: `grad`, an autocast policy, and the observers (anomaly mode, profiler, tracer).

    `collector` is told of every node that enters the graph (see `_recompute.py`). `make_pass` makes the backward passes
    in place of `Pass`, for who records them. `callbacks` are those at the end of the backward pass that is under way,
    the innermost.
    """

    grad = True
    inference = False
    autocast: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]] | None = None
    observers: tuple[Callable[..., None], ...] = ()
    collector: Any = None
    make_pass: Callable[[bool, bool], Any] | None = None
    callbacks: list[Callable[[], None]] | None = None


mode = _Mode()


class Intercepts:
    """How many interceptors are on in any thread, and how many collectors of nodes.

    Operations look for theirs only when it is not zero.
    """

    __slots__ = ("active", "collecting")

    def __init__(self) -> None:
        self.active = 0
        self.collecting = 0


intercepts = Intercepts()


def add_observer(observer: Callable[..., None]) -> None:
    """From now on `observer(op, node, inputs, outputs)` sees each operation of this thread after it ran."""
    mode.observers = (*mode.observers, observer)
    intercepts.active += 1


def remove_observer(observer: Callable[..., None]) -> None:
    """Ends what `add_observer` began."""
    mode.observers = tuple(o for o in mode.observers if o is not observer)
    intercepts.active -= 1


def set_autocast(policy: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]] | None) -> None:
    """Sets the policy `policy(op, inputs) -> inputs` that may cast what an operation receives; None ends it."""
    intercepts.active += (policy is not None) - (mode.autocast is not None)
    mode.autocast = policy


def is_grad_enabled() -> bool:
    """Whether operations of this thread are recorded."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return mode.inference


class _GradMode:
    """Sets the mode while the context lasts; also a decorator, for functions and generator functions alike."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(mode.grad)
        mode.grad = self._enabled

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        mode.grad = self._before.pop()

    def _fresh(self) -> "_GradMode":
        return _GradMode(self._enabled)

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    def _wrap_generator(self, function: F) -> F:
        """The mode holds while the generator runs, and not while its caller does."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, generator)
            try:
                while True:
                    with self._fresh():
                        value = step()
                    try:
                        step = functools.partial(generator.send, (yield value))
                    except GeneratorExit:
                        with self._fresh():
                            generator.close()
                        raise
                    except BaseException as error:
                        step = functools.partial(generator.throw, error)
            except StopIteration as end:
                return end.value

        return wrapped  # type: ignore[return-value]


class no_grad(_GradMode):
    """Inside, operations are not recorded. A context manager and a decorator (``@no_grad()`` or ``@no_grad``)."""

    def __init__(self) -> None:
        super().__init__(False)

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)


class enable_grad(_GradMode):
    """Inside, operations are recorded, also within `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)


class set_grad_enabled(_GradMode):
    """Sets the mode at once; as a context manager, until its end; as a decorator, only within the function."""

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        super().__enter__()

    def __enter__(self) -> None:
        """The mode was set when the object was made."""

    def _fresh(self) -> "set_grad_enabled":
        return set_grad_enabled(self._enabled)

    def __call__(self, function: F) -> F:
        self.__exit__(None, None, None)  # it was set for a function, which sets it again when it runs
        return super().__call__(function)


class inference_mode(_GradMode):
    """As `no_grad`. Tensors made inside stay ordinary ones, so what torch forbids afterwards works here."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)
        self._inference = bool(mode)
        self._inference_before: list[bool] = []

    def __new__(cls, mode: Any = True) -> Any:
        return cls()(mode) if callable(mode) else super().__new__(cls)

    def __enter__(self) -> None:
        self._inference_before.append(mode.inference)
        self._before.append(mode.grad)
        mode.inference = self._inference
        mode.grad = mode.grad and not self._inference

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        mode.inference = self._inference_before.pop()

    def _fresh(self) -> "inference_mode":
        return inference_mode(self._inference)


class Anomaly:
    """Whether anomaly mode is on, and whether it looks for nan; of all threads."""

    __slots__ = ("check_nan", "enabled")

    def __init__(self) -> None:
        self.enabled = False
        self.check_nan = False


anomaly = Anomaly()
