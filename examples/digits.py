"""A small convolutional network on handwritten digits, trained by any number of ranks.

    mpirun -n 4 python -m distgrad.launch examples/digits.py

The data are the 1,797 real images of 8 x 8 pixels that come with scikit-learn. Whatever the number of ranks, each step
sees the same 120 images, so the losses are the same too.
"""

import argparse
import time

from sklearn.datasets import load_digits
from tqdm import tqdm

import distgrad
import distgrad.distributed as dist
from distgrad import nn, optim
from distgrad.nn import functional as F
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.utils.data import DataLoader, TensorDataset

GLOBAL_BATCH = 120  # divisible by 1, 2, 3, 4, 5, 6 and 8 ranks


class Net(nn.Module):
    """Two convolutions with batch normalisation, pooling, and two linear layers.

    All of it is smooth. A ReLU or a maximum can switch on the last bit of its input, and the bits of a sum depend on
    how many ranks made it: with those the losses on different numbers of ranks would part by chance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.GELU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.GELU(), nn.AvgPool2d(2),
        )  # fmt: skip
        self.classify = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x: distgrad.Tensor) -> distgrad.Tensor:
        """Class scores (N, 10) of images (N, 1, 8, 8)."""
        return self.classify(self.features(x))


def load() -> tuple[TensorDataset, TensorDataset]:
    """The images in [0, 1], and their labels: 1,437 to train on and 360 to test."""
    digits = load_digits()
    images = distgrad.tensor(digits.images / 16.0, dtype=distgrad.float32).unsqueeze(1)  # (1797, 1, 8, 8)
    labels = distgrad.tensor(digits.target, dtype=distgrad.int64)
    order = distgrad.randperm(len(labels), generator=distgrad.Generator().manual_seed(0))
    train, test = order[360:], order[:360]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """The share of images of which the model names the digit; each rank looks at its part."""
    model.eval()
    counts = distgrad.zeros(2)
    with distgrad.no_grad():
        for x, y in DataLoader(data, batch_size=256, sharded=True):
            counts += distgrad.tensor([float((model(x).argmax(1) == y).sum()), float(len(y))])
    dist.all_reduce(counts)
    model.train()
    return float(counts[0] / counts[1])


def main() -> None:
    """Trains, tests, saves, and prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--losses", action="store_true", help="print the loss of every step")
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="SECONDS", help="the last rank sleeps so long each step"
    )
    parser.add_argument("--save", default="digits.pt", metavar="PATH")
    args = parser.parse_args()

    dist.init_process_group()
    rank, world = dist.get_rank(), dist.get_world_size()
    distgrad.manual_seed(1)
    train, test = load()
    model = DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(Net()))
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    loader = DataLoader(
        train,
        batch_size=GLOBAL_BATCH // world,
        shuffle=True,
        sharded=True,
        drop_last=True,
        generator=distgrad.Generator().manual_seed(2),
    )
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.epochs * len(loader))

    seen = 0
    progress = tqdm(total=args.epochs * len(loader), unit="step", disable=rank != 0)
    with dist.measure() as measured:
        for _ in range(args.epochs):
            for x, y in loader:
                if args.delay and rank == world - 1:
                    time.sleep(args.delay)
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                seen += len(y) * world
                progress.update()
                if args.losses:
                    dist.all_reduce(mean := loss.detach().clone(), dist.ReduceOp.AVG)
                    if rank == 0:
                        progress.write(f"loss {mean.item():.9g}")
    progress.close()
    correct = accuracy(model, test)

    if rank == 0:
        distgrad.save(model.state_dict(), args.save)
        print(f"world size        {world}")
        print(f"backend           {dist.get_backend()}")
        print(f"samples/s         {seen / measured.elapsed:.0f}")
        print(f"in communication  {100 * measured.share:.1f} % of the time")
        print(f"test accuracy     {100 * correct:.2f} %")
        print(f"checkpoint        {args.save}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
