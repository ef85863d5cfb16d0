"""Buffers: tensors of a module that are no parameters."""

from .._tensor import Tensor


class Buffer(Tensor):
    """A tensor that `nn.Module` registers as a buffer when it is assigned as an attribute.

    Args:
        data: the tensor whose memory the buffer takes; None for an empty one.
        persistent: whether it is part of the state dict.
    """

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        super().__init__()
        if data is not None:
            self._data = data._data
        self.persistent = persistent
