"""Checks of arguments, written once for all backends; every message says expected, got, and the fix."""

import itertools
from collections.abc import Sequence

import numpy as np

from .._typing import Array
from ..errors import CommError
from ._collectives import HostCollectives
from ._dtypes import lookup
from .device._buffers import DeviceArray


def check_flat(buffer: Array, name: str = "buffer") -> None:
    """Raise CommError unless `buffer` is a contiguous 1-D array."""
    if not isinstance(buffer, np.ndarray) and not isinstance(buffer, DeviceArray):
        raise CommError(f"expected `{name}` to be a 1-D array, got {type(buffer).__name__}")
    if buffer.ndim != 1 or not buffer.flags.c_contiguous:
        layout = "contiguous" if buffer.flags.c_contiguous else "non-contiguous"
        raise CommError(
            f"expected `{name}` to be a contiguous 1-D array, got a {layout} one of shape {buffer.shape}; a "
            "communicator works on flat memory: use the functions of distgrad.comm, which take any shape, or pass "
            "array.reshape(-1)"
        )


def check_rank(rank: int, size: int, name: str) -> None:
    """Raise CommError unless `rank` is a rank of a group of `size`."""
    if not 0 <= rank < size:
        raise CommError(f"expected {name} to be a rank of this group, 0 to {size - 1}, got {rank}")


def check_peer(buffer: Array, peer: int, rank: int, size: int, name: str) -> None:
    """Raise CommError unless `buffer` can go to, or come from, rank `peer`."""
    check_flat(buffer)
    lookup(buffer.dtype)
    check_rank(peer, size, name)
    if peer == rank:
        raise CommError(f"expected {name} to be another rank, got {peer}, which is this rank itself")


def check_pair(output: Array, input: Array, gets: int, puts: int) -> None:
    """Raise CommError unless output and input have one dtype and sizes in the ratio gets : puts."""
    check_flat(output, "output")
    check_flat(input, "input")
    if isinstance(output, np.ndarray) is not isinstance(input, np.ndarray):
        raise CommError(
            "expected output and input both in host memory or both on a GPU, got "
            f"{type(output).__module__}.{type(output).__name__} and {type(input).__module__}.{type(input).__name__}"
        )
    if output.dtype != input.dtype:
        raise CommError(f"expected output and input of one dtype, got {output.dtype} and {input.dtype}")
    if output.size * puts != input.size * gets:
        raise CommError(
            f"expected output and input sizes in the ratio {gets} : {puts} (the group has {max(gets, puts)} ranks), "
            f"got {output.size} and {input.size} elements"
        )


def is_own_part(output: Array, input: Array, rank: int) -> bool:
    """Whether the input of an all-gather is this rank's part of its output: then it works in place."""
    start: int = output.__array_interface__["data"][0]
    return bool(input.__array_interface__["data"][0] == start + rank * input.nbytes)


def check_root_buffer(whole: Array | None, part: Array, root: int, rank: int, size: int, name: str) -> None:
    """Raise CommError unless `whole` is there on the root alone and holds one part for each rank."""
    check_rank(root, size, "root")
    check_flat(part, "input" if name == "output" else "output")
    if (whole is not None) != (rank == root):
        want, got = ("an array", "None") if whole is None else ("None", "an array")
        raise CommError(f"expected `{name}` to be {want} on rank {rank} (root is {root}), got {got}")
    if whole is not None:
        check_pair(whole, part, size, 1)


def check_counts(buffer: Array, counts: Sequence[int] | None, size: int, name: str) -> list[int]:
    """The number of elements for each rank; raises CommError where they do not fit the buffer."""
    check_flat(buffer, name)
    if counts is None:
        if buffer.size % size:
            raise CommError(
                f"expected `{name}` to divide into {size} equal parts, got {buffer.size} elements; "
                f"pass {name}_counts for unequal parts"
            )
        return [buffer.size // size] * size
    if len(counts) != size or sum(counts) != buffer.size:
        raise CommError(f"expected {name}_counts of {size} numbers that add up to {buffer.size}, got {list(counts)}")
    return list(counts)


def check_counts_agree(group: HostCollectives, gets: list[int], puts: list[int]) -> None:
    """Raise CommError, on every rank, unless each rank gets as much from each other as that one sends. Collective."""
    sent, ones = np.empty(group.size, np.int64), [1] * group.size
    group._all_to_all(sent, np.array(puts, np.int64), ones, ones)
    differs = np.empty(group.size, np.uint8)  # gathered, for a reduction has to be the first step of a call
    group._all_gather(differs, np.array([sent.tolist() != gets], np.uint8))
    if not differs.any():
        return
    table = np.empty((group.size, 2, group.size), np.int64)
    group._all_gather(table.reshape(-1), np.array([gets, puts], np.int64).reshape(-1))
    wrong = "".join(
        f"\n  rank {source} sends {table[source, 1, dest]} to rank {dest}, which takes {table[dest, 0, source]}"
        for source, dest in itertools.product(range(group.size), repeat=2)
        if table[source, 1, dest] != table[dest, 0, source]
    )
    raise CommError(
        f"expected each rank to take as many elements from each other rank as that one sends, got:{wrong}\nmake the "
        "output counts of each rank those that the others send to it, for instance by all_to_all of the counts"
    )
