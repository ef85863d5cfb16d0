"""Each rank's share of a data set."""

from typing import Any

import numpy as np

from ..comm import Communicator, get_rank, get_world_size
from ._dataset import Indices
from ._sampler import OrderedSampler


class DistributedSampler(OrderedSampler):
    """The samples of one rank: every `num_replicas`-th of an order that all ranks agree on.

    The order follows from `seed` and the epoch alone. So that all ranks take the same number of steps, some samples
    are seen twice where the ranks do not divide the data set, or with `drop_last` are left out. For an evaluation that
    counts each sample once there is `exact`.

    Args:
        dataset: a data set with a length.
        num_replicas: how many ranks share it; default all of the process group.
        rank: which of them this is; default the own.
        shuffle: another order each epoch; `set_epoch` says which epoch it is.
        seed: the same on every rank.
        drop_last: leave out the last samples instead of repeating the first.
        exact: neither repeat nor leave out; some ranks then get one sample more than others.
        group: the process group that `num_replicas` and `rank` are taken from.

    Attributes:
        epoch: which epoch it is.
        start: how many samples of the epoch, of all ranks together, are left out because they were seen before.

    Raises:
        ValueError: there is no such rank.

    Example:
        >>> list(DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False))
        [1, 3, 0]
        >>> list(DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False, exact=True))
        [1, 3]
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        *,
        exact: bool = False,
        group: Communicator | None = None,
    ) -> None:
        self.num_replicas = get_world_size(group) if num_replicas is None else num_replicas
        self.rank = get_rank(group) if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(
                f"Invalid rank {self.rank}, rank should be in the interval [0, {self.num_replicas - 1}] for "
                f"{self.num_replicas} replicas"
            )
        if exact and drop_last:
            raise ValueError("exact=True leaves no sample out, so drop_last=True contradicts it; give one of them")
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.exact = exact
        self.epoch = 0
        self.start = 0

    def order(self) -> Indices:
        """The sample numbers of this rank in this epoch."""
        n, ranks = len(self.dataset), self.num_replicas
        everyone = permutation(n, self.seed, self.epoch) if self.shuffle else np.arange(n, dtype=np.int64)
        everyone = everyone[self.start :]
        if not self.exact and everyone.size:
            everyone = np.resize(everyone, self.total_size)  # repeats from the start
        return everyone[self.rank :: ranks]

    @property
    def _left(self) -> int:
        return max(len(self.dataset) - self.start, 0)

    @property
    def num_samples(self) -> int:
        """How many samples this rank sees in an epoch."""
        n, ranks = self._left, self.num_replicas
        if self.exact:
            return (n - self.rank + ranks - 1) // ranks
        return n // ranks if self.drop_last else -(-n // ranks)

    @property
    def total_size(self) -> int:
        """How many samples all ranks see in an epoch."""
        return self._left if self.exact else self.num_samples * self.num_replicas

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch comes next; without it every epoch has the order of the first."""
        self.epoch = epoch


def permutation(n: int, seed: int, epoch: int) -> Indices:
    """The order of `n` samples that follows from a seed and an epoch."""
    word = (1 << 64) - 1
    key = np.array([seed & word, epoch & word], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(n)
