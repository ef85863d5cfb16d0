"""What `launch --elastic` costs while nobody dies: the same steps with logical shards in two jobs, in turn.

    python benchmarks/elastic.py --workloads cnn,gpt,mlp

With the MPI of this Python. Both jobs live all the time, and the ranks of one sleep while those of the other work.
Reported are medians of pairs: of the processor time of all ranks together, and of the slowest rank's time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from same_bits import sharded

import distgrad.distributed as dist
from distgrad.bench._start import FORCED_KERNEL
from distgrad.bench._statistics import paired_ratio, summarise
from distgrad.bench._workloads import WORKLOADS

SAMPLE_SECONDS = 0.15


class Side:
    """A job whose ranks wait for commands.

    Args:
        ranks: how many.
        options: of the launcher.
        arguments: of the program on each rank.
    """

    def __init__(self, ranks: int, options: Sequence[str], arguments: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            address = str(Path(folder) / "commands")
            launcher = [sys.executable, "-m", "distgrad.launch", "-n", str(ranks), *options]
            environment = {name: text for name, text in os.environ.items() if name not in FORCED_KERNEL}
            with Listener(address) as listener:
                self._job = subprocess.Popen([*launcher, __file__, *arguments, "--work", address], env=environment)
                self._ranks: list[Connection] = [listener.accept() for _ in range(ranks)]

    def take(self, steps: int) -> tuple[float, float]:
        """Processor seconds of all ranks together for a step, and seconds of the slowest."""
        for rank in self._ranks:
            rank.send(steps)
        times = [rank.recv() for rank in self._ranks]
        return sum(used for used, _ in times) / steps, max(seconds for _, seconds in times) / steps

    def end(self) -> None:
        """Lets the job come to its end."""
        for rank in self._ranks:
            rank.send(0)
        self._job.wait(60)


def work(args: argparse.Namespace) -> None:
    """Obeys, as a rank."""
    step = sharded(args.workloads, args.shards)
    step()
    commands = Client(args.work)
    while steps := commands.recv():
        used, began = time.process_time(), time.perf_counter()
        for _ in range(steps):
            step()
        commands.send((time.process_time() - used, time.perf_counter() - began))
    dist.barrier()


def compare(name: str, args: argparse.Namespace) -> None:
    """Prints the price for one workload."""
    arguments = ["--workloads", name, "--shards", str(args.shards)]
    sides = [Side(args.ranks, options, arguments) for options in ([], ["--elastic"])]
    steps = max(1, round(SAMPLE_SECONDS / max(side.take(3)[1] for side in sides)))
    pairs = []
    for number in range(args.rounds):
        order = (0, 1) if number % 2 else (1, 0)
        taken = {side: sides[side].take(steps) for side in order}
        pairs.append((taken[0], taken[1]))
    for side in sides:
        side.end()
    for i, what in enumerate(("processor time", "time")):
        before, after = ([pair[side][i] for pair in pairs] for side in (0, 1))
        ratio = paired_ratio(after, before)
        least = min(after) / min(before)
        print(
            f"{name}, {what}: {summarise(after).median * 1e3:.2f} ms / {summarise(before).median * 1e3:.2f} ms = "
            f"{ratio.median:.3f} ({ratio.low:.3f} - {ratio.high:.3f}), of the least {least:.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", default="cnn,gpt,mlp", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--work", metavar="ADDRESS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args)
        return
    for name in args.workloads.split(","):
        compare(name, args)


if __name__ == "__main__":
    main()
