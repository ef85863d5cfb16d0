"""The functions of torch.distributed, on Tensors or arrays of any shape.

A buffer that is not contiguous is staged through a copy and written back. Ranks in arguments called `src` and `dst` are
those of the default group. On a rank outside the group a function does nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .._typing import Array, HasArray
from ..backend import backend_of
from ..errors import CommError
from ._communicator import Communicator
from ._membership import Group, get_group_rank, member
from ._types import ReduceOp, Work
from .device._buffers import DeviceArray

Buffer: TypeAlias = HasArray | Array


class _Flat:
    """A Tensor or an array as the contiguous 1-D buffer that communicators take: a view where possible, else a copy."""

    def __init__(self, tensor: Buffer, write: bool) -> None:
        self.given = tensor
        self.array: Array = tensor.__distgrad_array__(write=write) if isinstance(tensor, HasArray) else tensor
        _check_array(self.array)
        self.is_view = bool(self.array.flags.c_contiguous)
        self.buffer: Array = (self.array if self.is_view else self.array.copy()).reshape(-1)

    def write_back(self) -> None:
        """Move the result to where the caller wants it, if it is not there already."""
        if not self.is_view:
            self.array[...] = self.buffer.reshape(self.array.shape)

    def fill(self, values: Array) -> None:
        """Overwrite with a flat array of the same kind of memory."""
        self.buffer[...] = values
        self.write_back()

    def rows(self, count: int) -> Array:
        """New memory of the same kind for `count` such buffers, shape (count, n)."""
        made: Array = backend_of(self.buffer).xp.empty((count, self.buffer.size), self.buffer.dtype)
        return made


def _joined(flats: Sequence[_Flat]) -> Array:
    """The buffers one after the other, in new memory of the same kind."""
    made: Array = backend_of(flats[0].buffer).xp.concatenate([flat.buffer for flat in flats])
    return made


def _check_array(array: object) -> None:
    if not isinstance(array, np.ndarray) and not isinstance(array, DeviceArray):
        raise CommError(f"expected a Tensor or an array, got {type(array).__name__}")


def _flats(tensors: Sequence[Buffer], count: int, write: bool, name: str) -> list[_Flat]:
    if len(tensors) != count:
        raise CommError(f"expected `{name}` to be a list of {count} tensors, one for each rank, got {len(tensors)}")
    return [_Flat(tensor, write) for tensor in tensors]


def _check_entries(entries: Sequence[_Flat], single: _Flat, name: str) -> None:
    """Raise CommError unless each entry of a list is like the tensor that is passed beside it."""
    like = single.buffer
    for i, entry in enumerate(entries):
        if entry.buffer.size != like.size or entry.buffer.dtype != like.dtype:
            raise CommError(
                f"expected each entry of `{name}` to have {like.size} elements of {like.dtype}, as the tensor beside "
                f"it, got {entry.buffer.size} of {entry.buffer.dtype} in entry {i}"
            )


def _run(found: Communicator, function: Callable[[], None], outputs: Sequence[_Flat], async_op: bool) -> Work | None:
    """Do it now, or hand it to the background."""
    if async_op:
        return found.submit(function, [output.given for output in outputs])
    function()
    return None


def all_reduce(tensor: Buffer, op: ReduceOp = ReduceOp.SUM, group: Group = None, async_op: bool = False) -> Work | None:
    """Combine the tensors of all ranks, in place; see `Communicator.all_reduce`.

    Example:
        >>> import numpy as np
        >>> import distgrad.comm as dist
        >>> losses = np.array([0.5, 1.5])
        >>> dist.all_reduce(losses, op=dist.ReduceOp.AVG)
        >>> losses
        array([0.5, 1.5])
    """
    found = member(group)
    if found is None:
        return None
    flat = _Flat(tensor, write=True)

    def work() -> None:
        found.all_reduce(flat.buffer, op)
        flat.write_back()

    return _run(found, work, [flat], async_op)


def broadcast(tensor: Buffer, src: int, group: Group = None, async_op: bool = False) -> Work | None:
    """Copy the tensor of rank `src` into that of every rank."""
    found = member(group)
    if found is None:
        return None
    flat, root = _Flat(tensor, write=True), get_group_rank(found, src)

    def work() -> None:
        found.broadcast(flat.buffer, root)
        flat.write_back()

    return _run(found, work, [flat], async_op)


def reduce(
    tensor: Buffer, dst: int, op: ReduceOp = ReduceOp.SUM, group: Group = None, async_op: bool = False
) -> Work | None:
    """Combine the tensors of all ranks into that of rank `dst`; the others keep theirs."""
    found = member(group)
    if found is None:
        return None
    flat, root = _Flat(tensor, write=True), get_group_rank(found, dst)

    def work() -> None:
        found.reduce(flat.buffer, root, op)
        flat.write_back()

    return _run(found, work, [flat], async_op)


def all_gather_into_tensor(
    output_tensor: Buffer, input_tensor: Buffer, group: Group = None, async_op: bool = False
) -> Work | None:
    """Collect the tensors of all ranks in one, which has room for them in rank order."""
    found = member(group)
    if found is None:
        return None
    target, source = _Flat(output_tensor, write=True), _Flat(input_tensor, write=False)

    def work() -> None:
        found.all_gather(target.buffer, source.buffer)
        target.write_back()

    return _run(found, work, [target], async_op)


def all_gather(
    tensor_list: Sequence[Buffer], tensor: Buffer, group: Group = None, async_op: bool = False
) -> Work | None:
    """Collect the tensors of all ranks in a list of tensors of that shape."""
    found = member(group)
    if found is None:
        return None
    targets, source = _flats(tensor_list, found.size, True, "tensor_list"), _Flat(tensor, write=False)
    _check_entries(targets, source, "tensor_list")

    def work() -> None:
        rows = source.rows(found.size)
        found.all_gather(rows.reshape(-1), source.buffer)
        for target, row in zip(targets, rows, strict=True):
            target.fill(row)

    return _run(found, work, targets, async_op)


def reduce_scatter_tensor(
    output: Buffer, input: Buffer, op: ReduceOp = ReduceOp.SUM, group: Group = None, async_op: bool = False
) -> Work | None:
    """Combine the inputs of all ranks; part r of the result goes to rank r."""
    found = member(group)
    if found is None:
        return None
    target, source = _Flat(output, write=True), _Flat(input, write=False)

    def work() -> None:
        found.reduce_scatter(target.buffer, source.buffer, op)
        target.write_back()

    return _run(found, work, [target], async_op)


def reduce_scatter(
    output: Buffer,
    input_list: Sequence[Buffer],
    op: ReduceOp = ReduceOp.SUM,
    group: Group = None,
    async_op: bool = False,
) -> Work | None:
    """Combine the lists of all ranks, entry by entry; entry r of the result goes to rank r."""
    found = member(group)
    if found is None:
        return None
    target, sources = _Flat(output, write=True), _flats(input_list, found.size, False, "input_list")
    _check_entries(sources, target, "input_list")

    def work() -> None:
        found.reduce_scatter(target.buffer, _joined(sources), op)
        target.write_back()

    return _run(found, work, [target], async_op)


def gather(
    tensor: Buffer,
    gather_list: Sequence[Buffer] | None = None,
    dst: int = 0,
    group: Group = None,
    async_op: bool = False,
) -> Work | None:
    """Collect the tensors of all ranks in a list on rank `dst`; the others pass no list."""
    found = member(group)
    if found is None:
        return None
    source, root = _Flat(tensor, write=False), get_group_rank(found, dst)
    targets = _flats(_on_root(gather_list, found.rank == root, "gather_list"), _if(found, root), True, "gather_list")
    _check_entries(targets, source, "gather_list")

    def work() -> None:
        rows = source.rows(len(targets))
        found.gather(rows.reshape(-1) if targets else None, source.buffer, root)
        for target, row in zip(targets, rows, strict=True):
            target.fill(row)

    return _run(found, work, targets, async_op)


def scatter(
    tensor: Buffer,
    scatter_list: Sequence[Buffer] | None = None,
    src: int = 0,
    group: Group = None,
    async_op: bool = False,
) -> Work | None:
    """Hand out the list of rank `src`, entry r to rank r; the others pass no list."""
    found = member(group)
    if found is None:
        return None
    target, root = _Flat(tensor, write=True), get_group_rank(found, src)
    entries = _on_root(scatter_list, found.rank == root, "scatter_list")
    sources = _flats(entries, _if(found, root), False, "scatter_list")
    _check_entries(sources, target, "scatter_list")

    def work() -> None:
        whole = _joined(sources) if sources else None
        found.scatter(target.buffer, whole, root)
        target.write_back()

    return _run(found, work, [target], async_op)


def all_to_all_single(
    output: Buffer,
    input: Buffer,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Group = None,
    async_op: bool = False,
) -> Work | None:
    """Send part r of the input to rank r; part r of the output is what rank r sent here.

    Args:
        output: filled with the parts of all ranks, in rank order, along its first dimension.
        input: cut into one part for each rank along its first dimension.
        output_split_sizes: rows that come from each rank; None means equal parts.
        input_split_sizes: rows that go to each rank; None means equal parts.
        group: the group; None means the default one.
        async_op: return a Work at once.
    """
    found = member(group)
    if found is None:
        return None
    target, source = _Flat(output, write=True), _Flat(input, write=False)
    gets = _elements(output_split_sizes, target.array)
    puts = _elements(input_split_sizes, source.array)

    def work() -> None:
        found.all_to_all(target.buffer, source.buffer, gets, puts)
        target.write_back()

    return _run(found, work, [target], async_op)


def all_to_all(
    output_tensor_list: Sequence[Buffer],
    input_tensor_list: Sequence[Buffer],
    group: Group = None,
    async_op: bool = False,
) -> Work | None:
    """Send entry r of the input list to rank r; entry r of the output list is what rank r sent here."""
    found = member(group)
    if found is None:
        return None
    targets = _flats(output_tensor_list, found.size, True, "output_tensor_list")
    sources = _flats(input_tensor_list, found.size, False, "input_tensor_list")

    def work() -> None:
        whole = _joined(sources)
        counts = [int(target.buffer.size) for target in targets]
        result = backend_of(whole).xp.empty(sum(counts), whole.dtype)
        found.all_to_all(result, whole, counts, [int(source.buffer.size) for source in sources])
        start = 0
        for target, count in zip(targets, counts, strict=True):
            target.fill(result[start : start + count])
            start += count

    return _run(found, work, targets, async_op)


def barrier(group: Group = None, async_op: bool = False, device_ids: Sequence[int] | None = None) -> Work | None:
    """Return when every rank has called this; `device_ids` is accepted as in torch and not used."""
    found = member(group)
    return None if found is None else _run(found, found.barrier, [], async_op)


def isend(tensor: Buffer, dst: int, group: Group = None, tag: int = 0) -> Work | None:
    """Start to send the tensor to rank `dst`; it must not change before the work is done."""
    found = member(group)
    return None if found is None else found.isend(_Flat(tensor, False).buffer, get_group_rank(found, dst), tag)


def irecv(tensor: Buffer, src: int, group: Group = None, tag: int = 0) -> Work | None:
    """Start to receive a tensor, which must be contiguous, from rank `src`; it is there once the work is done."""
    found = member(group)
    if found is None:
        return None
    flat = _Flat(tensor, write=True)
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
    flat = _Flat(tensor, write=True)
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


def all_gather_object(object_list: list[Any], obj: Any, group: Group = None) -> None:
    """Collect the objects of all ranks, in rank order, in `object_list` (pickled: only from peers that you trust)."""
    found = member(group)
    if found is not None:
        _check_length(object_list, found.size, "object_list")
        object_list[:] = found.all_gather_object(obj)


def gather_object(obj: Any, object_gather_list: list[Any] | None = None, dst: int = 0, group: Group = None) -> None:
    """Collect the objects of all ranks in a list on rank `dst`; the others pass no list."""
    found = member(group)
    if found is None:
        return
    root = get_group_rank(found, dst)
    _check_length(_on_root(object_gather_list, found.rank == root, "object_gather_list"), _if(found, root), "list")
    result = found.gather_object(obj, root)
    if result is not None and object_gather_list is not None:
        object_gather_list[:] = result


def broadcast_object_list(object_list: list[Any], src: int = 0, group: Group = None) -> None:
    """Replace the entries of the list on every rank by those of rank `src`."""
    found = member(group)
    if found is None:
        return
    received = found.broadcast_object(list(object_list), get_group_rank(found, src))
    _check_length(object_list, len(received), "object_list")
    object_list[:] = received


def scatter_object_list(
    scatter_object_output_list: list[Any],
    scatter_object_input_list: Sequence[Any] | None = None,
    src: int = 0,
    group: Group = None,
) -> None:
    """Hand out the objects of rank `src`: entry r becomes the first entry of the output list on rank r."""
    found = member(group)
    if found is None:
        return
    root = get_group_rank(found, src)
    scatter_object_output_list[:1] = [found.scatter_object(scatter_object_input_list, root)]


def _if(found: Communicator, root: int) -> int:
    """The length that a list has which only the root passes."""
    return found.size if found.rank == root else 0


def _on_root(values: Sequence[Any] | None, is_root: bool, name: str) -> Sequence[Any]:
    """The list that only the root passes; empty elsewhere."""
    if is_root and values is None:
        raise CommError(f"expected `{name}` on the rank that it is for, got None")
    if not is_root and values:
        raise CommError(f"expected no `{name}` on this rank, got one; pass it on the root alone")
    return values or []


def _check_length(values: Sequence[Any], length: int, name: str) -> None:
    if len(values) != length:
        raise CommError(f"expected `{name}` of length {length}, got {len(values)}")


def _elements(rows: Sequence[int] | None, array: Array) -> list[int] | None:
    """Numbers of rows as numbers of elements."""
    if not rows:
        return None
    width = int(np.prod(array.shape[1:], dtype=np.int64))
    return [int(count) * width for count in rows]
