"""Post-local SGD: plain means first, later means over a part of the ranks, and parameters averaged now and then.

Lin, Stich, Patel and Jaggi, Don't Use Large Mini-Batches, Use Local SGD, ICLR 2020 (arXiv 1808.07217). In torch:
`torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook`.
"""

from .._tensor import Tensor
from ..comm import Communicator
from ..futures import Future
from ._bucket import GradBucket
from .default_hooks import allreduce_hook, noop_hook


class PostLocalSGDState:
    """The settings of `post_localSGD_hook`, and its count of iterations.

    Args:
        process_group: all ranks; the default group by default.
        subgroup: the ranks, such as those of one node, that keep in step; None for no rank but this one.
        start_localSGD_iter: steps with means over all ranks first.
        post_local_gradient_allreduce: whether gradients are reduced over the subgroup afterwards.

    Example:
        >>> state = PostLocalSGDState(None, subgroup=None, start_localSGD_iter=100)
        >>> model.register_comm_hook(state, post_localSGD_hook)
        >>> averager = PeriodicModelAverager(period=4, warmup_steps=100)
        >>> for x, y in batches:
        ...     loss(model(x), y).backward()
        ...     optimizer.step()
        ...     averager.average_parameters(model.parameters())
    """

    def __init__(
        self,
        process_group: Communicator | None,
        subgroup: Communicator | None,
        start_localSGD_iter: int,
        post_local_gradient_allreduce: bool = True,
    ) -> None:
        self.process_group = process_group
        self.subgroup = subgroup
        self.start_localSGD_iter = start_localSGD_iter
        self.post_local_gradient_allreduce = post_local_gradient_allreduce
        self.iter = 0

    def maybe_increase_iter(self, bucket: GradBucket) -> None:
        """Counts an iteration at its last bucket."""
        if bucket.is_last():
            self.iter += 1


def post_localSGD_hook(state: PostLocalSGDState, bucket: GradBucket) -> Future[Tensor]:
    """The mean over all ranks in the first steps, then over the subgroup or none. Wrap with ``static_graph=True``.

    Without that, ranks still tell each other in every step which parameters they used.
    """
    iteration = state.iter
    state.maybe_increase_iter(bucket)
    if iteration < state.start_localSGD_iter:
        return allreduce_hook(state.process_group, bucket)
    if state.post_local_gradient_allreduce and state.subgroup is not None and state.subgroup.size > 1:
        return allreduce_hook(state.subgroup, bucket)
    return noop_hook(None, bucket)
