"""The conformance suite on the backends that need no launcher: one rank, and ranks as threads."""

from collections.abc import Callable

import numpy as np
import pytest

from distgrad.comm import Communicator, ReduceOp, _shm, get_default, run_threads
from distgrad.comm._serial import SerialCommunicator
from distgrad.comm._shm import ShmCommunicator
from tests.comm.conformance import CASES, STAGE, check_all_reduce, check_many_small
from tests.comm.nodes import run_nodes


@pytest.fixture(autouse=True)
def short_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the largest buffers pass through shared memory in several stages."""
    monkeypatch.setattr(_shm, "STAGE_BYTES", STAGE)


each_case = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES])


@each_case
def test_serial(case: Callable[[Communicator], None]) -> None:
    case(SerialCommunicator())


@pytest.mark.parametrize("size", [3])
@each_case
def test_threads(case: Callable[[Communicator], None], size: int) -> None:
    run_threads(size, lambda: case(get_default()))


def on_shared_memory(case: Callable[[Communicator], None]) -> None:
    """Run a check on shared memory between the threads of a group."""
    group = ShmCommunicator(get_default())
    try:
        case(group)
    except AssertionError as error:
        group._fail(str(error))  # as the exit of a process would tell its peers
        raise
    group.close()


@pytest.mark.parametrize("size", [2, 3])
@each_case
def test_shared_memory_between_threads(case: Callable[[Communicator], None], size: int) -> None:
    run_threads(size, lambda: on_shared_memory(case))


@each_case
def test_nodes_of_threads(case: Callable[[Communicator], None]) -> None:
    run_nodes((0, 1, 1), case)


# All cases run on two nodes of two processes: tests/mpi/test_comm_conformance.py.
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES if "-300001" in name])
def test_two_nodes_of_two_threads(case: Callable[[Communicator], None]) -> None:
    run_nodes((0, 0, 1, 1), case)


# ---- the suite against planted bugs ----------------------------------------------------------------------------------


def test_suite_finds_a_wrong_sum() -> None:
    class Forgetful(SerialCommunicator):
        def _all_reduce(self, buffer: np.ndarray, op: ReduceOp) -> None:
            buffer[-1:] = 9

    with pytest.raises(AssertionError):
        check_all_reduce(Forgetful(), 7, "float32", ReduceOp.SUM, False)


def test_suite_finds_a_missing_exit_meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its last meeting an all-reduce returns while a peer still writes to, or reads, the buffer."""
    original = ShmCommunicator._find_places

    def without_exit(self: ShmCommunicator, buffer: np.ndarray) -> list[np.ndarray] | None:
        places = original(self, buffer)
        meet = self._board.meet
        self._board.meet = lambda: setattr(self._board, "meet", meet)  # type: ignore[method-assign]
        return places

    monkeypatch.setattr(ShmCommunicator, "_find_places", without_exit)
    with pytest.raises(AssertionError):
        for _ in range(20):
            run_threads(
                3,
                lambda: on_shared_memory(lambda group: check_all_reduce(group, 300_001, "float32", ReduceOp.SUM, True)),
            )


def test_suite_finds_a_lane_of_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that does not alternate lets a fast rank overwrite what a slow one still reads."""
    from distgrad.comm._shm import Lane

    original = Lane.advance

    def stuck(self: Lane, n: int, dtype: "np.dtype[np.generic]") -> list[np.ndarray]:
        self._turn = 0
        return original(self, n, dtype)

    monkeypatch.setattr(Lane, "advance", stuck)
    with pytest.raises(AssertionError):
        for _ in range(20):
            run_threads(3, lambda: on_shared_memory(check_many_small))
