"""Blocks of a program that one rank runs alone, in which a collective would wait for ranks that never come."""

import threading

from ..errors import CommError
from ._process import call_site

# The blocks of all threads that are open now; empty is what every collective looks at first.
open_blocks: list[str] = []


class _Mine(threading.local):
    blocks: tuple[str, ...] = ()


_mine = _Mine()


def enter() -> None:
    """Begin a block of this thread."""
    site = call_site()
    open_blocks.append(site)
    _mine.blocks = (*_mine.blocks, site)


def leave() -> None:
    """End the innermost block of this thread."""
    open_blocks.remove(_mine.blocks[-1])
    _mine.blocks = _mine.blocks[:-1]


def refuse(doing: object) -> None:
    """Raise CommError if this thread is in a block; `doing` is the collective."""
    if _mine.blocks:
        raise CommError(
            f"expected no collective inside the block `with rank_zero()` at {_mine.blocks[-1]}, because the other "
            f"ranks do not come to it, got {doing} at {call_site()}; move it out of the block, to where all ranks come"
        )
