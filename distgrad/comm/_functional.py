"""The collectives of torch.distributed, on Tensors or arrays of any shape, and on Python objects.

A buffer that is not contiguous is staged through a copy and written back. Ranks in arguments called `src` and `dst` are
those of the default group. On a rank outside the group a function does nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ..backend import backend_of
from ._communicator import Communicator
from ._flat import Buffer, Flat, check_entries, check_length, count_on_root, elements, flats, joined, on_root
from ._membership import Group, get_group_rank, member
from ._types import ReduceOp, Work


def _run(found: Communicator, function: Callable[[], None], outputs: Sequence[Flat], async_op: bool) -> Work | None:
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
    flat = Flat(tensor, write=True)

    def work() -> None:
        found.all_reduce(flat.buffer, op)
        flat.write_back()

    return _run(found, work, [flat], async_op)


def broadcast(tensor: Buffer, src: int, group: Group = None, async_op: bool = False) -> Work | None:
    """Copy the tensor of rank `src` into that of every rank."""
    found = member(group)
    if found is None:
        return None
    flat, root = Flat(tensor, write=True), get_group_rank(found, src)

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
    flat, root = Flat(tensor, write=True), get_group_rank(found, dst)

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
    target, source = Flat(output_tensor, write=True), Flat(input_tensor, write=False)

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
    targets, source = flats(tensor_list, found.size, True, "tensor_list"), Flat(tensor, write=False)
    check_entries(targets, source, "tensor_list")

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
    target, source = Flat(output, write=True), Flat(input, write=False)

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
    target, sources = Flat(output, write=True), flats(input_list, found.size, False, "input_list")
    check_entries(sources, target, "input_list")

    def work() -> None:
        found.reduce_scatter(target.buffer, joined(sources), op)
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
    source, root = Flat(tensor, write=False), get_group_rank(found, dst)
    entries = on_root(gather_list, found.rank == root, "gather_list")
    targets = flats(entries, count_on_root(found, root), True, "gather_list")
    check_entries(targets, source, "gather_list")

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
    target, root = Flat(tensor, write=True), get_group_rank(found, src)
    entries = on_root(scatter_list, found.rank == root, "scatter_list")
    sources = flats(entries, count_on_root(found, root), False, "scatter_list")
    check_entries(sources, target, "scatter_list")

    def work() -> None:
        whole = joined(sources) if sources else None
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
    target, source = Flat(output, write=True), Flat(input, write=False)
    gets = elements(output_split_sizes, target.array)
    puts = elements(input_split_sizes, source.array)

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
    targets = flats(output_tensor_list, found.size, True, "output_tensor_list")
    sources = flats(input_tensor_list, found.size, False, "input_tensor_list")

    def work() -> None:
        whole = joined(sources)
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


def all_gather_object(object_list: list[Any], obj: Any, group: Group = None) -> None:
    """Collect the objects of all ranks, in rank order, in `object_list` (pickled: only from peers that you trust)."""
    found = member(group)
    if found is not None:
        check_length(object_list, found.size, "object_list")
        object_list[:] = found.all_gather_object(obj)


def gather_object(obj: Any, object_gather_list: list[Any] | None = None, dst: int = 0, group: Group = None) -> None:
    """Collect the objects of all ranks in a list on rank `dst`; the others pass no list."""
    found = member(group)
    if found is None:
        return
    root = get_group_rank(found, dst)
    name = "object_gather_list"
    check_length(on_root(object_gather_list, found.rank == root, name), count_on_root(found, root), name)
    result = found.gather_object(obj, root)
    if result is not None and object_gather_list is not None:
        object_gather_list[:] = result


def broadcast_object_list(object_list: list[Any], src: int = 0, group: Group = None) -> None:
    """Replace the entries of the list on every rank by those of rank `src`."""
    found = member(group)
    if found is None:
        return
    received = found.broadcast_object(list(object_list), get_group_rank(found, src))
    check_length(object_list, len(received), "object_list")
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
