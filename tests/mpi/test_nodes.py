"""Training on several nodes, which are pretended: 2 and 2 of 4 ranks, 1 and 2 of 3, 1 and 1 of 2.

The scenarios know collectives alone, which run on unequal nodes in test_comm_conformance.py; here they run on 2 and 2.
"""

from collections.abc import Callable, Iterator

import pytest

from distgrad import comm
from distgrad._environment import job
from tests.mpi.groups import on_ranks
from tests.parallel import scenarios, scenarios_join, scenarios_reduction
from tests.parallel.training import train
from tests.parallel.zero_scenarios import SCENARIOS as ZERO_SCENARIOS

pytestmark = pytest.mark.mpi

SCENARIOS = scenarios.SCENARIOS
assert {s.__module__ for s in SCENARIOS} >= {scenarios_join.__name__, scenarios_reduction.__name__}
LAYOUT = f"{job.world_size // 2},{-(-job.world_size // 2)}"


@pytest.fixture(scope="module")
def nodes() -> Iterator[None]:
    """A default group that finds two nodes by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTGRAD_TOPOLOGY", LAYOUT)
        comm.init_process_group()
    yield
    comm.destroy_process_group()


EACH = [pytest.param(scenario, marks=on_ranks(4), id=scenario.__name__) for scenario in (*SCENARIOS, *ZERO_SCENARIOS)]


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("scenario", EACH)
def test_scenario(scenario: Callable[[], None]) -> None:
    scenario()
    assert comm.get_backend() == "hierarchical"
    assert comm.get_default().all_gather_object(scenario.__name__) == [scenario.__name__] * comm.get_world_size()


def test_training_ends_in_the_bits_of_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, batch statistics and losses are the same to the last bit, wherever the ranks are."""
    comm.destroy_process_group()
    comm.init_process_group("shm")
    want = train()
    comm.destroy_process_group()
    monkeypatch.setenv("DISTGRAD_TOPOLOGY", LAYOUT)
    comm.init_process_group()
    assert comm.get_backend() == "hierarchical"
    assert train() == want
    comm.destroy_process_group()
