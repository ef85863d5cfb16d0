"""The words of group communication: how to wait, how to reduce, and the handle of an operation that is under way."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .._typing import Array
from ..futures import Future

DEFAULT_TIMEOUT = 300.0  # seconds that a rank waits for its peers (torch: 1800 for gloo, 600 for nccl)
DEFAULT_STALL_WARN = 1.0  # seconds after which a rank that waits for one that is elsewhere prints what it knows

@dataclass(frozen=True)
class Options:
    """What a user may choose about waiting.

    Args:
        timeout: seconds that a rank waits for its peers before it raises CommTimeoutError.
        stall_warn: seconds after which a waiting rank prints who is missing.
        device: how buffers on GPUs go: "nccl", "mpi" (which must be CUDA-aware) or "staged"; None for the best.
        cuda_aware: whether MPI may be given addresses on a GPU; None means: where a probe has shown that it can.
    """

    timeout: float = DEFAULT_TIMEOUT
    stall_warn: float = DEFAULT_STALL_WARN
    device: str | None = None
    cuda_aware: bool | None = None


class ReduceOp(IntEnum):
    """How values of the ranks are combined, element by element; the names and numbers are torch.distributed's."""

    SUM = 0
    AVG = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    BAND = 5
    BOR = 6
    BXOR = 7


class Work(ABC):
    """An operation that may still be under way: what `async_op=True`, `isend` and `irecv` return.

    The buffers that it works on belong to the operation until `wait` has returned.
    """

    @abstractmethod
    def wait(self, timeout: float | None = None) -> bool:
        """Block until the operation has ended.

        Args:
            timeout: seconds to wait; None means the timeout of the process group.

        Raises:
            CommError: what the operation failed with, raised here in the thread that waits.
        """

    @abstractmethod
    def is_completed(self) -> bool:
        """Whether the operation has ended, well or badly; never blocks."""

    @abstractmethod
    def exception(self) -> BaseException | None:
        """What the operation failed with; None while it runs and after it went well."""

    @abstractmethod
    def result(self) -> list[Any]:
        """The buffers that the operation wrote, as they were passed in; valid after `wait`."""

    def is_success(self) -> bool:
        """Whether the operation has ended well."""
        return self.is_completed() and self.exception() is None

    def get_future(self) -> Future[list[Any]]:
        """A future of `result`, for communication hooks; who waits for it first waits for the operation."""

        def ended() -> list[Any]:
            self.wait()
            return self.result()

        return Future.of(ended)


class CompletedWork(Work):
    """The handle of an operation that was over before it was asked about."""

    def __init__(self, arrays: list[Array]) -> None:
        self._arrays = arrays

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        return True

    def is_completed(self) -> bool:
        """True."""
        return True

    def exception(self) -> BaseException | None:
        """None."""
        return None

    def result(self) -> list[Array]:
        """The arrays that the operation wrote."""
        return self._arrays
