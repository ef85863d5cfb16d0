"""What surrounds a backward pass that has hooks or callbacks, as those of DistributedDataParallel."""

from types import TracebackType

from ..autograd._mode import mode


class PassScope:
    """Collects callbacks, without recording, and runs them in the end."""

    def __enter__(self) -> None:
        self._before = mode.grad, mode.callbacks
        mode.grad, mode.callbacks = False, []

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        mode.grad = self._before[0]
        try:
            for callback in (mode.callbacks or ()) if kind is None else ():
                callback()
        finally:
            mode.grad, mode.callbacks = self._before
