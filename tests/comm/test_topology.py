"""Which ranks share a node."""

from distgrad.comm import Topology, get_default, run_threads
from distgrad.comm._topology import node_name


def test_ranks_of_two_nodes() -> None:
    names = ["a", "b", "a", "a", "b"]
    topologies = [Topology.of(rank, names) for rank in range(5)]
    assert topologies[0].nodes == ((0, 2, 3), (1, 4))
    assert [topology.node for topology in topologies] == [0, 1, 0, 0, 1]
    assert [topology.local_rank for topology in topologies] == [0, 0, 1, 2, 1]
    assert [topology.local_size for topology in topologies] == [3, 2, 3, 3, 2]
    assert topologies[0].spans_nodes


def test_one_node() -> None:
    topology = Topology.of(1, ["a", "a"])
    assert not topology.spans_nodes and topology.local_rank == 1


def test_discover_asks_everybody() -> None:
    found = run_threads(3, lambda: Topology.discover(get_default()))
    assert [topology.nodes for topology in found] == [((0, 1, 2),)] * 3
    assert [topology.rank for topology in found] == [0, 1, 2]


def test_node_name_is_stable() -> None:
    assert node_name() == node_name() != ""
