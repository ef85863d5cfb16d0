"""Which ranks share a node."""

from collections.abc import Iterator

import pytest

from distgrad.comm import Topology, get_default, run_threads
from distgrad.comm._topology import node_name, parse_layout, pretend
from distgrad.errors import CommError


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


@pytest.mark.parametrize(
    ("text", "nodes"), [("2x2", [0, 0, 1, 1]), ("1,3", [0, 1, 1, 1]), ("4", [0] * 4), (" 1x4 ", [0] * 4)]
)
def test_layouts(text: str, nodes: list[int]) -> None:
    assert parse_layout(text, 4) == nodes


@pytest.mark.parametrize(
    ("text", "message"),
    [("2x", "expected a topology such as"), ("two", "got 'two'"), ("2x3", "this job's 4 ranks, got 6")],
)
def test_wrong_layouts(text: str, message: str) -> None:
    with pytest.raises(CommError, match=message):
        parse_layout(text, 4)


@pytest.fixture
def two_nodes() -> Iterator[None]:
    pretend([0, 1, 1])
    yield
    pretend(())


@pytest.mark.usefixtures("two_nodes")
def test_pretended_nodes() -> None:
    def check() -> list[tuple[tuple[int, ...], ...]]:
        world = get_default()
        half = world.split(0 if world.rank else 1)
        assert half is not None
        return [Topology.discover(world).nodes, Topology.discover(half).nodes]

    found = run_threads(3, check)
    assert found == [[((0,), (1, 2)), ((0,),)], *[[((0,), (1, 2)), ((0, 1),)]] * 2]
