"""Which groups this process, or this thread of it, belongs to."""

import threading
from dataclasses import dataclass, field

from ._communicator import Communicator


@dataclass
class Groups:
    """The default group and those that were made from it, oldest first.

    Args:
        world: the group of all ranks; None before there is one.
        explicit: whether `init_process_group` made it, and not the first call that needed it.
        made: groups of `new_group` and `split_group`.
    """

    world: Communicator | None = None
    explicit: bool = False
    made: list[Communicator] = field(default_factory=list)

    def close(self) -> None:
        """Close all groups, the youngest first, and forget them. A collective call."""
        while self.made:
            self.made.pop().close()
        if self.world is not None:
            self.world.close()
        self.world, self.explicit = None, False


class _PerThread(threading.local):
    groups: Groups | None = None


_process = Groups()
_thread = _PerThread()


def groups() -> Groups:
    """The groups of this thread, where it is a rank of its own (see `run_threads`), else those of the process."""
    return _thread.groups or _process


def set_thread_groups(own: Groups | None) -> None:
    """Make this thread a rank of its own; None makes it part of its process again."""
    _thread.groups = own
