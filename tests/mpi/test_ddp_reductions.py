"""Joins, weights, overlap, hooks and tuning between processes, over MPI and over shared memory."""

from collections.abc import Callable, Iterator

import pytest

from distgrad import comm
from tests.parallel import scenarios_join, scenarios_reduction
from tests.parallel.scenarios import SCENARIOS

MODULES = (scenarios_join.__name__, scenarios_reduction.__name__)
REDUCTIONS = [s for s in SCENARIOS if s.__module__ in MODULES]
pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module", params=["mpi", "shm"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend in turn, as the default group."""
    comm.init_process_group(request.param)
    yield request.param
    comm.destroy_process_group()


@pytest.mark.parametrize("scenario", REDUCTIONS, ids=lambda f: f.__name__)
def test_between_processes(backend: str, scenario: Callable[[], None]) -> None:
    scenario()
    assert comm.get_backend() == backend  # and the group still works:
    assert comm.get_default().all_gather_object(scenario.__name__) == [scenario.__name__] * comm.get_world_size()
