"""The messages of torch.distributed between two ranks, on Tensors or arrays of any shape.

`src`, `dst` and `peer` are ranks of the default group. On a rank outside the group a function does nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import CommError
from ._flat import Buffer, Flat
from ._membership import Group, get_group_rank, member
from ._types import Work


def isend(tensor: Buffer, dst: int, group: Group = None, tag: int = 0) -> Work | None:
    """Start to send the tensor to rank `dst`; it must not change before the work is done."""
    found = member(group)
    return None if found is None else found.isend(Flat(tensor, False).buffer, get_group_rank(found, dst), tag)


def irecv(tensor: Buffer, src: int, group: Group = None, tag: int = 0) -> Work | None:
    """Start to receive a tensor, which must be contiguous, from rank `src`; it is there once the work is done."""
    found = member(group)
    if found is None:
        return None
    flat = Flat(tensor, write=True)
    if not flat.is_view:
        raise CommError("expected a contiguous tensor to receive into, got a non-contiguous one; receive into a copy")
    return found.irecv(flat.buffer, get_group_rank(found, src), tag)


def send(tensor: Buffer, dst: int, group: Group = None, tag: int = 0) -> None:
    """Send the tensor to rank `dst`."""
    work = isend(tensor, dst, group, tag)
    if work is not None:
        work.wait()


def recv(tensor: Buffer, src: int, group: Group = None, tag: int = 0) -> int:
    """Receive a tensor from rank `src`; returns `src`, or -1 outside the group."""
    found = member(group)
    if found is None:
        return -1
    flat = Flat(tensor, write=True)
    found.recv(flat.buffer, get_group_rank(found, src), tag)
    flat.write_back()
    return src


@dataclass(frozen=True)
class P2POp:
    """One transfer of `batch_isend_irecv`.

    Args:
        op: the function `isend` or `irecv`.
        tensor: what to send, or where to receive.
        peer: the other rank, in the default group.
        group: the group; None means the default one.
        tag: tells messages between the same two ranks apart.
    """

    op: Callable[..., Work | None]
    tensor: Buffer
    peer: int
    group: Group = None
    tag: int = 0


def batch_isend_irecv(p2p_op_list: Sequence[P2POp]) -> list[Work]:
    """Start many transfers; wait for each of the returned works."""
    works = [entry.op(entry.tensor, entry.peer, entry.group, entry.tag) for entry in p2p_op_list]
    return [work for work in works if work is not None]
