"""PowerSGD: gradients as products of two thin matrices, with what that leaves out added to the next step's.

Vogels, Karimireddy and Jaggi, PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization, NeurIPS
2019 (arXiv 1905.13727). In torch: `torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook`.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .._tensor import Tensor
from .._typing import Array
from ..backend import backend_of
from ..comm import Communicator, ReduceOp, get_default
from ..futures import Future
from ._bucket import GradBucket
from .default_hooks import allreduce_hook


class PowerSGDState:
    """What PowerSGD remembers from step to step, and its settings; the same on all ranks.

    Args:
        process_group: the ranks; the default group by default.
        matrix_approximation_rank: columns r of the thin matrices: an (n, m) gradient travels as r (n + m) numbers.
        start_powerSGD_iter: steps with plain means first; while the loss falls fast, compression costs accuracy.
        min_compression_rate: a matrix is compressed if that saves more than this factor.
        use_error_feedback: add what the approximation left out to the next gradient. Without it training suffers.
        warm_start: begin the power iteration with the last step's result.
        orthogonalization_epsilon: added to norms in Gram-Schmidt; 0 uses a QR decomposition instead.
        random_seed: of the first thin matrices.
        compression_stats_logging_frequency: accepted as in torch, not used; see `compression_stats`.
        batch_tensors_with_same_shape: accepted as in torch, not used; results do not depend on it.

    Raises:
        ValueError: start_powerSGD_iter is below 2 though something is remembered: buckets may change after one step.
    """

    def __init__(
        self,
        process_group: Communicator | None,
        matrix_approximation_rank: int = 1,
        start_powerSGD_iter: int = 1_000,
        min_compression_rate: float = 2,
        use_error_feedback: bool = True,
        warm_start: bool = True,
        orthogonalization_epsilon: float = 0,
        random_seed: int = 0,
        compression_stats_logging_frequency: int = 10_000,
        batch_tensors_with_same_shape: bool = False,
    ) -> None:
        if (use_error_feedback or warm_start) and start_powerSGD_iter <= 1:
            raise ValueError(
                "Expect `start_powerSGD_iter` > 1 if `use_error_feedback` or `warm_start` is enabled, because "
                f"PowerSGD can only be applied after the first two iterations in DDP; got {start_powerSGD_iter}"
            )
        self.process_group = process_group
        self.matrix_approximation_rank = matrix_approximation_rank
        self.start_powerSGD_iter = start_powerSGD_iter
        self.min_compression_rate = min_compression_rate
        self.use_error_feedback = use_error_feedback
        self.warm_start = warm_start
        self.orthogonalization_epsilon = orthogonalization_epsilon
        self.rng = np.random.RandomState(random_seed)
        self.error_dict: dict[int, Array] = {}
        self.q_memory_dict: dict[int, Array] = {}
        self.iter = 0
        self.total_numel_before_compression = 0
        self.total_numel_after_compression = 0

    def compression_stats(self) -> tuple[float, int, int]:
        """How much smaller the messages were, and the numbers that would have been and were communicated."""
        before, after = self.total_numel_before_compression, self.total_numel_after_compression
        return (before / after if after else 0.0, before, after)

    def maybe_increase_iter(self, bucket: GradBucket) -> None:
        """Counts an iteration at its last bucket."""
        if bucket.is_last():
            self.iter += 1

    def thin(self, index: int, sizes: list[int], like: Array) -> Array:
        """The matrices Q of a bucket, flat, one after the other: the last step's, or random ones."""
        length = sum(sizes) * self.matrix_approximation_rank
        if self.warm_start and index in self.q_memory_dict and self.q_memory_dict[index].size == length:
            return self.q_memory_dict[index]
        q = backend_of(like).asarray(self.rng.standard_normal(length).astype(_computed_in(like)))
        self.q_memory_dict[index] = q
        return q


def powerSGD_hook(state: PowerSGDState, bucket: GradBucket) -> Future[Tensor]:
    """Approximates the mean of each matrix by one of low rank; vectors and small matrices are reduced as they are.

    A gradient of more than two dimensions counts as a matrix of its first against all others.

    Example:
        >>> state = PowerSGDState(None, matrix_approximation_rank=2, start_powerSGD_iter=100)
        >>> model.register_comm_hook(state, powerSGD_hook)
    """
    return _hook(state, bucket, _each)


def batched_powerSGD_hook(state: PowerSGDState, bucket: GradBucket) -> Future[Tensor]:
    """Treats a whole bucket as one square matrix: fewer operations, less accuracy."""
    return _hook(state, bucket, _as_square)


def _hook(state: PowerSGDState, bucket: GradBucket, approximate: "_Approximate") -> Future[Tensor]:
    iteration = state.iter
    state.maybe_increase_iter(bucket)
    if iteration < state.start_powerSGD_iter:
        return allreduce_hook(state.process_group, bucket)
    group = state.process_group or get_default()
    return bucket.run(group, lambda: _with_feedback(state, group, bucket, approximate))


def _with_feedback(state: PowerSGDState, group: Communicator, bucket: GradBucket, approximate: "_Approximate") -> None:
    """Adds what earlier steps left out, approximates, and keeps what is left out now."""
    flat, index = bucket.buffer()._data, bucket.index()
    if not state.use_error_feedback:
        approximate(state, group, bucket)
        return
    error = state.error_dict.get(index)
    if error is None or error.size != flat.size:
        error = state.error_dict[index] = backend_of(flat).xp.zeros_like(flat)
    flat += error
    error[...] = flat
    exact = approximate(state, group, bucket)
    error -= flat
    views = bucket.views(error)
    for i in exact:
        views[i][...] = 0


def _each(state: PowerSGDState, group: Communicator, bucket: GradBucket) -> list[int]:
    """Approximates matrices, reduces the rest as it is; returns which gradients are the rest."""
    views = bucket.views(bucket.buffer()._data)
    thin = [i for i, view in enumerate(views) if _pays(view, state)]
    exact = [i for i in range(len(views)) if i not in thin]
    matrices = [views[i].reshape(views[i].shape[0], -1) for i in thin]
    others = [views[i].reshape(-1) for i in exact]
    _mean_of_others(group, others)
    _low_rank(state, group, bucket.index(), matrices)
    _count(state, bucket.buffer()._data.size, sum(other.size for other in others), matrices)
    return exact


def _as_square(state: PowerSGDState, group: Communicator, bucket: GradBucket) -> list[int]:
    """Approximates the bucket as one matrix, filled up with zeros."""
    flat = bucket.buffer()._data
    side = math.isqrt(max(flat.size - 1, 0)) + 1
    square = backend_of(flat).xp.zeros((side, side), flat.dtype)
    square.reshape(-1)[: flat.size] = flat
    _low_rank(state, group, bucket.index(), [square])
    flat[...] = square.reshape(-1)[: flat.size]
    _count(state, flat.size, 0, [square])
    return []


_Approximate: TypeAlias = Callable[[PowerSGDState, Communicator, GradBucket], list[int]]


def _count(state: PowerSGDState, before: int, exact: int, matrices: list[Array]) -> None:
    state.total_numel_before_compression += before
    state.total_numel_after_compression += exact
    state.total_numel_after_compression += sum(sum(m.shape) for m in matrices) * state.matrix_approximation_rank


def _mean_of_others(group: Communicator, others: list[Array]) -> None:
    """Reduces everything that is not compressed in one message."""
    if not others:
        return
    together = backend_of(others[0]).xp.concatenate(others)
    group.all_reduce(together, ReduceOp.AVG)
    start = 0
    for other in others:
        other[...] = together[start : start + other.size]
        start += other.size


def _low_rank(state: PowerSGDState, group: Communicator, index: int, matrices: list[Array]) -> None:
    """Replaces each matrix by an approximation of its mean over the ranks: one step of power iteration."""
    if not matrices:
        return
    xp: Any = backend_of(matrices[0]).xp
    rank, kind = state.matrix_approximation_rank, _computed_in(matrices[0])
    q = state.thin(index, [m.shape[1] for m in matrices], matrices[0])
    p = xp.empty(sum(m.shape[0] for m in matrices) * rank, kind)
    qs = _rows(q, [m.shape[1] for m in matrices], rank)
    ps = _rows(p, [m.shape[0] for m in matrices], rank)
    for matrix, left, right in zip(matrices, ps, qs, strict=True):
        _orthogonalize(xp, right, state.orthogonalization_epsilon)
        left[...] = matrix.astype(kind, copy=False) @ right
    group.all_reduce(p, ReduceOp.AVG)
    for matrix, left, right in zip(matrices, ps, qs, strict=True):
        _orthogonalize(xp, left, state.orthogonalization_epsilon)
        right[...] = matrix.astype(kind, copy=False).T @ left
    group.all_reduce(q, ReduceOp.AVG)
    for matrix, left, right in zip(matrices, ps, qs, strict=True):
        matrix[...] = left @ right.T


def _orthogonalize(xp: Any, matrix: Array, epsilon: float) -> None:
    """Makes the columns orthonormal, in place."""
    if epsilon == 0:
        q = xp.linalg.qr(matrix)[0]
        matrix[:, : q.shape[1]] = q
        matrix[:, q.shape[1] :] = 0  # more columns than rows
        return
    for i in range(matrix.shape[1]):
        column = matrix[:, i]
        column /= xp.linalg.norm(column) + epsilon
        rest = matrix[:, i + 1 :]
        rest -= xp.outer(column, column @ rest)


def _rows(flat: Array, heights: list[int], rank: int) -> list[Array]:
    """Views (height, rank) of a flat array, one after the other."""
    ends = np.cumsum([0, *heights]) * rank
    return [flat[a:b].reshape(-1, rank) for a, b in itertools.pairwise(ends)]


def _pays(gradient: Array, state: PowerSGDState) -> bool:
    """Whether it is a matrix, or is seen as one, and large enough."""
    if gradient.ndim < 2 or gradient.size == 0:
        return False
    n: int = gradient.shape[0]
    m: int = gradient.size // n
    return (n + m) * state.matrix_approximation_rank * state.min_compression_rate < n * m


def _computed_in(array: Array) -> Any:
    return array.dtype if array.dtype.itemsize >= 4 else np.dtype("float32")
