"""torch.nn.utils.rnn: sequences of different lengths. A page of names; nothing is defined here."""

from .._packed import PackedSequence as PackedSequence
from .._packed import pack_padded_sequence as pack_padded_sequence
from .._packed import pack_sequence as pack_sequence
from .._packed import pad_packed_sequence as pad_packed_sequence
from .._packed import pad_sequence as pad_sequence
from .._packed import unpack_sequence as unpack_sequence
from .._packed import unpad_sequence as unpad_sequence
