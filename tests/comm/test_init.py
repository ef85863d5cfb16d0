"""How the default group begins and ends, without a launcher and with an imagined one."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

import distgrad.comm as dist
from distgrad._environment import Job
from distgrad.comm import Topology, _init
from distgrad.errors import BackendUnavailableError, CommError


@pytest.fixture(autouse=True)
def no_group() -> Iterator[None]:
    dist.destroy_process_group()
    yield
    dist.destroy_process_group()


def test_everything_works_without_init() -> None:
    buffer = np.arange(3.0)
    dist.all_reduce(buffer)
    assert buffer.tolist() == [0, 1, 2]
    assert (dist.get_rank(), dist.get_world_size(), dist.get_backend()) == (0, 1, "serial")
    assert dist.is_available() and not dist.is_initialized()


@pytest.mark.parametrize("backend", [None, "gloo", "mpi", "shm", "serial", "MPI"], ids="backend={}".format)
def test_a_program_alone_is_a_group_of_one(backend: str | None) -> None:
    dist.init_process_group(backend, init_method="env://", timeout=timedelta(seconds=5), world_size=1, rank=0)
    assert dist.is_initialized() and dist.get_backend() == "serial"
    assert dist.get_default().options.timeout == 5
    dist.destroy_process_group()
    assert not dist.is_initialized()


def test_init_after_a_first_collective_is_fine_and_twice_is_not() -> None:
    dist.barrier()
    dist.init_process_group()
    with pytest.raises(CommError, match="called twice"):
        dist.init_process_group()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backend": "nccl"}, BackendUnavailableError, "nccl.*leave the backend out"),
        ({"backend": "smoke"}, BackendUnavailableError, "serial, shm, hierarchical, mpi, got 'smoke'"),
        ({"world_size": 4}, CommError, "expected world_size=4 .* got a job of 1.*mpirun -n 4"),
        ({"rank": 3}, CommError, "expected rank=3 .* got rank 0"),
        ({"timeout": 0}, CommError, "expected a timeout of more than 0 seconds"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dist.init_process_group(**arguments)  # type: ignore[arg-type]
    assert not dist.is_initialized()


def test_seconds_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTGRAD_TIMEOUT", "12")
    monkeypatch.setenv("DISTGRAD_STALL_WARN", "0.5")
    dist.init_process_group()
    assert (dist.get_default().options.timeout, dist.get_default().options.stall_warn) == (12, 0.5)
    dist.destroy_process_group()
    monkeypatch.setenv("DISTGRAD_TIMEOUT", "soon")
    with pytest.raises(CommError, match="expected DISTGRAD_TIMEOUT in the environment to be a number of seconds"):
        dist.init_process_group()


def test_a_job_without_mpi_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("No module named 'mpi4py'")

    monkeypatch.setattr(_init, "job", Job("hydra", 0, 4, 0, 4))
    monkeypatch.setattr(_init, "load", missing)
    with pytest.raises(BackendUnavailableError, match=r"4 ranks.*No module named 'mpi4py'; install mpi4py"):
        dist.init_process_group()
    with pytest.raises(BackendUnavailableError, match='backend "serial" is for a single process, and this job has 4'):
        dist.init_process_group("serial")


def test_an_mpirun_of_another_mpi_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class World:
        @staticmethod
        def Get_size() -> int:
            return 1

    class Mpi:
        COMM_WORLD = World

        @staticmethod
        def Get_library_version() -> str:
            return "Some MPI 1.0\nmore"

    monkeypatch.setattr(_init, "job", Job("openmpi", 0, 4, 0, 4))
    monkeypatch.setattr(_init, "load", lambda: Mpi)
    with pytest.raises(BackendUnavailableError, match=r"started 4 ranks, but .*\(Some MPI 1.0\) sees 1"):
        dist.init_process_group()


ONE_NODE = Topology.of(0, ["a", "a"])
TWO_NODES = Topology.of(0, ["a", "b"])


class Base:
    """Stands for a group over MPI."""


def start(wanted: list[str | None], topology: Topology) -> str:
    """The class of the group that ranks with these wishes start."""
    return type(_init._start(wanted, Base(), topology)).__name__  # type: ignore[arg-type]


def test_choice_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shm:
        def __init__(self, base: Base) -> None:
            self.base = base

    class Both(Shm):
        pass

    shm, hierarchical, mpi = _init.BACKENDS
    backends = (shm._replace(create=Shm), hierarchical._replace(create=Both), mpi)
    monkeypatch.setattr(_init, "BACKENDS", backends)
    assert start([None, None], ONE_NODE) == "Shm"
    assert start([None, None], TWO_NODES) == "Both"
    with pytest.raises(BackendUnavailableError, match="hierarchical is for ranks on several nodes, and all are on one"):
        start(["hierarchical", "hierarchical"], ONE_NODE)
    assert start(["mpi", "mpi"], ONE_NODE) == "Base"
    with pytest.raises(
        BackendUnavailableError, match="backend shm: shm needs all ranks on one node, and they are on 2"
    ):
        start(["shm", "shm"], TWO_NODES)
    with pytest.raises(BackendUnavailableError, match=r"(?s)same backend on every rank.*rank 0: shm.*rank 1: mpi"):
        start(["shm", "mpi"], ONE_NODE)


def test_a_backend_that_fails_to_start_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(base: Base) -> None:
        raise CommError("no shared memory")

    shm, hierarchical, mpi = _init.BACKENDS
    backends = (shm._replace(create=fail), hierarchical._replace(create=fail), mpi)
    monkeypatch.setattr(_init, "BACKENDS", backends)
    assert start([None, None], ONE_NODE) == "Base"
    assert start([None, None], TWO_NODES) == "Base"
    with pytest.raises(BackendUnavailableError, match="backend shm: no shared memory"):
        start(["shm", "shm"], ONE_NODE)


def test_measure() -> None:
    with dist.measure() as measured:
        dist.all_reduce(np.zeros(1000))
        dist.barrier()
    assert measured.calls == 2 and measured.nbytes == 8000
    assert 0 < measured.seconds < measured.elapsed and 0 < measured.share < 1
    kept = measured.seconds
    dist.barrier()
    assert measured.seconds == kept
    assert dist.statistics().calls >= 3
