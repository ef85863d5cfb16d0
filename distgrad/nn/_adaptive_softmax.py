"""Softmax over very many classes, the frequent ones first (Grave et al., 2017)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import ops
from .._tensor import Tensor
from ..errors import ShapeError
from . import functional as F
from ._container import ModuleList, Sequential
from ._linear import Linear
from ._module import Module


class ASMoutput(NamedTuple):
    """What `AdaptiveLogSoftmaxWithLoss` returns.

    Attributes:
        output: (N), the log-probability of each target.
        loss: the mean of their negatives.
    """

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax and its loss for classes sorted by frequency, which are cut into a head and rarer clusters.

    A class of cluster i has the probability of the cluster, which the head gives, times its own within the cluster.

    Args:
        in_features: size of the input.
        n_classes: number of classes, the most frequent first.
        cutoffs: the first class of each cluster, increasing.
        div_value: cluster i reads the input through ``in_features / div_value ** (i + 1)`` features.
        head_bias: whether the head has a bias.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        ends = list(cutoffs)
        if not ends:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if ends != sorted(set(ends)) or ends[0] <= 0 or ends[-1] > n_classes - 1 or any(int(c) != c for c in ends):
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each "
                f"value is between 1 and n_classes-1, got {ends} for {n_classes} classes"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*ends, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = ends[0]
        self.n_clusters = len(ends)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, device=device, dtype=dtype)
        self.tail = ModuleList(self._cluster(i, device, dtype) for i in range(self.n_clusters))

    def _cluster(self, i: int, device: Any, dtype: Any) -> Module:
        hidden = int(self.in_features // self.div_value ** (i + 1))
        classes = self.cutoffs[i + 1] - self.cutoffs[i]
        return Sequential(
            Linear(self.in_features, hidden, bias=False, device=device, dtype=dtype),
            Linear(hidden, classes, bias=False, device=device, dtype=dtype),
        )

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        for layer in self.modules():
            if isinstance(layer, Linear):
                layer.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> ASMoutput:
        """The log-probabilities of the targets, and the loss.

        Args:
            input_: (N, in_features), or (in_features) for one sample.
            target_: (N) of class numbers, or one.
        """
        single = target_.ndim == 0
        input = input_.unsqueeze(0) if single else input_
        target = target_.unsqueeze(0) if single else target_
        if input.ndim != 2 or input.shape[0] != target.shape[0]:
            raise ShapeError(
                f"AdaptiveLogSoftmaxWithLoss: expected input (N, {self.in_features}) and target (N), got "
                f"{list(input_.shape)} and {list(target_.shape)}"
            )
        if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < self.n_classes:
            raise IndexError(f"target values should be in [0, {self.n_classes - 1}]")
        head = F.log_softmax(self.head(input), 1)
        result = ops.zeros(target.shape[0], dtype=head.dtype, device=head.device)
        # Which entry of the head each sample asks for: its class, or its cluster.
        asked = target.clone()
        for i, cluster in enumerate(self.tail):
            rows = ((target >= self.cutoffs[i]) & (target < self.cutoffs[i + 1])).nonzero().squeeze(1)
            if rows.numel():
                inside = ops.index_select(target, 0, rows) - self.cutoffs[i]
                local = F.log_softmax(cluster(ops.index_select(input, 0, rows)), 1)
                result = ops.index_copy(result, 0, rows, local.gather(1, inside.unsqueeze(1)).squeeze(1))
                asked[rows] = self.shortlist_size + i
        result = result + head.gather(1, asked.unsqueeze(1)).squeeze(1)
        return ASMoutput(result.squeeze(0) if single else result, (-result).mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """(N, in_features) to the log-probabilities of all classes (N, n_classes)."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            of_cluster = head[:, self.shortlist_size + i].unsqueeze(1)
            parts.append(F.log_softmax(cluster(input), 1) + of_cluster)
        return ops.cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """(N, in_features) to the most probable class of each (N)."""
        return self.log_prob(input).argmax(1)
