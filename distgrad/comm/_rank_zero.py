"""What rank 0 does alone: saving, printing, evaluating."""

from types import TracebackType

from . import _solo
from ._membership import get_rank


def is_rank_zero() -> bool:
    """Whether this process is rank 0 of the default group. Does not join the group.

    Example:
        >>> is_rank_zero()
        True
    """
    return get_rank() == 0


class RankZero:
    """What `rank_zero()` returns."""

    def __enter__(self) -> bool:
        _solo.enter()
        return is_rank_zero()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _solo.leave()


def rank_zero() -> RankZero:
    """Marks a block in which rank 0 works alone: a collective of any group inside it raises at once.

    Such a collective is the commonest way to hang a distributed program: rank 0 waits in it for ranks that never come.
    Python runs the body of a `with` block on every rank, so the block tells whether this is rank 0, and the work
    stands under an `if`; or it stands inside an `if` that the program has already. Within the block, collectives raise
    on every rank, and in a job of one rank too: the mistake shows before the program has ever met a second rank.

    What needs no other rank is allowed: `save`, a forward pass of DistributedDataParallel without gradients, messages
    between two ranks.

    Returns:
        A context manager; its value is whether this is rank 0.

    Raises:
        CommError: in the block, from a collective; names the block's line and the call's.

    Example:
        >>> with rank_zero() as here:
        ...     if here:
        ...         print("saved")
        saved
        >>> if is_rank_zero():
        ...     with rank_zero():
        ...         print("evaluated")
        evaluated
    """
    return RankZero()
