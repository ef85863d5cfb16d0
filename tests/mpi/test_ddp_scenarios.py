"""The promises of DistributedDataParallel between processes, over MPI and over shared memory."""

from collections.abc import Callable, Iterator

import pytest

from distgrad import comm
from tests.parallel.scenarios import SCENARIOS

PLAIN = [s for s in SCENARIOS if s.__module__ == "tests.parallel.scenarios"]
pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module", params=["mpi", "shm"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend in turn, as the default group."""
    comm.init_process_group(request.param)
    yield request.param
    comm.destroy_process_group()


@pytest.mark.parametrize("scenario", PLAIN, ids=lambda f: f.__name__)
def test_between_processes(backend: str, scenario: Callable[[], None]) -> None:
    scenario()
    assert comm.get_backend() == backend  # and the group still works:
    assert comm.get_default().all_gather_object(scenario.__name__) == [scenario.__name__] * comm.get_world_size()
