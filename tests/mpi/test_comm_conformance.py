"""The conformance suite between processes: every backend of a job, on as many ranks as the job has.

All backends run on three ranks, where nothing divides evenly. MPI also runs on two, where the tree of a sum is whole,
and the hierarchical one on four, as two nodes of two. Shared memory on two ranks runs between threads
(tests/comm/test_conformance.py); the other cells are slow tests.
"""

from collections.abc import Callable, Iterator

import pytest

import distgrad.comm as dist
from distgrad._environment import job
from distgrad.comm import Communicator, _shm
from distgrad.comm._communicator import Options
from distgrad.comm._mpi import MpiCommunicator, load
from tests.comm.conformance import CASES, STAGE
from tests.mpi.groups import on_ranks

BACKENDS = [
    pytest.param("mpi", marks=on_ranks(2, 3)),
    pytest.param("shm", marks=on_ranks(3)),
    pytest.param("hierarchical", marks=on_ranks(3, 4)),
]


@pytest.fixture(scope="module", params=BACKENDS)
def group(request: pytest.FixtureRequest) -> Iterator[Communicator]:
    """The backend called hierarchical works on two nodes, which are pretended: 2 and 2 of 4 ranks, 1 and 2 of 3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_shm, "STAGE_BYTES", STAGE)
        if request.param == "hierarchical":
            patch.setenv("DISTGRAD_TOPOLOGY", f"{job.world_size // 2},{-(-job.world_size // 2)}")
        dist.init_process_group(request.param)
        assert dist.get_backend() == request.param
        yield dist.get_default()
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def group_without_board() -> Iterator[Communicator]:
    """As between nodes, where ranks cannot see each other's memory and meet over MPI."""
    found = MpiCommunicator(load().COMM_WORLD.Dup(), options=Options())
    yield found
    found.close()


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES])
def test_backend(group: Communicator, case: Callable[[Communicator], None]) -> None:
    case(group)


CHECKED = [(name, case) for name, case in CASES if "-4099-" in name or name.count("-") == 0]


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CHECKED])
def test_meetings_over_mpi(group_without_board: Communicator, case: Callable[[Communicator], None]) -> None:
    case(group_without_board)
