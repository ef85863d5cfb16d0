"""Collectives that gradients flow through, as torch.distributed.nn.functional: for models that span ranks.

What is differentiated is the sum over all ranks of what each calls backward on. The gradient of a collective is another
one, so every rank has to take part in backward as it did in forward, and second derivatives work. Ranks called `src`
and `dst` are those of the default group.
"""

from collections.abc import Sequence
from typing import Any

from .._tensor import Tensor
from .._typing import Array
from ..autograd import Function
from ..autograd._base import wrap
from ..backend import backend_of
from ..comm import Communicator, ReduceOp, get_default, get_group_rank
from ..errors import CommError
from ..ops import cat

_Group = Communicator | None
Tensors = tuple[Tensor, ...]


def all_reduce(tensor: Tensor, op: ReduceOp = ReduceOp.SUM, group: _Group = None) -> Tensor:
    """The sum (or mean) of the tensors of all ranks, on every rank; `tensor` itself stays as it is.

    Args:
        tensor: of one shape and dtype on every rank.
        op: SUM or AVG; others only where no gradient is wanted.
        group: the ranks; all by default.

    Example:
        >>> total = all_reduce(x.sum())  # its gradient is the sum of what all ranks do with it
    """
    return _AllReduce.apply(tensor, op, _found(group))  # type: ignore[no-any-return]


def broadcast(tensor: Tensor, src: int, group: _Group = None) -> Tensor:
    """The tensor of rank `src`, on every rank. The gradients of all ranks are added up on that one."""
    found = _found(group)
    return _Broadcast.apply(tensor, get_group_rank(found, src), found)  # type: ignore[no-any-return]


def reduce(tensor: Tensor, dst: int, op: ReduceOp = ReduceOp.SUM, group: _Group = None) -> Tensor:
    """The sum (or mean) of the tensors of all ranks on rank `dst`; the others get zeros, through which they take part
    in backward."""
    found = _found(group)
    return _Reduce.apply(tensor, get_group_rank(found, dst), op, found)  # type: ignore[no-any-return]


def all_gather(tensor: Tensor, group: _Group = None) -> Tensors:
    """The tensors of all ranks, of one shape, on every rank."""
    return _AllGather.apply(tensor, _found(group))  # type: ignore[no-any-return]


def reduce_scatter(
    output: Tensor, input_list: Sequence[Tensor], op: ReduceOp = ReduceOp.SUM, group: _Group = None
) -> Tensor:
    """Entry r of the lists of all ranks, added up (or averaged), on rank r.

    Args:
        output: only its shape counts; the result is returned.
        input_list: one tensor of that shape for each rank.
        op: SUM or AVG.
        group: the ranks; all by default.
    """
    found = _found(group)
    _check_list(input_list, found, "input_list")
    return _ReduceScatter.apply(op, found, *input_list)  # type: ignore[no-any-return]


def gather(tensor: Tensor, dst: int = 0, group: _Group = None) -> Tensors:
    """The tensors of all ranks, of one shape, on rank `dst`; the others get zeros, through which they take part in
    backward."""
    found = _found(group)
    return _Gather.apply(tensor, get_group_rank(found, dst), found)  # type: ignore[no-any-return]


def scatter(tensors: Sequence[Tensor], src: int = 0, group: _Group = None) -> Tensor:
    """Entry r of the list of rank `src`, on rank r. The other ranks pass tensors of the same shapes."""
    found = _found(group)
    _check_list(tensors, found, "tensors")
    return _Scatter.apply(get_group_rank(found, src), found, *tensors)  # type: ignore[no-any-return]


def all_to_all(
    output_tensor_list: Sequence[Tensor], input_tensor_list: Sequence[Tensor], group: _Group = None
) -> Tensors:
    """Entry r of the input list goes to rank r; entry r of the result came from rank r.

    Args:
        output_tensor_list: only their shapes count; the results are returned.
        input_tensor_list: one tensor for each rank, of any shapes.
        group: the ranks; all by default.
    """
    found = _found(group)
    _check_list(output_tensor_list, found, "output_tensor_list")
    _check_list(input_tensor_list, found, "input_tensor_list")
    shapes = tuple(t._data.shape for t in output_tensor_list)
    return _AllToAll.apply(shapes, found, *input_tensor_list)  # type: ignore[no-any-return]


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: _Group = None,
) -> Tensor:
    """Part r of the input goes to rank r; part r of the result came from rank r.

    Args:
        output: only its shape counts; the result is returned.
        input: cut along its first dimension.
        output_split_sizes, input_split_sizes: rows of each part; equal parts by default.
        group: the ranks; all by default.
    """
    found = _found(group)
    gets = _rows(output, output_split_sizes, found.size)
    puts = _rows(input, input_split_sizes, found.size)
    shapes = tuple((rows, *output._data.shape[1:]) for rows in gets)
    parts = _AllToAll.apply(shapes, found, *input.split(puts))
    return cat(parts)


class _AllReduce(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, op: ReduceOp, group: Communicator) -> Tensor:
        _check_op(ctx, op)
        ctx.op_of_ranks, ctx.group = op, group
        total = _copy(x)
        group.all_reduce(total, op)
        return wrap(total.reshape(x._data.shape))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _AllReduce.apply(g, ctx.op_of_ranks, ctx.group), None, None


class _Broadcast(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, root: int, group: Communicator) -> Tensor:
        ctx.root, ctx.group = root, group
        values = _copy(x)
        group.broadcast(values, root)
        return wrap(values.reshape(x._data.shape))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _Reduce.apply(g, ctx.root, ReduceOp.SUM, ctx.group), None, None


class _Reduce(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, root: int, op: ReduceOp, group: Communicator) -> Tensor:
        _check_op(ctx, op)
        ctx.root, ctx.scale, ctx.group = root, _scale(op, group), group
        total = _copy(x)
        group.reduce(total, root, op)
        if group.rank != root:
            total[...] = 0
        return wrap(total.reshape(x._data.shape))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _Broadcast.apply(g, ctx.root, ctx.group) * ctx.scale, None, None, None


class _AllGather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Communicator) -> Tensors:
        ctx.group = group
        own = _copy(x)
        rows = _empty(own, group.size * own.size)
        group.all_gather(rows, own)
        return _split(rows, x, group.size)

    @staticmethod
    def backward(ctx: Any, *gs: Tensor) -> Any:
        return _ReduceScatter.apply(ReduceOp.SUM, ctx.group, *gs), None


class _ReduceScatter(Function):
    @staticmethod
    def forward(ctx: Any, op: ReduceOp, group: Communicator, *xs: Tensor) -> Tensor:
        _check_op(ctx, op)
        ctx.scale, ctx.group = _scale(op, group), group
        parts = _concatenated(xs)
        own = _empty(parts, xs[0].numel())
        group.reduce_scatter(own, parts, op)
        return wrap(own.reshape(xs[0]._data.shape))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        parts = _AllGather.apply(g, ctx.group)
        return None, None, *(part * ctx.scale for part in parts)


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, root: int, group: Communicator) -> Tensors:
        ctx.root, ctx.group = root, group
        own = _copy(x)
        rows = _empty(own, group.size * own.size)
        group.gather(rows if group.rank == root else None, own, root)
        if group.rank != root:
            rows[...] = 0
        return _split(rows, x, group.size)

    @staticmethod
    def backward(ctx: Any, *gs: Tensor) -> Any:
        return _Scatter.apply(ctx.root, ctx.group, *gs), None, None


class _Scatter(Function):
    @staticmethod
    def forward(ctx: Any, root: int, group: Communicator, *xs: Tensor) -> Tensor:
        ctx.root, ctx.group = root, group
        parts = _concatenated(xs) if group.rank == root else None
        own = _empty(xs[0]._data, xs[0].numel())
        group.scatter(own, parts, root)
        return wrap(own.reshape(xs[0]._data.shape))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return None, None, *_Gather.apply(g, ctx.root, ctx.group)


class _AllToAll(Function):
    @staticmethod
    def forward(ctx: Any, shapes: tuple[tuple[int, ...], ...], group: Communicator, *xs: Tensor) -> Tensors:
        ctx.input_shapes, ctx.group = tuple(x._data.shape for x in xs), group
        sizes = [_size(shape) for shape in shapes]
        source = _concatenated(xs)
        target = _empty(source, sum(sizes))
        group.all_to_all(target, source, sizes, [x.numel() for x in xs])
        starts = [sum(sizes[:r]) for r in range(group.size)]
        ends = zip(starts, sizes, shapes, strict=True)
        return tuple(wrap(target[start : start + size].reshape(shape)) for start, size, shape in ends)

    @staticmethod
    def backward(ctx: Any, *gs: Tensor) -> Any:
        return None, None, *_AllToAll.apply(ctx.input_shapes, ctx.group, *gs)


def _found(group: _Group) -> Communicator:
    return get_default() if group is None else group


def _check_op(ctx: Any, op: ReduceOp) -> None:
    if op not in (ReduceOp.SUM, ReduceOp.AVG) and any(ctx.needs_input_grad):
        raise CommError(f"expected op to be SUM or AVG where gradients are wanted, got {op.name}; detach() the tensor")


def _check_list(tensors: Sequence[Tensor], group: Communicator, name: str) -> None:
    if len(tensors) != group.size:
        raise CommError(
            f"expected `{name}` to be a list of {group.size} tensors, one for each rank, got {len(tensors)}"
        )


def _scale(op: ReduceOp, group: Communicator) -> float:
    return 1 / group.size if op is ReduceOp.AVG else 1.0


def _copy(t: Tensor) -> Array:
    """The values as a flat array of their own."""
    return backend_of(t._data).xp.array(t._data, order="C").reshape(-1)


def _concatenated(tensors: Sequence[Tensor]) -> Array:
    return backend_of(tensors[0]._data).xp.concatenate([t._data.reshape(-1) for t in tensors])


def _empty(like: Array, n: int) -> Array:
    return backend_of(like).xp.empty(n, like.dtype)


def _split(rows: Array, like: Tensor, count: int) -> Tensors:
    return tuple(wrap(row.reshape(like._data.shape)) for row in rows.reshape(count, like.numel()))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _rows(t: Tensor, sizes: Sequence[int] | None, ranks: int) -> list[int]:
    """How many rows each part has."""
    if sizes:
        return [int(n) for n in sizes]
    if t._data.ndim == 0 or t._data.shape[0] % ranks:
        raise CommError(
            f"expected a first dimension that {ranks} ranks can share equally, got shape {list(t._data.shape)}; pass "
            "split sizes"
        )
    return [t._data.shape[0] // ranks] * ranks
