"""Data-parallel training in which rank 2 raises where the argument says: in forward, in a hook, in the data set.

tests/launch/test_exit_matrix.py runs it on four ranks.
"""

import sys
import time

import distgrad
from distgrad import nn, optim
from distgrad._environment import job
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.utils.data import DataLoader, Dataset

WHERE = sys.argv[1]


def strike(where: str) -> None:
    """Raise on rank 2, if this is the place."""
    if where == WHERE and job.rank == 2:
        print(f"FAULT {time.time()}", flush=True)
        raise ValueError(f"planted in {where}")


class Numbers(Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[distgrad.Tensor, distgrad.Tensor]:
        if index == 30:  # in the share of rank 2
            strike("dataset")
        return distgrad.full((4,), float(index)), distgrad.zeros(1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.calls = 0

    def forward(self, x: distgrad.Tensor) -> distgrad.Tensor:
        self.calls += 1
        if self.calls == 3:
            strike("forward")
        y = self.linear(x)
        if self.calls == 3:
            y.register_hook(lambda gradient: strike("hook"))
        return y


def main() -> None:
    model = DistributedDataParallel(Net())
    optimizer = optim.SGD(model.parameters(), lr=0.001)
    loader = DataLoader(Numbers(), batch_size=2, sharded=True)
    for _ in range(1000):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()


main()
