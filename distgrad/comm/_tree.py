"""Which logical shards a rank owns, and the one binary tree along which they are summed on any number of ranks.

The tree over the shards 0, 1, 2, ... is fixed: neighbours are added, then neighbouring pairs, and so on. A rank owns an
aligned block whose size is a power of two, which is a subtree; so the sums inside ranks and those between ranks are
parts of the same tree, and the grouping of the additions, hence every bit, does not depend on the number of ranks.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from .._typing import Array
from ..errors import CommError
from ._reduce import CHUNK_BYTES

# A rank, or the sum of two trees.
Tree: TypeAlias = "int | tuple[Tree, Tree]"


class Block(NamedTuple):
    """Leaves whose sum one rank has or makes: an aligned block, whose size is a power of two.

    Attributes:
        leaves: their numbers.
        rank: who.
    """

    leaves: range
    rank: int


def leaves(shards: int) -> int:
    """The number of leaves of the tree over so many shards: a power of two, the last of them may be empty."""
    return 1 << (shards - 1).bit_length()


def owned(shards: int, ranks: int) -> list[range]:
    """The leaves that each rank owns: the last of the largest blocks is halved until there is one for every rank.

    Args:
        shards: the number of logical shards.
        ranks: at most as many as shards.

    Raises:
        CommError: there are more ranks than shards.

    Example:
        >>> owned(8, 3)
        [range(0, 4), range(4, 6), range(6, 8)]
    """
    if ranks > shards:
        raise CommError(
            f"expected at least as many logical shards as ranks, got {shards} shards for {ranks} ranks; use fewer "
            f"ranks, or more shards (logical_shards={leaves(ranks)}), which gives other bits"
        )
    blocks = [range(leaves(shards))]
    while len(blocks) < ranks:
        largest = max(len(block) for block in blocks)
        place = max(i for i, block in enumerate(blocks) if len(block) == largest)
        block = blocks[place]
        middle = block.start + largest // 2
        blocks[place : place + 1] = [range(block.start, middle), range(middle, block.stop)]
    return blocks


def handed_over(blocks: Sequence[Block], living: Sequence[int]) -> list[Block]:
    """The blocks when some ranks have died: the living keep theirs, and share out those of the dead.

    Args:
        blocks: they tile the leaves.
        living: at least one rank, also those that had no block.

    Returns:
        In the order of the leaves; a rank may have several.

    Example:
        >>> handed_over([Block(range(0, 2), 0), Block(range(2, 4), 1)], [1])
        [Block(leaves=range(0, 2), rank=1), Block(leaves=range(2, 4), rank=1)]
    """
    result = [block for block in blocks if block.rank in living]
    more = dict.fromkeys(living, 0)  # leaves that each has to compute
    pieces = 1 << (len(living).bit_length() - 1)
    for block in blocks:
        if block.rank not in more:
            size = max(len(block.leaves) // pieces, 1)
            for start in block.leaves[::size]:
                rank = min(more, key=more.__getitem__)
                more[rank] += size
                result.append(Block(range(start, start + size), rank))
    return sorted(result, key=lambda block: block.leaves.start)


def tree_of(blocks: list[range]) -> Tree:
    """The part of the tree that lies between ranks which own these blocks.

    Example:
        >>> tree_of([range(0, 4), range(4, 6), range(6, 8)])
        (0, (1, 2))
    """

    def below(start: int, stop: int) -> Tree:
        inside = [rank for rank, block in enumerate(blocks) if start <= block.start < stop]
        if len(inside) == 1:
            return inside[0]
        middle = (start + stop) // 2
        return below(start, middle), below(middle, stop)

    return below(0, blocks[-1].stop)


def add_along(tree: Tree, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    """Add up the inputs along a tree and write the sum into each of the outputs, one cache-sized chunk after the other.

    Args:
        tree: which to add first; its leaves are numbers of inputs.
        inputs: arrays of shape (n,); every addition rounds to their dtype.
        outputs: arrays of shape (n,), which may be inputs.
    """
    scratch: dict[tuple[int, ...], Array] = {}

    def total(node: Tree, chunks: Sequence[Array], path: tuple[int, ...]) -> Array:
        if isinstance(node, int):
            return chunks[node]
        left, right = (total(child, chunks, (*path, side)) for side, child in enumerate(node))
        if path not in scratch:
            scratch[path] = np.empty(CHUNK_BYTES // left.itemsize, left.dtype)
        result = scratch[path][: left.size]
        np.add(left, right, out=result)
        return result

    step = CHUNK_BYTES // inputs[0].itemsize
    with np.errstate(all="ignore"):
        for start in range(0, inputs[0].size, step):
            result = total(tree, [source[start : start + step] for source in inputs], ())
            for output in outputs:
                np.copyto(output[start : start + step], result)
