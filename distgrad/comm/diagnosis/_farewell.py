"""The wait at the end of a program for ranks that still run: MPI_Finalize would do so in silence and for ever."""

import time

from ...errors import CommTimeoutError, PeerLostError
from .._last_words import announce
from .._process import DEAD, STOPPED
from .._types import Options
from .._wait import Patience
from ._rows import GAVE_UP, Rows, State
from ._table import fate, table

# Times `stall_warn`: rank 0 may well evaluate or write for a while when the others are done.
UNUSUAL = 10


def await_peers(rows: Rows, options: Options) -> None:
    """Return when all ranks of this node have ended their programs, or have given up.

    Says once who waits for whom when that takes long. A rank that runs may run as long as it likes.

    Raises:
        PeerLostError: a rank died.
        CommTimeoutError: a rank has been stopped (SIGSTOP) for the timeout of the group.
    """
    late = [rank for rank in sorted(rows.here) if rank != rows.rank]
    told = False
    last_run = time.monotonic()  # when nobody was seen to be stopped

    def look(waited: float) -> None:
        nonlocal told, last_run
        conditions = {rank: rows.condition(rank) for rank in late if not _has_ended(rows, rank)}
        for rank, condition in conditions.items():
            if condition == DEAD and not _has_ended(rows, rank):
                raise PeerLostError(f"rank {rows.rank} had ended its program, but {fate(rows, rank)}")
        now = time.monotonic()
        if not any(condition and condition in STOPPED for condition in conditions.values()):
            last_run = now
        if now - last_run > options.timeout:
            raise CommTimeoutError(
                f"rank {rows.rank} has ended its program and gave up waiting for ranks that are stopped, after "
                f"{now - last_run:.1f} s (the timeout of the group)\n{table(rows)}"
            )
        if waited > UNUSUAL * options.stall_warn and not told:
            told = True
            _tell(rows, late, waited)

    patience = Patience(look)
    while late:
        late = [rank for rank in late if not _has_ended(rows, rank)]
        patience.pause()


def _has_ended(rows: Rows, rank: int) -> bool:
    return rows.state(rank) in (State.FINISHED, *GAVE_UP)


def _tell(rows: Rows, late: list[int], waited: float) -> None:
    """The lowest of the ranks that have ended speaks for all of them."""
    if min(rank for rank in rows.here if rank not in late) == rows.rank:
        names = ", ".join(map(str, late))
        announce(
            f"distgrad: rank {rows.rank} has ended its program and has waited {waited:.1f} s for the end of rank "
            f"{names}\n{table(rows)}\n"
        )
