"""The threads of a BLAS that is loaded already, and so has read its environment variables."""

import ctypes
from contextlib import suppress

# NumPy's wheels give OpenBLAS's names a prefix, and a suffix where its integers have 64 bits.
_SETTERS = tuple(f"{a}openblas_set_num_threads{b}" for a in ("scipy_", "") for b in ("64_", "", "_64"))
_limit: int | None = None


def thread_limit() -> int | None:
    """What `limit_threads` was last told, for libraries that are loaded later; None for no limit."""
    return _limit


def limit_threads(count: int) -> bool:
    """Let the BLAS libraries of this process use so many threads from now on.

    Returns:
        Whether one was found that obeys: with threadpoolctl installed any that it knows, else OpenBLAS on Linux.
    """
    global _limit
    _limit = count
    try:
        import threadpoolctl
    except ImportError:
        done = [_limit_openblas(path, count) for path in _loaded("openblas")]
        return any(done)
    threadpoolctl.threadpool_limits(count)
    return bool(threadpoolctl.threadpool_info())


def _loaded(name: str) -> list[str]:
    """The files of loaded libraries with this in their name."""
    with suppress(OSError), open("/proc/self/maps") as maps:
        paths = dict.fromkeys(line.split(maxsplit=5)[-1].strip() for line in maps if name in line)
        return [path for path in paths if ".so" in path]
    return []


def _limit_openblas(path: str, count: int) -> bool:
    library = ctypes.CDLL(path)
    for name in _SETTERS:
        with suppress(AttributeError):
            getattr(library, name)(count)
            return True
    return False
