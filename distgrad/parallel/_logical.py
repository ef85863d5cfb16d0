"""Gradients and buffers that do not depend on the number of ranks, to the last bit.

Every step is cut into a fixed number of logical shards (`DataLoader.steps`). Each is computed with the same shapes and
random numbers wherever that happens, and all sums over shards run along one fixed binary tree: within a rank by
`TreeSum`, between ranks by `Communicator.tree_sum`. Memory: one more array of gradients for each level of the tree that
lies within a rank.
"""

import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._blas import limit_threads
from .._shard import Listener, Shard, listen, note_trained
from .._survivors import enlist
from .._tensor import Tensor
from .._typing import Array
from ..arena import build_arenas, slot_of
from ..backend import backend_of
from ..comm import Communicator, ReduceOp
from ..comm._elastic import as_elastic
from ..comm._tree import owned, tree_of
from ..errors import AutogradError
from ..nn import Module
from ..ops import initial_seed, manual_seed
from ._bucket import bucketfuls_of
from ._sync_batchnorm import SyncBatchNorm
from ._tree_sum import TreeSum, sum_of_blocks

_THREADS = (
    "logical_shards: matrix products round differently with another number of threads, and the BLAS of this process is "
    "none whose threads can be set; set OMP_NUM_THREADS=1 before the start, or `pip install threadpoolctl`"
)
_UNLIMITED = 1 << 62  # bytes: one bucket for each arena, whose layout is then the same on any number of ranks


class LogicalReducer(Listener):
    """Sums the gradients of one model over the logical shards of a step. Creating one is a collective call.

    Args:
        module: the model, built alike on every rank.
        communicator: the ranks, all of them.
        shards: the number of logical shards of a step.

    Raises:
        CommError: there are more ranks than shards.
        AutogradError: a layer depends on the number of ranks.
    """

    def __init__(self, module: Module, communicator: Communicator, shards: int) -> None:
        _check_layers(module)
        if not limit_threads(1):
            warnings.warn(_THREADS, RuntimeWarning, stacklevel=3)
        _share_seed(communicator)
        self.shards = shards
        self._communicator = communicator
        self._take_place()
        self._module = weakref.ref(module)
        self._collect()
        listen(self)
        enlist("model", self)

    def _take_place(self) -> None:
        """Looks which part of the tree this rank has: another one when a rank of an elastic group has died."""
        group = self._communicator
        blocks = owned(self.shards, group.workers)
        self._place = group.rank, group.size
        self._tree = tree_of(blocks)
        self._block = blocks[group.rank] if group.rank < len(blocks) else range(0)  # of a spare

    def _collect(self) -> None:
        """Moves the trained parameters into arenas of a layout that does not depend on the number of ranks."""
        module = self._module()
        assert module is not None  # it belongs to who owns this
        parameters: list[Tensor] = list(module.parameters())
        trained = [p for p in parameters if p.requires_grad]
        on_host = all(p.device.type == "cpu" for p in trained)
        arenas = build_arenas(
            trained,
            headers=True,
            first_bucket_bytes=_UNLIMITED,
            bucket_bytes=_UNLIMITED,
            allocate=self._communicator.empty if on_host else None,
        )
        numbers = {p: number for number, p in enumerate(trained)}
        self._buckets = [bucket for arena in arenas for bucket in bucketfuls_of(arena, numbers)]
        self._grads: list[Array] = [arena.grad for arena in arenas]
        self._begin_with(self._block)
        self._carried: list[Array] | None = None
        self._places = [(p._get_extra(), slot_of(p)) for p in trained]
        self._frozen = [p for p in parameters if not p.requires_grad]
        self._buffers = _Buffers(module, self._communicator)

    def _begin_with(self, block: range) -> None:
        """From now on, steps begin with the shards of this block."""
        self._kept: dict[range, list[Array]] = {}  # sums over blocks, by block, which outlive a void step
        self._again: list[tuple[range, int]] = []  # the blocks of all ranks, in a step that was void
        self._missing: list[range] = []  # those of this rank that are yet to come
        self._sums = self._sums_over(block)

    def _sums_over(self, block: range) -> list[TreeSum]:
        """New sums over a block of shards; where ranks may die, they are kept for the case that the step is void."""
        keeps: list[Array | None] = [None] * len(self._grads)
        if block and as_elastic(self._communicator) is not None:
            self._kept[block] = [backend_of(grad).xp.empty_like(grad) for grad in self._grads]
            keeps = [*self._kept[block]]
        return [TreeSum(grad, len(block), keep) for grad, keep in zip(self._grads, keeps, strict=True)]

    def _is_current(self) -> bool:
        return all(extra.slot is slot for extra, slot in self._places) and not any(
            p.requires_grad for p in self._frozen
        )

    # ---- what a job that starts again goes on with ---------------------------------------------------------------

    def state_dict(self) -> dict[str, list[Array | None]]:
        """Values of parameters, gradients and buffers, not copied."""
        tensors, buffers = self._tensors()
        grads = [None if p._grad is None else _on_host(p._grad._data) for p in tensors]
        return {
            "parameters": [_on_host(p._data) for p in tensors],
            "gradients": grads,
            "buffers": [_on_host(b._data) for b in buffers],
        }

    def load_state_dict(self, state_dict: dict[str, list[Array | None]]) -> None:
        """Writes them where they belong."""
        tensors, buffers = self._tensors()
        values = [*state_dict["parameters"], *state_dict["buffers"]]
        for tensor, value in zip([*tensors, *buffers], values, strict=True):
            tensor._data[...] = backend_of(tensor._data).xp.asarray(value)
            tensor._cell[0] += 1
        for p, grad in zip(tensors, state_dict["gradients"], strict=True):
            slot = slot_of(p)
            p._grad = None
            if grad is not None and slot is not None:
                slot.grad._data[...] = backend_of(p._data).xp.asarray(grad)
                p._grad = slot.grad

    def _tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        module = self._module()
        assert module is not None  # it belongs to who owns this
        return [*module.parameters()], [*module.buffers()]

    # ---- what the loop announces ---------------------------------------------------------------------------------

    def begin_step(self, shards: int) -> None:
        """Puts aside what gradients there are: those of the step are added to them, as backward would.

        Raises:
            ValueError: the loader cuts steps into another number of shards.
        """
        if shards != self.shards:
            raise ValueError(
                f"expected the same number of logical shards from model and loader, got logical_shards={self.shards} "
                f"for DistributedDataParallel and logical_shards={shards} for DataLoader"
            )
        if self._place != (self._communicator.rank, self._communicator.size) or self._again:
            self._take_place()
            self._begin_with(self._block)
        if not self._is_current():
            self._collect()
        has_gradients = any(m.parameter._grad is not None for bucket in self._buckets for m in bucket.members)
        self._carried = None
        if has_gradients:
            self._fill()
            self._carried = [grad.copy() for grad in self._grads]
        self._forget()
        for total in self._sums:
            total.restart()
        self._buffers.begin_step()

    def begin_shard(self, shard: Shard) -> None:
        """Every shard starts from the buffers at the beginning of the step."""
        self._buffers.begin_shard()

    def end_shard(self, shard: Shard) -> None:
        """Adds the gradients of a shard to the sum, by its share of the samples."""
        if not shard.samples:
            for total in self._sums:
                total.add_zero()
            self._buffers.end_empty_shard(shard.number)
        else:
            self._fill()
            for total in self._sums:
                total.add(shard.weight)
            self._forget()
            self._buffers.end_shard(shard.number, shard.weight)
        if self._missing and all(total.is_complete for total in self._sums):
            self._sums = self._sums_over(self._missing.pop(0))

    def end_step(self) -> None:
        """Sums over the ranks, and hands the gradients to the parameters."""
        for i, grad in enumerate(self._grads):
            sums = {block: kept[i] for block, kept in self._kept.items()} if self._again else {self._block: grad}
            total = self._add_up(sums, grad)
            if total is not grad:
                grad[...] = backend_of(grad).xp.asarray(total)
        if self._carried is not None:
            for grad, carried in zip(self._grads, self._carried, strict=True):
                grad += carried
        self._hand_out()
        self._buffers.end_step(self._add_up, [*self._kept] if self._again else [self._block])
        note_trained(self._module())

    def void_step(self) -> None:
        """Gives the parameters the gradients, and the buffers the values, that they had before the step."""
        self._forget()
        if self._carried is not None:
            for grad, carried in zip(self._grads, self._carried, strict=True):
                grad[...] = carried
            self._hand_out()
        self._buffers.void_step()

    def begin_again(self, blocks: Sequence[tuple[range, int]]) -> None:
        """Keeps the sums over the blocks that this rank has, and begins with the first that is missing."""
        self._forget()
        self._again = [*blocks]
        mine = [block for block, rank in blocks if rank == self._communicator.rank]
        self._missing = [block for block in mine if block not in self._kept]
        if self._missing:
            self._sums = self._sums_over(self._missing.pop(0))

    def _add_up(self, sums: dict[range, Array], memory: Array) -> Array:
        """The sum over all ranks of what each has for its blocks; where `memory` is written, it holds that sum."""
        if self._again:
            return sum_of_blocks(self._communicator, self._again, sums, memory)
        total = sums.get(self._block, memory)
        self._communicator.tree_sum(total, self._tree)
        return total

    def _hand_out(self) -> None:
        """Gives the parameters the gradients that the headers say are set."""
        for bucket in self._buckets:
            is_set = (bucket.header != 0).tolist()
            for member, found in zip(bucket.members, is_set, strict=True):
                member.parameter._grad = member.slot.grad if found else None
            bucket.header[...] = 0  # it lies between gradients, where readers of the whole expect zeros

    def _fill(self) -> None:
        for bucket in self._buckets:
            bucket.fill()

    def _forget(self) -> None:
        for bucket in self._buckets:
            bucket.forget()


# Sums over all ranks what each has for its blocks of shards; the second array is memory for the sum.
AddUp: TypeAlias = Callable[[dict[range, Array], Array], Array]


class _Leaf(NamedTuple):
    """The buffers that a shard has changed, by their place, and what it counts."""

    weight: float
    values: dict[int, Array]


class _Buffers:
    """The buffers of a model, such as running means: each shard changes them from the same start.

    After a step a floating-point buffer is the mean of what the shards made of it, weighted by their samples; of other
    buffers (counters) it is the largest. One that no shard changed stays as it was.

    Args:
        module: the model.
        communicator: the ranks.
    """

    def __init__(self, module: Module, communicator: Communicator) -> None:
        self._communicator = communicator
        self._tables = [m._buffers for m in module.modules() if m._buffers]
        self._before: list[Array] = []
        self._leaves: dict[int, _Leaf] = {}  # by the number of the shard
        self._last: list[int] = []  # what the shard before has changed

    def _arrays(self) -> list[Array]:
        return [b._data for table in self._tables for b in table.values() if b is not None]

    def begin_step(self) -> None:
        """Remembers the buffers."""
        self._before = [array.copy() for array in self._arrays()]
        self._leaves, self._last = {}, []

    def begin_shard(self) -> None:
        """Puts back what they were."""
        for place in self._last:
            self._arrays()[place][...] = self._before[place]

    def end_shard(self, number: int, weight: float) -> None:
        """Remembers what a shard has changed."""
        pairs = enumerate(zip(self._arrays(), self._before, strict=True))
        changed = {i: a.copy() for i, (a, before) in pairs if bool((a != before).any())}
        self._leaves[number], self._last = _Leaf(weight, changed), [*changed]

    def end_empty_shard(self, number: int) -> None:
        """A shard without samples changes nothing and counts for nothing."""
        self._leaves[number] = _Leaf(0.0, {})

    def end_step(self, add_up: AddUp, blocks: Sequence[range]) -> None:
        """Gives the buffers their values after the step.

        Args:
            add_up: sums over the ranks.
            blocks: of shards, which this rank has.
        """
        if not self._before:
            return
        changed = np.zeros(len(self._before), np.uint8)
        for leaf in self._leaves.values():
            changed[list(leaf.values)] = 1
        self._communicator.all_reduce(changed, ReduceOp.MAX)
        places = np.flatnonzero(changed).tolist()
        floating = [i for i in places if self._before[i].dtype.kind in "fV"]
        self._write(floating, self._mean(floating, add_up, blocks))
        others = [i for i in places if i not in floating]
        self._write(others, self._largest(others))

    def void_step(self) -> None:
        """Puts back what all buffers were before the step."""
        for array, before in zip(self._arrays(), self._before, strict=True):
            array[...] = before

    def _mean(self, places: list[int], add_up: AddUp, blocks: Sequence[range]) -> Array:
        size = sum(self._before[i].size for i in places)
        sums = {block: self._sum(places, block, size) for block in blocks if block}
        return add_up(sums, np.zeros(size)) if places else np.zeros(0)

    def _sum(self, places: list[int], block: range, size: int) -> Array:
        """What the shards of a block made of these buffers, by their samples."""
        packed = np.zeros(size)
        total = TreeSum(packed, len(block))
        for number in block:
            leaf = self._leaves[number]
            packed[...] = self._pack(places, leaf, np.dtype("float64")) if leaf.weight else 0
            total.add(leaf.weight or 1.0)
        return packed

    def _largest(self, places: list[int]) -> Array:
        start = self._pack(places, _Leaf(0.0, {}), np.dtype("int64"))
        for leaf in self._leaves.values():
            np.maximum(start, self._pack(places, leaf, start.dtype), out=start)
        if places:
            self._communicator.all_reduce(start, ReduceOp.MAX)
        return start

    def _pack(self, places: list[int], leaf: _Leaf, dtype: "np.dtype[Any]") -> Array:
        """Buffers after a shard, flat and one after the other, in host memory."""
        arrays = [(leaf.values[i] if i in leaf.values else self._before[i]).reshape(-1) for i in places]
        parts = [(a if isinstance(a, np.ndarray) else a.get()).astype(dtype) for a in arrays]
        return np.concatenate([np.empty(0, dtype), *parts])

    def _write(self, places: list[int], packed: Array) -> None:
        arrays, start = self._arrays(), 0
        for i in places:
            array = arrays[i]
            flat = packed[start : start + array.size].astype(array.dtype).reshape(array.shape)
            array[...] = backend_of(array).xp.asarray(flat)
            start += array.size


def _on_host(array: Array) -> Array:
    return array if isinstance(array, np.ndarray) else backend_of(array).to_numpy(array)


def _share_seed(communicator: Communicator) -> None:
    """Random numbers of shards follow from the seed: where ranks were not seeded alike, they take that of rank 0."""
    seed = communicator.broadcast_object(initial_seed())
    if seed != initial_seed():
        manual_seed(seed)


def _check_layers(module: Module) -> None:
    for name, layer in module.named_modules():
        if isinstance(layer, SyncBatchNorm):
            raise AutogradError(
                f"logical_shards: expected layers whose result does not depend on the number of ranks, got {name!r}, a "
                "SyncBatchNorm; BatchNorm normalises each logical shard by itself"
            )
