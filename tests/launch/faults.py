"""A script whose rank 2 meets with the accident that its argument names, while the other ranks wait for it.

tests/launch/test_exit_matrix.py runs it on four ranks.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

import distgrad.comm as dist
from distgrad._environment import job


def forward() -> None:
    raise ValueError("planted in forward")


class DataSet:
    def __getitem__(self, index: int) -> float:
        raise IndexError(f"planted in the data set at {index}")


def in_thread() -> None:
    thread = threading.Thread(target=forward, name="loader")
    thread.start()
    time.sleep(60)


def replaced_hook() -> None:
    sys.excepthook = lambda *arguments: print("the user's own hook was called")
    raise ValueError("planted under a replaced hook")


def send(number: int) -> Callable[[], None]:
    """What sends a signal to this rank."""
    return lambda: os.kill(os.getpid(), number)


def out_of_memory() -> None:
    raise MemoryError("planted")


def leave_then_raise() -> None:
    """The peers learn that this rank is gone before it says why."""
    dist.get_default().close()
    time.sleep(0.1)
    raise ValueError("planted after leaving")


def mismatch() -> None:
    dist.all_reduce(np.zeros(7))


FAULTS = {
    "forward": forward,
    "dataset": lambda: DataSet()[5],
    "thread": in_thread,
    "replaced_hook": replaced_hook,
    "exit3": lambda: sys.exit(3),
    "exit0": lambda: sys.exit(0),
    "exit_message": lambda: sys.exit("planted message"),
    "kill": send(signal.SIGKILL),
    "segv": send(signal.SIGSEGV),
    "term": send(signal.SIGTERM),
    "interrupt": send(signal.SIGINT),
    "os_exit3": lambda: os._exit(3),
    "memory": out_of_memory,
    "leave_then_raise": leave_then_raise,
    "mismatch": mismatch,
    "sleep": lambda: time.sleep(60),
    "wait": lambda: None,
    "everyone": lambda: None,
}


EARLY = {"early_raise": forward, "early_exit0": lambda: sys.exit(0), "early_exit3": lambda: sys.exit(3)}


def main() -> None:
    fault = sys.argv[1]
    if fault in EARLY and job.rank == 2:
        time.sleep(0.5)  # by now the others wait in MPI_Init
        print(f"FAULT {time.time()}", flush=True)
        EARLY[fault]()
    rank = dist.get_default().rank
    dist.barrier()
    print(f"rank {rank} is up", flush=True)
    dist.barrier()
    if rank == 2:
        time.sleep(0.2)
        print(f"FAULT {time.time()}", flush=True)
        FAULTS[fault]()
    if fault == "everyone":
        dist.barrier()
        raise ValueError("planted on every rank")
    while True:
        dist.all_reduce(np.zeros(3))


main()
