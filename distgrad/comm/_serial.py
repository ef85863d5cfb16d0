"""A group of one: every collective is the identity, so that a program runs the same without a launcher."""

from collections.abc import Sequence
from typing import ClassVar

from .._typing import Array
from ._collectives import Collectives
from ._communicator import Communicator
from ._statistics import Statistics
from ._tree import Tree
from ._types import Options, ReduceOp, Work


class SerialCommunicator(Communicator):
    """One rank alone. Nothing is copied except from input to output.

    Example:
        >>> import numpy as np
        >>> group = SerialCommunicator()
        >>> buffer = np.ones(3)
        >>> group.all_reduce(buffer)
        >>> buffer
        array([1., 1., 1.])
    """

    name: ClassVar[str] = "serial"

    def __init__(
        self,
        ranks: Sequence[int] | None = None,
        options: Options | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(0, 1, ranks, options, statistics)

    def _route(self, buffer: Array) -> Collectives:
        return self  # what it does is the same in any memory

    def _all_reduce(self, buffer: Array, op: ReduceOp) -> None:
        pass

    def _tree_sum(self, buffer: Array, tree: Tree) -> None:
        pass

    def _broadcast(self, buffer: Array, root: int) -> None:
        pass

    def _all_gather(self, output: Array, input: Array) -> None:
        output[...] = input

    def _all_to_all(self, output: Array, input: Array, gets: Sequence[int], puts: Sequence[int]) -> None:
        output[...] = input

    def _isend(self, buffer: Array, dest: int, tag: int) -> Work:
        raise AssertionError("a group of one has no other rank to send to")

    def _irecv(self, buffer: Array, source: int, tag: int) -> Work:
        raise AssertionError("a group of one has no other rank to receive from")

    def _split(self, color: int | None, key: int, options: Options) -> "SerialCommunicator | None":
        return None if color is None else SerialCommunicator(self.ranks, options, self.statistics)

    def _close(self) -> None:
        pass
