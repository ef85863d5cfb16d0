"""What an optimizer remembers, between parts of parameters and whole ones."""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._tensor import Tensor
from .._typing import Array, Shape
from ..autograd._base import wrap
from ..backend import backend_of
from ..comm import Communicator
from ..ops import move
from ..optim import Optimizer
from ._shares import Part, Shares

Entry: TypeAlias = dict[str, Any]

_SHORT = 4096  # bytes; a shorter array is pickled


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
            arrays = {key: _Packed.of(value) if isinstance(value, Tensor) else value for key, value in entry.items()}
            result.setdefault(part.parameter, []).append(Piece(part.start, not part.is_slice, arrays))
    return result


class _Packed:
    """A tensor's values on the host, to be sent."""

    def __init__(self, array: Array) -> None:
        self.array = array

    @classmethod
    def of(cls, t: Tensor) -> "_Packed":
        """The values of a tensor."""
        return cls(backend_of(t._data).to_numpy(t._data))

    def outline(self) -> "_Outline | _Packed":
        """What must be known to receive it; itself, if it is short."""
        return self if self.array.nbytes < _SHORT else _Outline(self.array.shape, self.array.dtype)

    def unpack(self) -> Tensor:
        """A tensor of them."""
        return wrap(np.array(self.array))


def gathered(p: Tensor, pieces: list[Piece], group: Communicator, root: int, scalars: Sequence[str]) -> Entry | None:
    """The whole entry of one parameter, put together on one rank.

    A collective call. None where there is no state, and on the other ranks.

    Args:
        p: the parameter.
        pieces: what this rank has of it.
        group: the ranks.
        root: who receives it.
        scalars: the names under which there is one number for a parameter, not one for each element.
    """
    found: list[list[Piece]] | None = group.gather_object(pieces, root)
    return _joined(p, [piece for of_rank in found or () for piece in of_rank], scalars)


def _joined(p: Tensor, pieces: list[Piece], scalars: Sequence[str]) -> Entry | None:
    """The whole entry from the pieces of all ranks; None where there are none."""
    ordered = sorted(pieces, key=attrgetter("start"))
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


class _Outline(NamedTuple):
    """Of an array that its owner is about to send."""

    shape: Shape
    dtype: Any


def on_all_ranks(
    parameters: Sequence[Tensor], own: Mapping[Tensor, list[Piece]], group: Communicator, scalars: Sequence[str]
) -> Iterator[tuple[int, Entry]]:
    """The whole entries of all parameters that have state, on every rank, one after the other.

    A collective call. Arrays are broadcast by those who have them; only their shapes are pickled.

    Args:
        parameters: all of them.
        own: what this rank has of each.
        group: the ranks.
        scalars: the names under which there is one number for a parameter, not one for each element.

    Returns:
        numbers of parameters, and entries.
    """
    outlines = group.all_gather_object([[_outlined(piece) for piece in own.get(p, ())] for p in parameters])
    for number, p in enumerate(parameters):
        pieces = []
        for rank, of_rank in enumerate(outlines):
            mine = own.get(p, []) if rank == group.rank else of_rank[number]
            pairs = zip(of_rank[number], mine, strict=True)
            pieces += [_broadcast(there, piece, group, rank) for there, piece in pairs]
        entry = _joined(p, pieces, scalars)
        if entry:
            yield number, entry


def _outlined(piece: Piece) -> Piece:
    entry = {key: value.outline() if isinstance(value, _Packed) else value for key, value in piece.entry.items()}
    return piece._replace(entry=entry)


def _broadcast(there: Piece, piece: Piece, group: Communicator, rank: int) -> Piece:
    """A piece that a rank has, with its arrays; `piece` is the one that is here, or its outline once more."""
    entry = dict(piece.entry)
    for key, value in there.entry.items():
        if isinstance(value, _Outline):
            found = entry[key]
            array = found.array if isinstance(found, _Packed) else np.empty(value.shape, value.dtype)
            array = np.ascontiguousarray(array)
            group.broadcast(array.reshape(-1), rank)
            entry[key] = _Packed(array.reshape(value.shape))
    return piece._replace(entry=entry)


def _unpacked(value: Any, like: Tensor | None) -> Any:
    if not isinstance(value, _Packed):
        return value
    t = value.unpack()
    return t if like is None or t.ndim == 0 else move(t, like.device, None, copy=False)


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
