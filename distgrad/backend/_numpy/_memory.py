"""How the C library gives memory to NumPy.

Every step of training allocates and frees the same sizes. By default glibc gives large blocks, and the free end of its
heap, back to the system at once, and the next step pays for fresh pages again: a page fault and 4 KiB of zeros for each
page, which took 10 to 15 % of a step (see mallopt(3)).
"""

import ctypes

from ..._environment import tunes_malloc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for: free bytes at the heap's end, bytes of a block
_KEEP = 1 << 30  # bytes


def keep_freed_memory() -> bool:
    """Let the process keep up to 1 GiB that was freed; whether that was set.

    It is not where the user tunes malloc by environment variables, or where the C library is not glibc.
    """
    if tunes_malloc:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEEP) and mallopt(_MMAP_THRESHOLD, _KEEP))
