"""Batch normalisation over the batches of all ranks, exact also where they differ in size."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._node import Node
from ..autograd._op import Op, apply
from ..comm import Communicator, ReduceOp, get_default
from ..errors import AutogradError, ShapeError
from ..nn._module import Module
from ..nn._norm import _BatchNorm
from ._join import Step, announce

if TYPE_CHECKING:
    from .._tensor import Tensor

Statistics = list[Any]


class SyncBatchNormalize(Op):
    """Inputs: x (N, C, ...), weight (C,) or None, bias (C,) or None; ``params = (communicator, eps, statistics)``.

    Forward appends mean (C,), biased variance (C,) and the number of values of a channel to the list `statistics`.
    """

    saves = ((0, 1), (0,), ())

    @staticmethod
    def forward(
        ctx: Node,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        group: Communicator,
        eps: float,
        statistics: Statistics,
    ) -> Array:
        mean, variance, count = _over_all_ranks(ctx, x, group)
        statistics += (mean, variance, count)
        kind = x.dtype if x.dtype.itemsize >= 4 else "float32"
        mean, invstd = mean.astype(kind), (1 / ctx.xp.sqrt(variance + eps)).astype(kind)
        ctx.aux = (mean, invstd, count)
        return ctx.kernels.norm.batch_apply(x, mean, invstd, weight, bias)

    @staticmethod
    def backward(xp: Any, ctx: Node, g: Any, x: Any, weight: Any) -> Any:
        raise AutogradError(
            "SyncBatchNorm: second derivatives are not supported, because the gradient itself is a collective call"
        )

    @staticmethod
    def backward_fast(xp: Any, ctx: Node, g: Array, x: Array, weight: Array | None) -> Any:
        group = ctx.params[0]
        mean, invstd, count = ctx.aux
        norm = ctx.kernels.norm
        sum_g, sum_gx = norm.batch_sums(g, x, mean, invstd)
        totals = ctx.xp.concatenate([sum_g, sum_gx]).astype("float64")
        announce(group, Step.SUM, totals.size)
        group.all_reduce(totals, ReduceOp.SUM)
        mean_g, mean_gx = (totals / count).astype(mean.dtype).reshape(2, -1)
        gx = norm.batch_grad_input(g, x, mean, invstd, weight, mean_g, mean_gx) if ctx.needs[0] else None
        return gx, sum_gx.astype(g.dtype) if ctx.needs[1] else None, sum_g.astype(g.dtype) if ctx.needs[2] else None


def _over_all_ranks(ctx: Node, x: Array, group: Communicator) -> tuple[Array, Array, float]:
    """Mean and biased variance (C,) over the batches of all ranks, and the number of values of a channel; float64."""
    xp, channels = ctx.xp, x.shape[1]
    own = xp.zeros(2 * channels + 1, "float64")
    if x.size:
        own[:channels], own[channels:-1] = ctx.kernels.norm.batch_statistics(x)
        own[-1] = x.size // channels
    gathered = xp.empty(group.size * own.size, "float64")
    announce(group, Step.GATHER, own.size)
    group.all_gather(gathered, own)
    of_ranks = gathered.reshape(group.size, own.size)
    counts, means, variances = of_ranks[:, -1:], of_ranks[:, :channels], of_ranks[:, channels:-1]
    count = max(float(counts.sum()), 1.0)  # no rank may have any values
    mean = (counts * means).sum(axis=0) / count
    return mean, (counts * (variances + (means - mean) ** 2)).sum(axis=0) / count, count


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation whose mean and variance are those of the whole batch over all ranks.

    Input (N, C, ...), any number of dimensions from two on. In evaluation it is ordinary batch normalisation.

    Args:
        num_features: C.
        eps, momentum, affine, track_running_stats, bias: as in `BatchNorm2d`.
        process_group: the ranks that share statistics; all by default.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Communicator | None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype, bias=bias
        )
        self.process_group = process_group

    def _check_input_dim(self, input: "Tensor") -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ShapeError(f"SyncBatchNorm: expected input (N, {self.num_features}, ...), got {list(input.shape)}")

    def forward(self, input: "Tensor") -> "Tensor":
        """(N, C, ...) -> (N, C, ...)."""
        self._check_input_dim(input)
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        group = self.process_group or get_default()
        statistics: Statistics = []
        output: Tensor = apply(SyncBatchNormalize, (input, self.weight, self.bias), (group, self.eps, statistics))
        if self.training and self.running_mean is not None:
            self._update_running(*statistics)
        return output

    def _update_running(self, mean: Array, variance: Array, count: float) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / max(count - 1, 1))
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            raw = running.__distgrad_array__(write=True)
            raw += factor * (new - raw)

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Communicator | None = None) -> Module:
        """The module with every BatchNorm layer in it replaced by a SyncBatchNorm on the same parameters."""
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            return cls._of(module, process_group)
        for name, child in module.named_children():
            setattr(module, name, cls.convert_sync_batchnorm(child, process_group))
        return module

    @classmethod
    def _of(cls, layer: _BatchNorm, group: Communicator | None) -> "SyncBatchNorm":
        made = cls(
            layer.num_features,
            layer.eps,
            layer.momentum,
            layer.affine,
            layer.track_running_stats,
            group,
            bias=layer.bias is not None,
        )
        made.weight, made.bias = layer.weight, layer.bias
        made.running_mean, made.running_var = layer.running_mean, layer.running_var
        made.num_batches_tracked = layer.num_batches_tracked
        made.training = layer.training
        return made
