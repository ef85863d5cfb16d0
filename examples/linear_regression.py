"""Linear regression: the smallest training program.

    python examples/linear_regression.py
    mpirun -n 2 python -m distgrad.launch examples/linear_regression.py

The data are scikit-learn's diabetes measurements: 442 patients, ten values each, and the progress of the disease
after a year.
"""

import argparse

from sklearn.datasets import load_diabetes

import distgrad
import distgrad.distributed as dist
from distgrad import nn, optim
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.utils.data import DataLoader, TensorDataset


def main() -> None:
    """Fits ten weights and a bias, and prints the share of variance that they explain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    args = parser.parse_args()

    dist.init_process_group()
    distgrad.manual_seed(0)
    data = load_diabetes()
    x = distgrad.tensor(data.data, dtype=distgrad.float32) * 21.0  # the columns come with norm 1; now variance 1
    y = distgrad.tensor(data.target, dtype=distgrad.float32).unsqueeze(1)
    mean, deviation = y.mean(), y.std()
    y = (y - mean) / deviation

    model = DistributedDataParallel(nn.Linear(10, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loss_of = nn.MSELoss()
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True, sharded=True)
    for _ in range(args.epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss_of(model(inputs), targets).backward()
            optimizer.step()

    if dist.get_rank() == 0:
        with distgrad.no_grad():
            explained = 1 - loss_of(model.module(x), y) / y.var(correction=0)
        print(f"explained variance {explained.item():.3f} (an exact least-squares fit explains 0.518)")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
