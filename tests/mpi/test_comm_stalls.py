"""Ranks that keep others waiting: one table, printed by one rank, says where everybody is."""

import ctypes
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest
from mpi4py import MPI

from distgrad.comm._communicator import Options
from tests.mpi.groups import LAST, RANK, SIZE, make, meet

BACKENDS = ["shm", "mpi", "mpi 2 nodes", "hierarchical"]


def tables(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The tables that each rank has printed."""
    meet()
    return list(MPI.COMM_WORLD.allgather(capfd.readouterr().err))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stall_prints_one_table_with_the_stack_of_the_late_one(
    backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    group = make(backend, Options(timeout=60, stall_warn=1.0))
    group.barrier()
    if RANK == LAST:
        load_data()
    group.all_reduce(np.zeros(3))
    texts = tables(capfd)
    assert [text.count("has waited") for text in texts] == [1] + [0] * LAST, texts
    assert re.search(r"rank 0: waits in call #\d+, all_reduce\(SUM, 3 float64 = 24 bytes\) at test_comm_st", texts[0])
    assert re.search(
        rf"rank {LAST}: is in no call; last was .*barrier\(\).* ago; process \d+ is sleeping, in", texts[0]
    )
    assert re.search(r"test_comm_stalls.py:\d+ in load_data: time.sleep\(3\)", texts[0]), texts[0]
    group.close()


def load_data() -> None:
    time.sleep(3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_waiting_for_a_message_prints_the_table(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    group = make(backend, Options(timeout=60, stall_warn=0.5))
    group.barrier()
    if RANK == LAST:
        load_data()
        group.send(np.zeros(5, np.int8), 0, 3)
    elif RANK == 0:
        group.recv(np.zeros(5, np.int8), LAST, 3)
    texts = tables(capfd)
    assert [text.count("has waited") for text in texts] == [1] + [0] * LAST, texts
    assert f"rank 0: waits in recv(from rank {LAST}, tag 3, 5 int8 = 5 bytes) at test_comm_stalls.py:" in texts[0]
    assert "in load_data: time.sleep(3)" in texts[0]
    group.close()


@pytest.mark.parametrize("backend", ["shm", "hierarchical"])
@pytest.mark.parametrize("lateness", ["stopped", "native"])
def test_a_stopped_process_and_one_in_native_code(
    backend: str, lateness: str, capfd: pytest.CaptureFixture[str]
) -> None:
    far = backend == "hierarchical" and SIZE < 4  # the late one is the first rank of its node, and cannot tell
    group = make(backend, Options(timeout=60, stall_warn=2.5 if far else 0.5))
    group.barrier()
    if far:
        time.sleep(2.5)  # until nothing is sent any more that was sent when the group was new
        group.barrier()
    if RANK == LAST:
        seconds = 4.0 if backend == "hierarchical" else 3.0
        stop(seconds) if lateness == "stopped" else native(seconds)
    group.barrier()
    texts = tables(capfd)
    wanted = "is stopped (SIGSTOP, or a debugger); `kill -CONT" if lateness == "stopped" else "is in native code"
    assert texts[0].count("has waited") == 1, texts
    assert (NO_NEWS if far else wanted) in texts[0], texts
    group.close()


NO_NEWS = "no news of it came from its node for"


def stop(seconds: float) -> None:
    with subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"]):
        os.kill(os.getpid(), signal.SIGSTOP)


def native(seconds: float) -> None:
    ctypes.PyDLL(None).usleep(round(seconds * 1e6))  # which keeps the interpreter's lock


@pytest.mark.parametrize("backend", BACKENDS)
def test_short_waits_print_nothing(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    group = make(backend, Options(timeout=60, stall_warn=30.0))
    for _ in range(3):
        time.sleep(0.05 * RANK)
        group.barrier()
    assert tables(capfd) == [""] * SIZE
    group.close()
