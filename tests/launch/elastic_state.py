"""A program with state in more places than examples/same_bits.py: sharded optimizer state, and checkpoints on the way.

    python -m distgrad.launch --elastic -n 3 tests/launch/elastic_state.py [--zero] [--copies N] [--save DIRECTORY]
        [--die part|manifest --at STEP]

`--die` ends a rank by SIGKILL while it saves the checkpoint of a step, once: rank 1 after half of its part, or rank 0
before the manifest.
"""

import argparse
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distgrad as torch
import distgrad.distributed as dist
from distgrad import nn, optim
from distgrad.checkpoint import CheckpointManager, _manager
from distgrad.distributed.optim import ZeroRedundancyOptimizer
from distgrad.nn import functional as F
from distgrad.utils.data import DataLoader, TensorDataset

STEPS = 12

parser = argparse.ArgumentParser()
parser.add_argument("--zero", action="store_true")
parser.add_argument("--copies", type=int, default=3)
parser.add_argument("--save", type=Path)
parser.add_argument("--die", choices=("part", "manifest"))
parser.add_argument("--at", type=int, default=0)
args = parser.parse_args()

real_save, real_atomic_write = _manager.save, _manager.atomic_write
is_first = os.environ.get("RESTART_COUNT", "0") == "0"
me = dist.get_rank()


def dying_save(part: Any, path: Path) -> None:
    """Rank 1 writes half of its part."""
    if args.die == "part" and me == 1 and is_first and path.parent.name == f"step-{args.at:010d}":
        (path.parent / f"{path.name}.half").write_bytes(b"half" * 100)
        os.kill(os.getpid(), signal.SIGKILL)
    real_save(part, path)


@contextmanager
def dying_write(path: Path) -> Any:
    """Rank 0 has all parts, and does not live to say so."""
    if args.die == "manifest" and is_first and path.parent.name == f"step-{args.at:010d}":
        os.kill(os.getpid(), signal.SIGKILL)
    with real_atomic_write(path) as file:
        yield file


_manager.save, _manager.atomic_write = dying_save, dying_write  # type: ignore[assignment]

torch.manual_seed(0)
data = TensorDataset(torch.randn(100, 6), torch.randint(0, 3, (100,)))
loader = DataLoader(data, batch_size=20, shuffle=True, logical_shards=8)
net = nn.Sequential(nn.Linear(6, 33), nn.BatchNorm1d(33), nn.ReLU(), nn.Dropout(0.2), nn.Linear(33, 3))
model = nn.parallel.DistributedDataParallel(net, logical_shards=8)
optimizer: optim.Optimizer
if args.zero:
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optim.AdamW, copies=args.copies, lr=1e-2)
else:
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
manager = CheckpointManager(args.save, keep=2, timeout=20.0) if args.save else None
state = manager.load() if manager else None
if state is not None:
    for name, part in parts.items():
        part.load_state_dict(state[name])
for step in loader.steps(until=STEPS):
    for x, y in step:
        F.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    scheduler.step()
    if manager:
        if args.zero:
            optimizer.consolidate_state_dict(to=None)  # type: ignore[attr-defined]
        number = 5 * step.epoch + step.number
        manager.save(number, {name: part.state_dict() for name, part in parts.items()})
if args.zero:
    optimizer.consolidate_state_dict()  # type: ignore[attr-defined]
dist.barrier()
if dist.get_rank() == 0:
    print("sha256", torch.fingerprint(model, optimizer, scheduler))
