"""Trains a model on logical shards, and prints its fingerprint: the launcher's summary has the same."""

import distgrad
from distgrad import nn, optim
from distgrad.utils.data import DataLoader, TensorDataset


def main() -> None:  # so that nothing of it is left at the end
    distgrad.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), logical_shards=4)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for step in DataLoader(TensorDataset(distgrad.randn(16, 3)), 8, logical_shards=4).steps():
        for (x,) in step:
            model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    if distgrad.distributed.get_rank() == 0:
        print(f"distgrad.launch: fingerprint(model) = {distgrad.fingerprint(model)}", flush=True)


main()
