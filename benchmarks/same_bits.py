"""What the same bits on any number of ranks cost: a step with logical shards over the plain one, in turn.

    python -m distgrad.launch -n 2 benchmarks/same_bits.py --workloads cnn,gpt
    python -m distgrad.launch --elastic -n 2 benchmarks/same_bits.py      # and with steps that survive deaths

Both sides take the same number of samples a step over all ranks; a sample is the slowest rank's time for some steps.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np

import distgrad as dg
import distgrad.distributed as dist
from distgrad.bench._statistics import paired_ratio, summarise
from distgrad.bench._workloads import WORKLOADS
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.utils.data import DataLoader, TensorDataset

SAMPLE_SECONDS = 0.4


def plain(name: str) -> Callable[[], None]:
    """A step of plain data-parallel training."""
    batch, build = WORKLOADS[name]
    program = build(dg, batch, "cpu")
    model = DistributedDataParallel(program.model)
    optimizer = program.optimizer(model.parameters())

    def step() -> None:
        program.loss(model).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def sharded(name: str, shards: int) -> Callable[[], None]:
    """A step on as many samples, in logical shards."""
    batch, build = WORKLOADS[name]
    total = batch * dist.get_world_size()
    program = build(dg, total // shards, "cpu")
    model = DistributedDataParallel(program.model, logical_shards=shards)
    optimizer = program.optimizer(model.parameters())
    numbers = TensorDataset(dg.arange(total))  # an epoch is a step; the workload has its own data

    def steps() -> Iterator[None]:
        loader = DataLoader(numbers, batch_size=total, logical_shards=shards)
        for epoch in itertools.count():
            loader.set_epoch(epoch)
            for step in loader.steps():
                for _ in step:
                    program.loss(model).backward()
                optimizer.step()
                optimizer.zero_grad()
                yield

    endless = steps()
    return lambda: next(endless)


def seconds(step: Callable[[], None], repeats: int) -> float:
    """The slowest rank's time for a step."""
    dist.barrier()
    started = time.perf_counter()
    for _ in range(repeats):
        step()
    mine = np.array([(time.perf_counter() - started) / repeats])
    dist.all_reduce(mine, dist.ReduceOp.MAX)
    return float(mine[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", default="cnn,gpt", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    dist.init_process_group()
    for name in args.workloads.split(","):
        sides = [plain(name), sharded(name, args.shards)]
        repeats = max(1, round(SAMPLE_SECONDS / max(seconds(side, 2) for side in sides)))
        pairs = [[seconds(side, repeats) for side in sides] for _ in range(args.rounds)]
        ratio = paired_ratio([pair[1] for pair in pairs], [pair[0] for pair in pairs])
        if dist.get_rank() == 0:
            before, after = (summarise([pair[i] for pair in pairs]).median * 1e3 for i in range(2))
            interval = f"{ratio.low:.2f} - {ratio.high:.2f}"
            print(f"{name}: {after:.1f} ms / {before:.1f} ms = {ratio.median:.2f} ({interval}), {args.shards} shards")


if __name__ == "__main__":
    main()
