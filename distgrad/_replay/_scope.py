"""What surrounds a backward pass that has hooks or callbacks, as those of DistributedDataParallel."""

from types import TracebackType

from ..autograd._engine import _run
from ..autograd._mode import mode


class PassScope:
    """Collects callbacks, without recording, and runs them in the end."""

    def __enter__(self) -> None:
        self._grad = mode.grad
        _run.callbacks.append([])
        mode.grad = False

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        mode.grad = self._grad
        try:
            for callback in _run.callbacks[-1] if kind is None else ():
                callback()
        finally:
            mode.grad = self._grad
            _run.callbacks.pop()
