"""Errors between processes: every rank learns what went wrong, and none waits for ever.

Each test works on a group of its own, because a group in which a collective failed cannot be used any more.
"""

import time
from collections.abc import Iterator

import numpy as np
import pytest
from mpi4py import MPI

import distgrad.comm as dist
from distgrad.comm import Communicator, _segment, _topology
from distgrad.comm._communicator import Options
from distgrad.comm._dtypes import ROWS
from distgrad.comm._hierarchical import HierarchicalCommunicator
from distgrad.comm._mpi import MpiCommunicator
from distgrad.comm.diagnosis._board import Board
from distgrad.comm.diagnosis._spanning import SpanningMeeting
from distgrad.errors import BackendUnavailableError, CommError
from tests.mpi.groups import LAST, RANK, SIZE, make, meet


@pytest.fixture(params=["mpi", "shm", "wire"])
def group(request: pytest.FixtureRequest) -> Iterator[Communicator]:
    yield make(request.param, Options(timeout=20))
    meet()


@pytest.mark.parametrize("root", [SIZE, -1, 7])
def test_a_wrong_root_is_refused_on_every_rank(group: Communicator, root: int) -> None:
    with pytest.raises(CommError, match=f"expected root to be a rank of this group, 0 to {LAST}, got {root}"):
        group.broadcast(np.zeros(3), root)
    group.barrier()  # nobody had entered a collective


def test_messages_of_different_size(group: Communicator) -> None:
    if group.rank == 0:
        group.send(np.zeros(3), 1)
        group.send(np.zeros(5), 1)
    elif group.rank == 1:
        with pytest.raises(CommError, match="expected 32 bytes, got 24"):
            group.recv(np.zeros(4), 0)
        with pytest.raises(CommError, match="expected both ranks to pass buffers of one size"):
            group.recv(np.zeros(4), 0)


# ---- init ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_group() -> Iterator[None]:
    dist.destroy_process_group()
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("no_group")
class TestInit:
    def test_the_default_is_shared_memory(self) -> None:
        assert (dist.get_rank(), dist.get_world_size()) == (RANK, SIZE)
        dist.init_process_group("gloo", world_size=SIZE, rank=RANK, timeout=30)
        assert dist.get_backend() == "shm" and dist.is_initialized()

    def test_the_first_collective_joins(self) -> None:
        assert not dist.is_initialized()
        buffer = np.ones(2)
        dist.all_reduce(buffer)
        assert buffer[0] == SIZE and dist.is_initialized()
        dist.init_process_group("mpi")  # may still follow
        assert dist.get_backend() == "mpi"

    def test_a_world_size_of_one_rank_alone_fails_everywhere(self) -> None:
        with pytest.raises(CommError, match=f"expected world_size=99 .from the call on rank 1., got a job of {SIZE}"):
            dist.init_process_group(world_size=99 if RANK == 1 else -1)

    def test_a_wrong_rank_of_one_rank_fails_everywhere(self) -> None:
        with pytest.raises(CommError, match=r"expected rank=77 .* got rank 0"):
            dist.init_process_group(rank=77 if RANK == 0 else RANK)

    def test_different_backends_fail_everywhere(self) -> None:
        with pytest.raises(
            BackendUnavailableError, match=r"(?s)same backend on every rank.*rank 0: mpi\n.*rank 1: shm"
        ):
            dist.init_process_group("mpi" if RANK == 0 else "shm")

    @pytest.mark.parametrize("backend", ["serial", "nccl", "smoke"])
    def test_backends_that_cannot_run(self, backend: str) -> None:
        with pytest.raises(BackendUnavailableError):
            dist.init_process_group(backend)

    def test_between_nodes_the_default_is_hierarchical(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_topology, "node_name", lambda: f"node {RANK % 2}")
        dist.init_process_group()
        assert isinstance(dist.get_default(), HierarchicalCommunicator)
        dist.destroy_process_group()
        dist.init_process_group("mpi")
        group = dist.get_default()
        assert isinstance(group, MpiCommunicator) and isinstance(group._meeting, SpanningMeeting)
        assert dist.Topology.discover(group).nodes[0] == tuple(range(0, SIZE, 2))
        node = group.split(RANK % 2)
        assert isinstance(node, MpiCommunicator) and isinstance(node._meeting, Board) == (node.size > 1)
        dist.destroy_process_group()
        with pytest.raises(BackendUnavailableError, match="shm needs all ranks on one node, and they are on 2"):
            dist.init_process_group("shm")

    def test_without_shared_memory_the_default_is_mpi(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_segment, "default_stores", list)
        dist.init_process_group()
        assert dist.get_backend() == "mpi"
        dist.barrier()
        dist.destroy_process_group()
        with pytest.raises(BackendUnavailableError, match="backend shm: no shared memory of"):
            dist.init_process_group("shm")

    def test_groups_close_with_the_default_group(self) -> None:
        dist.init_process_group()
        pair = dist.new_group([0, 1])
        dist.destroy_process_group()
        if RANK < 2:
            with pytest.raises(CommError, match="it was closed"):
                dist.barrier(pair)


# ---- private results, datatypes --------------------------------------------------------------------------------------


def test_results_are_private_under_random_delays() -> None:
    """What a fast rank writes after an all-reduce never reaches a slow one; both backends agree bit for bit."""
    shm, mpi = make("shm", Options(timeout=30)), make("mpi", Options(timeout=30))
    delays = np.random.default_rng(RANK)
    values = np.random.default_rng(99 + RANK)
    gradients = shm.empty(20_011, np.float32)
    for step in range(150):
        n = int(np.random.default_rng(step).choice([3, 1000, 20_011]))
        gradients[:n] = values.integers(-1000, 1000, n)  # whole numbers: no order of addition rounds
        wanted = gradients[:n].copy()
        if delays.random() < 0.2:
            time.sleep(delays.random() * 2e-3)
        shm.all_reduce(gradients[:n])
        got = gradients[:n].copy()
        gradients[:n] = -1e9
        mpi.all_reduce(wanted)
        assert np.array_equal(got, wanted), step
    shm.close()
    mpi.close()


def test_every_datatype_of_the_table_has_its_size() -> None:
    for row in ROWS:
        if row.mpi:
            datatype = getattr(MPI, row.mpi)
            assert datatype != MPI.DATATYPE_NULL and datatype.Get_size() == row.dtype.itemsize, row


def test_nothing_of_ours_or_of_mpi_has_a_name_in_shared_memory() -> None:
    group = make("shm", Options())
    group.all_reduce(group.empty(100_000, np.float32))
    with open("/proc/self/maps") as maps:
        named = [line.split(maxsplit=5)[5].strip() for line in maps if "/dev/shm/" in line or "distgrad" in line]
    assert all(path.endswith("(deleted)") for path in named), named
    assert any("memfd:distgrad" in path for path in named)
    group.close()
