"""What an optimizer remembers, between parts of parameters and whole ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._tensor import Tensor
from ..autograd._base import wrap
from ..backend import backend_of
from ..comm import Communicator
from ..ops import move
from ..optim import Optimizer
from ._shares import Part, Shares

Entry: TypeAlias = dict[str, Any]


class Piece(NamedTuple):
    """The state of some elements of a parameter: of those from `start` on, or of the whole as it is."""

    start: int
    whole: bool
    entry: Entry


def own_entries(shares: Shares, optimizer: Optimizer) -> dict[Tensor, list[Piece]]:
    """What this rank remembers, by parameter, and no other one tells; arrays instead of tensors."""
    result: dict[Tensor, list[Piece]] = {}
    for part in shares.said_here():
        entry = optimizer.state.get(part.tensor)
        if entry:
            arrays = {key: _Packed(value) if isinstance(value, Tensor) else value for key, value in entry.items()}
            result.setdefault(part.parameter, []).append(Piece(part.start, not part.is_slice, arrays))
    return result


class _Packed:
    """A tensor's values on the host, to be sent."""

    def __init__(self, t: Tensor) -> None:
        self.array = backend_of(t._data).to_numpy(t._data)

    def unpack(self) -> Tensor:
        return wrap(np.array(self.array))


def gathered(
    p: Tensor, pieces: list[Piece], group: Communicator, root: int | None, scalars: Sequence[str]
) -> Entry | None:
    """The whole entry of one parameter, put together on rank `root`, or on all where that is None.

    A collective call. None where there is no state, and on the other ranks.

    Args:
        p: the parameter.
        pieces: what this rank has of it.
        group: the ranks.
        root: who receives it.
        scalars: the names under which there is one number for a parameter, not one for each element.
    """
    if root is None:
        found: list[list[Piece]] | None = group.all_gather_object(pieces)
    else:
        found = group.gather_object(pieces, root)
    ordered = sorted((piece for of_rank in found or () for piece in of_rank), key=_start)
    if not ordered:
        return None
    first = ordered[0].entry
    if ordered[0].whole:
        return {key: _unpacked(value, p) for key, value in first.items()}
    whole = {}
    for key, value in first.items():
        if isinstance(value, _Packed) and key not in scalars:
            flat = np.concatenate([piece.entry[key].array for piece in ordered])
            whole[key] = move(wrap(flat.reshape(p._data.shape)), p.device, None, copy=False)
        else:
            whole[key] = _unpacked(value, None)
    return whole


def _unpacked(value: Any, like: Tensor | None) -> Any:
    if not isinstance(value, _Packed):
        return value
    t = value.unpack()
    return t if like is None or t.ndim == 0 else move(t, like.device, None, copy=False)


def _start(piece: Piece) -> int:
    return piece.start


def cut(entry: Entry, part: Part, scalars: Sequence[str]) -> Entry:
    """What of a whole entry belongs to one part."""
    if not part.is_slice:
        return entry
    result = {}
    for key, value in entry.items():
        if isinstance(value, Tensor) and key not in scalars and value.shape == part.parameter.shape:
            result[key] = wrap(value._data.reshape(-1)[part.start : part.stop])
        else:
            result[key] = value
    return result
