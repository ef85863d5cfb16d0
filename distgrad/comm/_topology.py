"""Which ranks share a node."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CommError

if TYPE_CHECKING:
    from ._communicator import Communicator

# The node that each rank of the default group shall pretend to be on, for tests of several nodes on one machine.
_pretended: tuple[int, ...] = ()


def pretend(nodes: Sequence[int]) -> None:
    """Let rank r of the default group take itself for one of node `nodes[r]` from now on; empty for the truth."""
    global _pretended
    _pretended = tuple(nodes)


def parse_layout(text: str, world_size: int) -> list[int]:
    """The node of each rank from a text such as "2x2" (nodes x ranks of each) or "1,3" (ranks of each node).

    Raises:
        CommError: the text is neither, or does not add up to `world_size` ranks.
    """
    match = re.fullmatch(r"(\d+)x(\d+)|(\d+(?:,\d+)*)", text.strip())
    if match is None:
        raise CommError(f'expected a topology such as "2x2" (nodes x ranks of each) or "1,3", got {text!r}')
    nodes, each, counts = match.groups()
    sizes = [int(each)] * int(nodes) if nodes else [int(count) for count in counts.split(",")]
    if sum(sizes) != world_size:
        raise CommError(f"expected the topology {text!r} to be of this job's {world_size} ranks, got {sum(sizes)}")
    return [node for node, size in enumerate(sizes) for _ in range(size)]


def node_name() -> str:
    """A text that two processes have in common exactly if they can share memory and see each other's process ids.

    The boot id tells machines apart that have one host name; the namespace tells containers of one machine apart.
    """
    return f"{platform.node()} {_boot_id()} {_inode('/proc/self/ns/pid')} {_inode('/dev/shm')}"


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _inode(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


@dataclass(frozen=True)
class Topology:
    """The ranks of a group, by node.

    Args:
        rank: the rank of this process.
        nodes: the ranks of each node, in the order of their lowest ranks.
    """

    rank: int
    nodes: tuple[tuple[int, ...], ...]

    @classmethod
    def discover(cls, group: "Communicator") -> "Topology":
        """Ask all ranks of a group. A collective call."""
        name = node_name()
        if _pretended:
            name += f" pretended {_pretended[group.ranks[group.rank]]}"
        return cls.of(group.rank, group.all_gather_object(name))

    @classmethod
    def of(cls, rank: int, names: list[str]) -> "Topology":
        """The topology of ranks that run on nodes of these names."""
        members: dict[str, list[int]] = {}
        for other, name in enumerate(names):
            members.setdefault(name, []).append(other)
        return cls(rank, tuple(tuple(ranks) for ranks in members.values()))

    @property
    def spans_nodes(self) -> bool:
        """Whether there is more than one node."""
        return len(self.nodes) > 1

    @property
    def node(self) -> int:
        """The number of this rank's node."""
        return next(index for index, ranks in enumerate(self.nodes) if self.rank in ranks)

    @property
    def local_rank(self) -> int:
        """The place of this rank among those of its node."""
        return self.nodes[self.node].index(self.rank)

    @property
    def local_size(self) -> int:
        """The number of ranks on this rank's node."""
        return len(self.nodes[self.node])
