"""What a rank that has run out of inputs does for a `DistributedDataParallel` model."""

from typing import TYPE_CHECKING

import numpy as np

from ._agreement import broadcast_arrays
from ._join import JoinHook, Message, Step

if TYPE_CHECKING:
    from ._ddp import DistributedDataParallel


class ModelJoinHook(JoinHook):
    """Takes part in the reductions of a model without gradients, and in the end gets the model of those who trained.

    Args:
        model: the model.
    """

    def __init__(self, model: "DistributedDataParallel") -> None:
        self._model = model

    def main_hook(self) -> None:
        """One iteration: everything up to the reduction of this model, if it comes to one."""
        join = self._model._join
        assert join is not None
        join.follow_until_reduced(self._model._join_index)

    def shadow(self, message: Message) -> None:
        """Buffers from the first rank that still trains, or a reduction."""
        reducer = self._model._reducer
        assert reducer is not None
        if message.step is Step.BUFFERS:
            reducer.send_buffers(message.active[0])
        else:
            reducer.take_part()

    def post_hook(self, is_last_joiner: bool) -> None:
        """Parameters and buffers of a rank that trained to the end."""
        group, module = self._model.process_group, self._model.module
        joined = np.empty(group.size, np.int64)
        group.all_gather(joined, np.array([is_last_joiner], np.int64))
        tensors = [*module.parameters(), *module.buffers()]
        broadcast_arrays(group, [t._data for t in tensors], int(joined.argmax()))
