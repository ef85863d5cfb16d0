"""Where the microseconds of an eager step of `tiny` go, whose arithmetic is next to nothing.

    python benchmarks/profile_tiny.py
    python benchmarks/profile_tiny.py --json now.json

Four clock readings a step give the parts. In a second run the functions that do the arithmetic (each operation's
forward and backward, the optimizer's kernel) are timed, too; what remains of a part is Python around them. A third run
counts calls of Python functions. The floor is the same arithmetic as calls of NumPy that write into memory made before.
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PARTS = ("zero_grad", "forward", "backward", "optimizer")
STEPS = 4000


def prepare() -> tuple[Any, list[Callable[[], Any]]]:
    """The optimizer, and the parts of a step, after steps that settle everything."""
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # before NumPy is loaded
        os.environ.pop(name, None)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    import distgrad
    from distgrad.bench._workloads import WORKLOADS

    program = WORKLOADS["tiny"].build(distgrad, WORKLOADS["tiny"].batch, "cpu")
    optimizer = program.optimizer(program.model.parameters())
    losses: list[Any] = []
    parts = [
        optimizer.zero_grad,
        lambda: losses.append(program.loss(program.model)),
        lambda: losses.pop().backward(),
        optimizer.step,
    ]
    take(parts, 300)
    return optimizer, parts


def take(parts: Sequence[Callable[[], Any]], steps: int) -> list[list[int]]:
    """Nanoseconds of each part, for each of several steps."""
    clock = time.perf_counter_ns
    result = []
    for _ in range(steps):
        times = [clock()]
        for part in parts:
            part()
            times.append(clock())
        result.append([after - before for before, after in itertools.pairwise(times)])
    return result


class Stopwatch:
    """Adds up the time in functions by name; the cost of looking at the clock is taken away."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = defaultdict(int)
        self._calls: Counter[str] = Counter()
        watched = self.watch("nothing", lambda: None)
        for _ in range(20000):
            watched()
        self._cost = self.totals.pop("nothing") / 20000

    def watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""
        clock, totals, calls = time.perf_counter_ns, self.totals, self._calls

        def watched(*args: Any) -> Any:
            start = clock()
            result = function(*args)
            totals[name] += clock() - start
            calls[name] += 1
            return result

        return watched

    def read(self) -> dict[str, float]:
        """Nanoseconds by name since the last reading."""
        found = {name: total - self._calls[name] * self._cost for name, total in self.totals.items()}
        self.totals.clear()
        self._calls.clear()
        return found


def times_of_arithmetic(optimizer: Any, parts: Sequence[Callable[[], Any]]) -> list[dict[str, float]]:
    """Nanoseconds in the functions that compute, by part, for each step."""
    from distgrad.autograd._op import Op

    stopwatch = Stopwatch()
    for op in _all_subclasses(Op):
        if "forward" in op.__dict__:
            op.forward = staticmethod(stopwatch.watch("forward", op.forward))
        if "raw_backward" in op.__dict__:
            op.raw_backward = staticmethod(stopwatch.watch("backward", op.raw_backward))
    kernels = optimizer._plans[0].segments[0].kernels
    kernels.sgd = stopwatch.watch("optimizer", kernels.sgd)
    result = []
    for _ in range(STEPS):
        take(parts, 1)
        result.append(stopwatch.read())
    return result


def _all_subclasses(cls: Any) -> Iterator[Any]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _all_subclasses(subclass)


def calls_of(part: Callable[[], Any]) -> int:
    """How many Python functions it calls."""
    events: list[str] = []
    sys.setprofile(lambda frame, event, arg: events.append(event))
    part()
    sys.setprofile(None)
    return events.count("call")


def floor() -> Callable[[], None]:
    """The arithmetic of a step in bare NumPy."""
    import numpy as np

    draw, make = np.random.default_rng(0).standard_normal, functools.partial(np.empty, dtype=np.float32)
    shapes = (32, 2), (32, 1), (32, 2), (32, 32), (1, 32), 32, 32, 1, 1185, 1185
    x, y, w1, w2, w3, b1, b2, b3, values, grads = (draw(shape).astype(np.float32) for shape in shapes)
    h1, h2, g1, g2, t = (make((32, 32)) for _ in range(5))
    out, d, scratch = make((32, 1)), make((32, 1)), make(1185)
    gw1, gw2, gw3, gb1, gb2, gb3 = map(np.empty_like, (w1, w2, w3, b1, b2, b3))
    product, add, multiply, tanh, total = np.matmul, np.add, np.multiply, np.tanh, np.add.reduce

    def slope(h: Any, g: Any) -> None:
        multiply(h, h, t)
        np.subtract(1, t, t)
        multiply(g, t, g)

    def step() -> None:
        for inputs, w, b, h in ((x, w1, b1, h1), (h1, w2, b2, h2)):
            tanh(add(product(inputs, w.T, h), b, h), h)
        np.subtract(add(product(h2, w3.T, out), b3, out), y, d)
        np.vdot(d, d) / 32
        multiply(d, 2 / 32, d)
        for g, w, inputs, gw, gb, gx in ((d, w3, h2, gw3, gb3, g2), (g2, w2, h1, gw2, gb2, g1)):
            product(g.T, inputs, gw)
            total(g, 0, None, gb)
            slope(inputs, product(g, w, gx))
        product(g1.T, x, gw1)
        total(g1, 0, None, gb1)
        np.subtract(values, multiply(grads, 0.01, scratch), values)

    return step


def measure() -> dict[str, dict[str, float]]:
    """Medians over the steps, in microseconds, and calls; rows by name."""
    optimizer, parts = prepare()
    calls = [calls_of(part) for part in parts]
    whole = [statistics.median(times) / 1e3 for times in zip(*take(parts, STEPS), strict=True)]
    lowest = statistics.median(times[0] for times in take([floor()], STEPS)) / 1e3
    inner = times_of_arithmetic(optimizer, parts)
    rows: dict[str, dict[str, float]] = {}
    for name, part, n in zip(PARTS, whole, calls, strict=True):
        arithmetic = statistics.median(times.get(name, 0.0) for times in inner) / 1e3
        rows[name] = {"all": part, "arithmetic": arithmetic, "around": part - arithmetic, "calls": n}
    columns = ("all", "arithmetic", "around", "calls")
    rows["step"] = {column: sum(row[column] for row in rows.values()) for column in columns}
    rows["floor"] = {"all": lowest, "arithmetic": lowest, "around": 0.0, "calls": 0}
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows there, in microseconds")
    args = parser.parse_args()
    rows = measure()
    step = rows["step"]["all"]
    print("share of the step (%)  all  arithmetic  around  Python calls")
    for name, row in rows.items():
        shares = [100 * row[column] / step for column in ("all", "arithmetic", "around")]
        print(f"{name:<21} {shares[0]:4.0f} {shares[1]:11.0f} {shares[2]:7.0f} {row['calls']:13.0f}")
    print(f"a step: {step:.0f} us")
    if args.json:
        args.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
