"""The promises of DistributedDataParallel between processes, over MPI and over shared memory."""

from collections.abc import Callable, Iterator

import pytest

from distgrad import comm
from tests.parallel import scenarios, scenarios_join, scenarios_reduction

SCENARIOS = scenarios.SCENARIOS
assert {s.__module__ for s in SCENARIOS} >= {scenarios_join.__name__, scenarios_reduction.__name__}

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module", params=["mpi", "shm"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend in turn, as the default group."""
    comm.init_process_group(request.param)
    yield request.param
    comm.destroy_process_group()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_between_processes(backend: str, scenario: Callable[[], None]) -> None:
    scenario()
    assert comm.get_backend() == backend  # and the group still works:
    assert comm.get_default().all_gather_object(scenario.__name__) == [scenario.__name__] * comm.get_world_size()
