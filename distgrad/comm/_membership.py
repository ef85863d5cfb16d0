"""Groups of ranks: making them, and asking about ranks in them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias

from .._environment import job
from ..errors import CommError
from ._communicator import Communicator
from ._groups import groups
from ._init import NAMES, get_default, options_for
from ._wishes import parse_backend


class NonMember:
    """What `new_group` returns to a rank that is not in the group; collectives on it do nothing."""

    def __repr__(self) -> str:
        return "GroupMember.NON_GROUP_MEMBER"


class GroupMember:
    """Names for the arguments called `group`: WORLD is the default group."""

    WORLD: Communicator | None = None
    NON_GROUP_MEMBER = NonMember()


class group(GroupMember):
    """The same names as in `torch.distributed.group`."""


Group: TypeAlias = Communicator | NonMember | None


def member(group: Group) -> Communicator | None:
    """The communicator of this rank in a group; None where it is no member."""
    if isinstance(group, NonMember):
        return None
    return get_default() if group is None else group


def get_rank(group: Group = None) -> int:
    """The rank of this process in the group; -1 outside it. Does not join the default group."""
    if group is None and groups().world is None:
        return job.rank
    found = member(group)
    return -1 if found is None else found.rank


def get_world_size(group: Group = None) -> int:
    """The number of ranks in the group; -1 outside it. Does not join the default group."""
    if group is None and groups().world is None:
        return job.world_size
    found = member(group)
    return -1 if found is None else found.size


def get_backend(group: Group = None) -> str:
    """The name of the group's backend: "serial", "threads", "shm", "hierarchical" or "mpi"; "nccl" if asked for."""
    found = member(group)
    if found is None:
        raise CommError("get_backend needs a group that this rank is a member of")
    return "nccl" if found.options.device == "nccl" else found.name


def describe(group: Group = None) -> str:
    """The group in words: its backend, its size, and how buffers on GPUs go, with the reasons against better ways.

    Example:
        >>> from distgrad import comm
        >>> comm.describe()
        'serial group of 1; buffers on GPUs: none passed yet'
    """
    found = member(group)
    return "no member of the group" if found is None else found.describe()


def get_global_rank(group: Group, group_rank: int) -> int:
    """The rank in the default group of the member with this rank in `group`."""
    ranks = get_process_group_ranks(group)
    if not 0 <= group_rank < len(ranks):
        raise CommError(f"expected a rank of the group, 0 to {len(ranks) - 1}, got {group_rank}")
    return ranks[group_rank]


def get_group_rank(group: Group, global_rank: int) -> int:
    """The rank in `group` of the member with this rank in the default group."""
    ranks = get_process_group_ranks(group)
    if global_rank not in ranks:
        raise CommError(f"expected a member of the group, one of {ranks}, got rank {global_rank}")
    return ranks.index(global_rank)


def get_process_group_ranks(group: Group = None) -> list[int]:
    """The ranks in the default group of all members, in the order of the group."""
    found = member(group)
    if found is None:
        raise CommError("this rank is not a member of the group")
    return list(found.ranks)


def new_group(
    ranks: Sequence[int] | None = None,
    timeout: timedelta | float | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    use_local_synchronization: bool = False,
    group_desc: str | None = None,
    device_id: Any = None,
) -> Communicator | NonMember:
    """A group of some ranks. Every rank of the default group calls this, members or not, with the same ranks.

    Args:
        ranks: ranks in the default group, in the order of the new one; None means all.
        timeout: how long a rank waits for its peers, as a timedelta or in seconds; the default group's by default.
        backend: that of the default group, or torch's "gloo", which means the same; for buffers on GPUs also another
            one, such as "nccl" or "cuda:staged".
        pg_options: accepted as in torch, not used; so are group_desc and device_id.
        use_local_synchronization: accepted as in torch; nevertheless every rank calls this.

    Raises:
        CommError: the ranks are wrong, or another backend is asked for.
    """
    world = get_default()
    wanted, device = parse_backend(backend, (*NAMES, world.name))
    if wanted not in (None, world.name):
        raise CommError(f"expected the backend of the default group, {world.name!r}, got {backend!r}; leave it out")
    chosen = list(range(world.size)) if ranks is None else list(ranks)
    _check_agreed(world, chosen, "ranks")
    wrong = [rank for rank in chosen if not 0 <= rank < world.size]
    if wrong or len(set(chosen)) != len(chosen):
        raise CommError(f"expected different ranks between 0 and {world.size - 1}, got {chosen}")
    inside = world.rank in chosen
    options = world.options if timeout is None else options_for(timeout, world.options.device)
    if device is not None:
        options = replace(options, device=device)
    return _keep(world.split(0 if inside else None, chosen.index(world.rank) if inside else 0, options))


def split_group(parent: Group = None, split_ranks: Sequence[Sequence[int]] = ()) -> Communicator | NonMember:
    """Split a group into several, each given by its ranks in the parent. Every rank of the parent calls this.

    Args:
        parent: the group to split; None means the default group.
        split_ranks: the ranks of each new group; a rank in none of them gets GroupMember.NON_GROUP_MEMBER.
    """
    found = member(parent)
    if found is None:
        return GroupMember.NON_GROUP_MEMBER
    _check_agreed(found, [list(ranks) for ranks in split_ranks], "split_ranks")
    everyone = [rank for ranks in split_ranks for rank in ranks]
    if len(set(everyone)) != len(everyone) or any(not 0 <= rank < found.size for rank in everyone):
        raise CommError(
            f"expected split_ranks to name each rank between 0 and {found.size - 1} at most once, got {split_ranks}"
        )
    color = next((color for color, ranks in enumerate(split_ranks) if found.rank in ranks), None)
    return _keep(found.split(color, 0 if color is None else list(split_ranks[color]).index(found.rank)))


def _check_agreed(group: Communicator, mine: list[Any], name: str) -> None:
    """Raise CommError, on every rank, unless all pass the same ranks."""
    passed = group.all_gather_object(mine)
    if any(each != mine for each in passed):
        lines = "".join(f"\n  rank {rank}: {each}" for rank, each in enumerate(passed))
        raise CommError(f"expected the same `{name}` on every rank, members or not, got:{lines}")


def _keep(made: Communicator | None) -> Communicator | NonMember:
    if made is None:
        return GroupMember.NON_GROUP_MEMBER
    groups().made.append(made)
    return made
