"""GPUs, under torch.cuda's names. Without CuPy and a GPU, `is_available` says so and the rest raises.

Each rank uses one GPU: ``"cuda"`` means the one with the number of its local rank (modulo the number of GPUs).
"""

from types import TracebackType
from typing import Any

from .backend import cuda_backend, cuda_problem
from .backend import device as _device
from .errors import DeviceError
from .ops import manual_seed as _manual_seed


def is_available() -> bool:
    """Whether CuPy and a usable GPU are here."""
    return cuda_problem() is None


def _cupy() -> Any:
    backend = cuda_backend()
    if backend is None:
        raise DeviceError(f"no GPU can be used: {cuda_problem()}")
    return backend.xp


def device_count() -> int:
    """The number of visible GPUs; 0 where none can be used."""
    return int(_cupy().cuda.runtime.getDeviceCount()) if is_available() else 0


def current_device() -> int:
    """The number of the GPU in use."""
    return int(_cupy().cuda.Device().id)


def set_device(device: Any) -> None:
    """Uses another GPU from now on.

    Args:
        device: a number, ``"cuda:1"`` or a device.
    """
    index = _device(device).index
    if index is not None:
        _cupy().cuda.Device(index).use()


def get_device_name(device: Any = None) -> str:
    """The name of a GPU, such as ``NVIDIA H100 80GB HBM3``."""
    cupy = _cupy()
    index = current_device() if device is None else _device(device).index
    name = cupy.cuda.runtime.getDeviceProperties(index or 0)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU, such as ``(9, 0)``."""
    cupy = _cupy()
    index = current_device() if device is None else _device(device).index
    properties = cupy.cuda.runtime.getDeviceProperties(index or 0)
    return int(properties["major"]), int(properties["minor"])


def is_initialized() -> bool:
    """Whether a GPU can be used: it is prepared when it is first needed."""
    return is_available()


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Free and total bytes of memory of a GPU."""
    cupy = _cupy()
    with cupy.cuda.Device(current_device() if device is None else _device(device).index):
        free, total = cupy.cuda.runtime.memGetInfo()
    return int(free), int(total)


def manual_seed(seed: int) -> None:
    """Seeds the default generator: random numbers are those of the CPU, on every device."""
    _manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    """The same as `manual_seed`."""
    _manual_seed(int(seed))


def synchronize(device: Any = None) -> None:
    """Waits until all work given to the GPU is done."""
    cupy = _cupy()
    cupy.cuda.Device(current_device() if device is None else _device(device).index).synchronize()


def memory_allocated(device: Any = None) -> int:
    """Bytes of GPU memory that arrays of this process occupy; 0 without a GPU."""
    return int(_cupy().get_default_memory_pool().used_bytes()) if is_available() else 0


def memory_reserved(device: Any = None) -> int:
    """Bytes of GPU memory that this process holds, in use or not."""
    return int(_cupy().get_default_memory_pool().total_bytes())


def empty_cache() -> None:
    """Gives memory that is not in use back to the driver. Nothing happens without a GPU."""
    if is_available():
        _cupy().get_default_memory_pool().free_all_blocks()


class device:
    """Inside, another GPU is the one in use.

    Args:
        device: a number, ``"cuda:1"`` or a device.
    """

    def __init__(self, device: Any) -> None:
        self.index = _device(device).index
        self._before = 0

    def __enter__(self) -> None:
        self._before = current_device()
        set_device(self._before if self.index is None else self.index)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        set_device(self._before)
