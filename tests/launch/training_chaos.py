"""A short data-parallel training with a checkpoint, for faults of --chaos to strike."""

import sys
import tempfile
from pathlib import Path

import distgrad
from distgrad import nn, optim
from distgrad.nn.parallel import DistributedDataParallel

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 6


def main() -> None:
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)))
    optimizer = optim.SGD(model.parameters(), lr=0.001)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(distgrad.randn(2, 4)), distgrad.zeros(2, 1)).backward()
        optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        distgrad.save(model.state_dict(), Path(folder, "model"))
    print("done\n", end="", flush=True)


main()
