"""A small GPT that learns to write Python, from the source text of Python's own standard library.

mpirun -n 2 python -m distgrad.launch examples/char_gpt.py --steps 300
"""

import argparse
import pathlib
import sysconfig
import time

from tqdm import tqdm

import distgrad
import distgrad.distributed as dist
from distgrad import nn, optim
from distgrad.nn import functional as F
from distgrad.nn.parallel import DistributedDataParallel

VOCABULARY = 128  # ASCII


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each behind a layer norm and around a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: distgrad.Tensor) -> distgrad.Tensor:
        """(B, T, width) -> (B, T, width)."""
        b, t, width = x.shape
        q, k, v = (
            part.view(b, t, self.heads, width // self.heads).transpose(1, 2)  # (B, heads, T, width / heads)
            for part in self.qkv(self.norm1(x)).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Next-character scores for every position of a text."""

    def __init__(self, width: int, depth: int, heads: int, context: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, text: distgrad.Tensor) -> distgrad.Tensor:
        """(B, T) characters -> (B, T, VOCABULARY) scores."""
        x = self.token(text) + self.position(distgrad.arange(text.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def load_text(limit: int) -> distgrad.Tensor:
    """The standard library's modules, one after another, as ASCII codes."""
    files = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = "".join(f.read_text(encoding="utf-8", errors="ignore") for f in files)[:limit]
    return distgrad.tensor(list(text.encode("ascii", errors="ignore")), dtype=distgrad.int64)


def write(model: nn.Module, prompt: str, length: int, context: int) -> str:
    """Continues `prompt` by `length` characters drawn from the model."""
    model.eval()
    text = distgrad.tensor([list(prompt.encode())], dtype=distgrad.int64)
    with distgrad.no_grad():
        for _ in range(length):
            scores = model(text[:, -context:])[:, -1]
            text = distgrad.cat([text, distgrad.multinomial(F.softmax(scores / 0.8, dim=-1), 1)], dim=1)
    return bytes(text[0].tolist()).decode("ascii")


def main() -> None:
    """Trains, reports the loss, and prints what the model writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16, help="texts a rank and step")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--characters", type=int, default=2_000_000, help="how much of the library to read")
    parser.add_argument("--write", type=int, default=200, help="characters to write at the end")
    args = parser.parse_args()

    dist.init_process_group()
    rank, world = dist.get_rank(), dist.get_world_size()
    distgrad.manual_seed(0)
    text = load_text(args.characters)
    model = DistributedDataParallel(GPT(args.width, args.depth, heads=4, context=args.context))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    draw = distgrad.Generator().manual_seed(100 + rank)  # each rank reads other places
    distgrad.manual_seed(1000 + rank)  # and drops other units

    progress = tqdm(range(args.steps), unit="step", disable=rank != 0)
    start, losses = time.perf_counter(), []
    for _ in progress:
        first = distgrad.randint(0, len(text) - args.context - 1, (args.batch, 1), generator=draw)
        window = text[first + distgrad.arange(args.context + 1)]  # (batch, context + 1)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(window[:, :-1]).reshape(-1, VOCABULARY), window[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        progress.set_postfix(loss=f"{losses[-1]:.3f}")
    seconds = time.perf_counter() - start

    if rank == 0:
        speed = args.steps * args.batch * args.context * world / seconds
        print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, {speed:.0f} characters/s")
        print(write(model.module, "def ", args.write, args.context))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
