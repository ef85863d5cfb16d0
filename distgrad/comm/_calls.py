"""What a rank calls: the description that ranks compare with each other before they touch any data, and messages."""

import functools
from enum import IntEnum
from typing import NamedTuple

from ._dtypes import BY_CODE
from ._types import ReduceOp

ANY = -1  # a count that may differ between ranks
ON_DEVICE = 128  # in a code: the buffer lies on a device, which must be so on all ranks


class Kind(IntEnum):
    """Every operation in which all ranks of a group take part together."""

    NONE = 0
    ALL_REDUCE = 1
    BROADCAST = 2
    ALL_GATHER = 3
    BARRIER = 4
    REDUCE = 5
    REDUCE_SCATTER = 6
    GATHER = 7
    SCATTER = 8
    ALL_TO_ALL = 9
    BROADCAST_OBJECT = 10
    ALL_GATHER_OBJECT = 11
    GATHER_OBJECT = 12
    SCATTER_OBJECT = 13
    SPLIT = 14
    EMPTY = 15
    TREE_SUM = 16


class Call(NamedTuple):
    """One collective call of one rank. Ranks that meet in a collective must agree in every field.

    `elements` counts values of the dtype with this `code` (see `_dtypes`); `op` and `root` are -1 where there is none.
    """

    kind: Kind
    elements: int = 0
    code: int = 0
    op: int = -1
    root: int = -1

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - calls are small values, and a program makes few different ones
    def pack(self) -> tuple[int, int]:
        """The call as two non-negative 63-bit integers, for shared memory and for MPI."""
        return self.kind | self.code << 8 | (self.op + 1) << 16 | (self.root + 1) << 24, self.elements + 1

    @classmethod
    def unpack(cls, what: int, elements: int) -> "Call":
        """The call that `pack` turned into these two integers."""
        return cls(Kind(what & 255), elements - 1, what >> 8 & 255, (what >> 16 & 255) - 1, (what >> 24) - 1)

    def __str__(self) -> str:
        details = [ReduceOp(self.op).name] if self.op >= 0 else []
        if self.root >= 0:
            details.append(f"root {self.root}")
        if self.elements > 0:
            row = BY_CODE.get(self.code & ~ON_DEVICE)
            size = f" = {self.elements * row.dtype.itemsize:,} bytes" if row else ""
            details.append(f"{self.elements:,} {row.dtype if row else 'bytes'}{size}")
        if self.code & ON_DEVICE:
            details.append("on a GPU")
        return f"{self.kind.name.lower()}({', '.join(details)})"


class Message(NamedTuple):
    """One message between two ranks, as one of them sees it.

    Args:
        peer: the other rank.
        tag: tells messages between the same two ranks apart.
        receives: whether it comes from the peer; else it goes there.
        elements: values of the dtype with this `code`.
    """

    peer: int
    tag: int
    receives: bool
    elements: int = 0
    code: int = 0

    def pack(self) -> int:
        """Direction, tag and peer as one positive 63-bit integer, for shared memory."""
        return 1 << 62 | self.receives << 61 | (self.tag & 0xFFFFFFFF) << 24 | self.peer

    @classmethod
    def unpack(cls, word: int) -> "Message":
        """The message that `pack` turned into this integer, without its size."""
        return cls(word & 0xFFFFFF, word >> 24 & 0xFFFFFFFF, bool(word >> 61 & 1))

    def counterpart(self, rank: int) -> "Message":
        """The message as the peer sees it; `rank` is the one that sees it so."""
        return self._replace(peer=rank, receives=not self.receives)

    def __str__(self) -> str:
        side = f"recv(from rank {self.peer}" if self.receives else f"send(to rank {self.peer}"
        row = BY_CODE.get(self.code)
        size = f", {self.elements:,} {row.dtype} = {self.elements * row.dtype.itemsize:,} bytes" if row else ""
        return f"{side}, tag {self.tag}{size})"
