"""torch.nn.parameter: parameters and buffers. A page of names; nothing is defined here."""

from .._parameter import Parameter as Parameter
from ._buffer import Buffer as Buffer
from ._lazy import UninitializedBuffer as UninitializedBuffer
from ._lazy import UninitializedParameter as UninitializedParameter
