"""Values that come later, under the names of torch.futures: what communication hooks return."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class Future(Generic[T]):
    """A value that may not be there yet.

    Callbacks run in the thread that completes the future. One that stands for communication (`Work.get_future`) is
    completed by whoever waits for it first.

    Args:
        devices: accepted as in torch, not used.

    Example:
        >>> doubled = Future()
        >>> later = doubled.then(lambda f: 2 * f.value())
        >>> doubled.set_result(21)
        >>> later.wait()
        42
    """

    def __init__(self, *, devices: Any = None) -> None:
        self._ended = threading.Event()
        self._lock = threading.RLock()
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[T]], Any]] = []
        self._source: Callable[[], T] | None = None

    @classmethod
    def of(cls, source: Callable[[], T]) -> "Future[T]":
        """A future whose value `source` computes, or waits for, in the thread that asks first."""
        future = cls()
        future._source = source
        return future

    def done(self) -> bool:
        """Whether the value, or an error, is there."""
        return self._ended.is_set()

    def wait(self) -> T:
        """Waits for the value and returns it, or raises what came instead."""
        self._drive()
        self._ended.wait()
        return self.value()

    def value(self) -> T:
        """The value of a future that is done; raises the error if that came instead.

        Raises:
            RuntimeError: it is not done yet.
        """
        if not self.done():
            raise RuntimeError("value() of a Future that is not done: wait() for it first")
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[no-any-return]

    def then(self, callback: "Callable[[Future[T]], S]") -> "Future[S]":
        """A future of what `callback` makes of this one, once it is done."""
        result: Future[S] = Future()
        result._source = self._follow_up(result)

        def complete(done: Future[T]) -> None:
            try:
                value = callback(done)
            except BaseException as error:  # raised again where the result is asked for
                result.set_exception(error)
            else:
                result.set_result(value)

        self.add_done_callback(complete)
        return result

    def add_done_callback(self, callback: "Callable[[Future[T]], Any]") -> None:
        """Calls ``callback(self)`` when this is done; at once if it is."""
        with self._lock:
            if not self.done():
                self._callbacks.append(callback)
                return
        callback(self)

    def set_result(self, result: T) -> None:
        """Completes the future with a value."""
        self._end(result, None)

    def set_exception(self, result: BaseException) -> None:
        """Completes the future with an error."""
        self._end(None, result)

    def _end(self, value: Any, error: BaseException | None) -> None:
        with self._lock:
            if self.done():
                raise RuntimeError("this Future is done already; it takes one result")
            self._value, self._error = value, error
            self._ended.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def _drive(self) -> None:
        """Completes a future that has a source, in this thread."""
        with self._lock:
            source, self._source = self._source, None
        if source is None or self.done():
            return
        try:
            value = source()
        except BaseException as error:  # raised again where the value is asked for
            if not self.done():
                self.set_exception(error)
        else:
            if not self.done():
                self.set_result(value)

    def _follow_up(self, result: "Future[S]") -> Callable[[], S]:
        """The source of what `then` returned: to complete this one, whose callback completes the result."""

        def source() -> S:
            self._drive()
            return result.wait()

        return source


def collect_all(futures: Sequence[Future[Any]]) -> Future[list[Future[Any]]]:
    """A future of the list of these, once all are done."""

    def wait() -> list[Future[Any]]:
        for future in futures:
            future._drive()
            future._ended.wait()
        return list(futures)

    return Future.of(wait)


def wait_all(futures: Sequence[Future[T]]) -> list[T]:
    """The values of all."""
    return [future.wait() for future in futures]
