"""Activation checkpoints and sparse gradients between processes, over MPI and over shared memory."""

from collections.abc import Callable, Iterator

import pytest

from distgrad import comm
from tests.parallel.memory_scenarios import SCENARIOS

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
    assert comm.get_backend() == backend
