"""All-reduce through shared memory against the same MPI's own, in turn, in one run.

    mpirun -n 2 python -m distgrad.launch benchmarks/allreduce.py

Both leave the result in every rank's own buffer. The mean is compared with MPI's in-place sum followed by the division
that a mean needs, and, more strictly, with the sum alone.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from distgrad.comm import ReduceOp, get_default, init_process_group


def seconds(call: Callable[[], None], repeats: int) -> float:
    """The time of one call, of the slowest rank."""
    MPI.COMM_WORLD.Barrier()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return float(MPI.COMM_WORLD.allreduce((time.perf_counter() - start) / repeats, MPI.MAX))


def main() -> None:
    """Prints a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=float, nargs="+", default=[1, 4, 25, 64], help="sizes of the buffer")
    parser.add_argument("--rounds", type=int, default=15, help="turns; the medians are compared")
    args = parser.parse_args()

    init_process_group("shm")
    group = get_default()
    if group.rank == 0:
        print(f"{group.size} ranks, {MPI.Get_library_version().splitlines()[0]}; MPI's time divided by shm's")
        print(f"{'MiB':>6} {'sum/sum':>9} {'mean/sum':>9} {'mean/mean':>10}")
    for mib in args.mib:
        n = int(mib * 2**20 / 4)
        ours, theirs = group.empty(n, np.float32), np.empty(n, np.float32)
        ours[:] = theirs[:] = group.rank

        def mpi_sum(buffer: np.ndarray = theirs) -> None:
            MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, buffer)

        def mpi_mean(buffer: np.ndarray = theirs) -> None:
            MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, buffer)
            buffer /= group.size

        calls: dict[str, Callable[[], None]] = {
            "shm sum": lambda buffer=ours: group.all_reduce(buffer, ReduceOp.SUM),
            "mpi sum": mpi_sum,
            "shm mean": lambda buffer=ours: group.all_reduce(buffer, ReduceOp.AVG),
            "mpi mean": mpi_mean,
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(args.rounds):
            for name, call in calls.items():
                ours[:] = theirs[:] = 1e-3  # sums of sums would overflow
                times[name].append(seconds(call, 5))
        t = {name: statistics.median(values) for name, values in times.items()}
        if group.rank == 0:
            ratios = (t["mpi sum"] / t["shm sum"], t["mpi sum"] / t["shm mean"], t["mpi mean"] / t["shm mean"])
            print(f"{mib:6g} {ratios[0]:9.2f} {ratios[1]:9.2f} {ratios[2]:10.2f}", flush=True)


if __name__ == "__main__":
    main()
