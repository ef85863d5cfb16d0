"""Sequences of different lengths in one tensor: padded to the longest, or packed without padding.

A packed sequence holds the rows of step 0 of all sequences, then those of step 1 of all that have one, and so on, with
the longest sequence first.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from .._tensor import Tensor
from ..errors import ShapeError


class PackedSequence(NamedTuple):
    """What `pack_padded_sequence` makes and the recurrent layers take.

    Attributes:
        data: (rows, *), all steps of all sequences.
        batch_sizes: (T) int64, how many sequences have each step.
        sorted_indices: which sequence of the user's each one is; None where they came sorted.
        unsorted_indices: the inverse of that.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, device: Any = None, dtype: Any = None) -> "PackedSequence":
        """With its data on a device and in a dtype."""
        return self._replace(data=self.data.to(*args, device=device, dtype=dtype))

    def cpu(self) -> "PackedSequence":
        """With its data in host memory."""
        return self.to("cpu")

    def cuda(self) -> "PackedSequence":
        """With its data on this rank's GPU."""
        return self.to("cuda")

    def double(self) -> "PackedSequence":
        """With its data in float64."""
        return self.to(dtype="float64")

    def float(self) -> "PackedSequence":
        """With its data in float32."""
        return self.to(dtype="float32")

    @property
    def is_cuda(self) -> bool:
        """Whether the data are on a GPU."""
        return self.data.is_cuda


def _lengths_of(lengths: Any) -> "np.ndarray[Any, np.dtype[np.int64]]":
    return np.asarray(lengths.numpy(force=True) if isinstance(lengths, Tensor) else lengths, dtype=np.int64)


def _present(lengths: "np.ndarray[Any, Any]", steps: int) -> "np.ndarray[Any, Any]":
    """(T, B): whether a sequence has a step."""
    return np.arange(steps)[:, None] < lengths[None, :]


def _rows(present: "np.ndarray[Any, Any]", like: Tensor) -> Tensor:
    return ops.from_numpy(np.flatnonzero(present)).to(like.device)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Packs sequences that are padded to one length.

    Args:
        input: (T, B, *), or (B, T, *) with `batch_first`.
        lengths: the length of each sequence, at least 1.
        enforce_sorted: expect the longest first; False sorts them.

    Raises:
        ValueError: a length is less than 1 or more than T, or they are not sorted.
    """
    padded = input.transpose(0, 1) if batch_first else input
    counts = _lengths_of(lengths)
    if counts.shape != (padded.shape[1],):
        raise ValueError(f"expected a length for each of {padded.shape[1]} sequences, got {counts.shape[0]}")
    if (counts <= 0).any():
        raise ValueError(f"Length of all samples has to be greater than 0, but got {counts.min()} among the lengths")
    if counts.max() > padded.shape[0]:
        raise ValueError(f"expected lengths of at most {padded.shape[0]}, got {counts.max()}")
    order = unsorted = None
    if not enforce_sorted:
        by_length = np.argsort(-counts, kind="stable")
        order, unsorted = (ops.from_numpy(i).to(input.device) for i in (by_length, np.argsort(by_length)))
        counts, padded = counts[by_length], ops.index_select(padded, 1, order)
    elif (np.diff(counts) > 0).any():
        raise ValueError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement"
        )
    present = _present(counts, int(counts.max()))
    rows = padded[: len(present)].reshape(present.size, *padded.shape[2:])
    data = ops.index_select(rows, 0, _rows(present, rows))
    return PackedSequence(data, ops.from_numpy(present.sum(1)), order, unsorted)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The inverse of `pack_padded_sequence`: the padded sequences (T, B, *) and their lengths (B).

    Args:
        total_length: pad to this length instead of the longest.

    Raises:
        ValueError: `total_length` is less than the longest.
    """
    sizes = sequence.batch_sizes.numpy(force=True)
    steps = len(sizes) if total_length is None else total_length
    if steps < len(sizes):
        raise ValueError(
            f"Expected total_length to be at least the length of the longest sequence in input, {len(sizes)}, but got "
            f"total_length={steps}"
        )
    present = np.zeros((steps, sizes[0]), dtype=bool)
    present[: len(sizes)] = np.arange(sizes[0])[None, :] < sizes[:, None]
    padded = _spread(sequence.data, present, padding_value)
    lengths = ops.from_numpy(present.sum(0))
    if sequence.unsorted_indices is not None:
        padded = ops.index_select(padded, 1, sequence.unsorted_indices)
        lengths = ops.index_select(lengths, 0, sequence.unsorted_indices.cpu())
    return padded.transpose(0, 1) if batch_first else padded, lengths


def _spread(rows: Tensor, present: "np.ndarray[Any, Any]", value: float) -> Tensor:
    """Rows at the places where `present` (T, B) is true, as (T, B, *); the value elsewhere."""
    rest = tuple(rows.shape[1:])
    full = ops.full((present.size, *rest), value, dtype=rows.dtype, device=rows.device)
    return ops.index_copy(full, 0, _rows(present, rows), rows).reshape(*present.shape, *rest)


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences (L_i, *) as one tensor (T, B, *), or (B, T, *) with `batch_first`, padded to the longest.

    Args:
        padding_side: ``"right"`` pads at the end, ``"left"`` at the beginning.

    Raises:
        ShapeError: sequences differ in more than their lengths.
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side should be 'right' or 'left', got {padding_side!r}")
    listed = list(sequences)
    if len({tuple(s.shape[1:]) for s in listed}) != 1:
        shapes = [list(s.shape) for s in listed]
        raise ShapeError(f"pad_sequence: expected sequences (L, *) of one shape *, got {shapes}")
    lengths = np.array([s.shape[0] for s in listed])
    present = np.arange(lengths.max())[None, :] < lengths[:, None]  # (B, T)
    padded = _spread(ops.cat(listed, 0), present if padding_side == "right" else present[:, ::-1], padding_value)
    return padded if batch_first else padded.transpose(0, 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The inverse of `pad_sequence`: a list of sequences of these lengths."""
    by_batch = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [by_batch[i, :n] for i, n in enumerate(_lengths_of(lengths).tolist())]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packs a list of sequences (L_i, *)."""
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The inverse of `pack_sequence`."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
