"""The same bits on any number of ranks: the last line is a hash of everything that training has made.

    python examples/same_bits.py
    mpirun -n 4 python -m distgrad.launch examples/same_bits.py --model gpt

A step is cut into 8 logical shards whatever the number of ranks is, so each of these ends with the same line. With
`--resume` a run that was stopped goes on, on any number of ranks, and ends with that line too.
"""

import argparse
from pathlib import Path

import distgrad as torch
import distgrad.distributed as dist
from distgrad import nn, optim
from distgrad.distributed.optim import ZeroRedundancyOptimizer
from distgrad.nn import functional as F
from distgrad.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    """A transformer block of a small GPT."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, x):
        y, steps = self.norm1(x), x.shape[1]
        mask = torch.ones(steps, steps).triu(1).bool()
        x = x + self.attention(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


def model_and_data(name: str, samples: int = 480):
    """A model, its data, and the shape of its logits."""
    if name == "gpt":
        tokens = torch.randint(0, 64, (samples, 17))
        body = nn.Sequential(nn.Embedding(64, 32), Block(32, 4), Block(32, 4), nn.LayerNorm(32), nn.Linear(32, 64))
        return body, TensorDataset(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    labels = torch.randint(0, 10, (samples,))
    if name == "mlp":
        body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
        return body, TensorDataset(torch.randn(samples, 64), labels)
    body = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.1), nn.Flatten(), nn.Linear(16 * 16, 10)),
    )
    return body, TensorDataset(torch.randn(samples, 1, 8, 8), labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("mlp", "cnn", "gpt"), default="cnn")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=8, help="logical shards of a step")
    parser.add_argument("--checkpoint", type=Path, default=Path("same_bits.dg"))
    parser.add_argument("--stop-after", type=int, help="save a checkpoint after so many steps, and stop")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--zero", action="store_true", help="spread the optimizer's state over the ranks")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    body, data = model_and_data(args.model)
    loader = DataLoader(data, batch_size=50, shuffle=True, logical_shards=args.shards)
    model = nn.parallel.DistributedDataParallel(body, logical_shards=args.shards)
    if args.zero:
        optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.AdamW, lr=1e-3)
    else:
        optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    if args.resume:
        state = torch.load(args.checkpoint)
        for name, part in parts.items():
            part.load_state_dict(state[name])

    for step in loader.steps(until=args.stop_after or args.steps):
        for x, y in step:
            logits = model(x)
            F.cross_entropy(logits.flatten(0, -2), y.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()

    if args.zero:
        optimizer.consolidate_state_dict()
    dist.barrier()  # with `--elastic`, rank 0 may have died in the last step: here the others notice
    if args.stop_after and dist.get_rank() == 0:
        torch.save({name: part.state_dict() for name, part in parts.items()}, args.checkpoint)
    elif dist.get_rank() == 0:
        print("sha256", torch.fingerprint(model, optimizer))


if __name__ == "__main__":
    main()
