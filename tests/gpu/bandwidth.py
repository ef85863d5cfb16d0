"""Run under mpirun: how fast all-reduces of GPU buffers are, by one way, beside plain copies to and from the host.

mpirun -n 2 python -m tests.gpu.bandwidth staged|nccl|mpi
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from distgrad import comm
from distgrad.backend import cuda_backend

SIZES = (1 << 20, 16 << 20, 64 << 20, 256 << 20)  # bytes
ROUNDS = 7


def seconds(run: Callable[[], Any], ready: Callable[[], None]) -> float:
    """The median time of a run, from a common start until the device is done."""
    times = []
    for _ in range(ROUNDS):
        comm.barrier()
        started = time.perf_counter()
        run()
        ready()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main(way: str) -> None:
    """Prints a line for each size, on rank 0."""
    comm.init_process_group(f"cuda:{way}")
    backend = cuda_backend()
    assert backend is not None
    group, streams = comm.get_default(), backend.streams
    for size in SIZES:
        buffer = backend.xp.ones(size // 4, "float32")
        host = streams.pinned(size).view("float32")
        ready = streams.current().synchronize
        group.all_reduce(buffer)  # whatever is made at the first call
        down = size / seconds(lambda: buffer.get(out=host, blocking=False), ready) / 1e9  # noqa: B023
        up = size / seconds(lambda: buffer.set(host), ready) / 1e9  # noqa: B023
        reduced = size / seconds(lambda: group.all_reduce(buffer), ready) / 1e9  # noqa: B023
        if group.rank == 0:
            print(
                f"{size >> 20:4} MiB: all-reduce {reduced:6.2f} GB/s; down {down:6.2f}, up {up:6.2f} GB/s", flush=True
            )
    if group.rank == 0:
        print(group.describe(), flush=True)
    comm.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
