"""One library, one workload, one process: started by `benchmarks/steps.py`, whose commands it obeys.

    python step_worker.py --library torch --workload mlp --socket PATH

It connects to the socket and answers every line, a number of steps, with a line of JSON: seconds that they took,
seconds of processor time over all threads, the last loss, and the peak memory of this process so far.
"""

import argparse
import importlib
import importlib.util
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Take = Callable[[int], float]  # takes this many steps; returns the last loss


def load(path: Path) -> Any:
    """A module from a file, without the package around it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torch_like(
    library: Any,
    args: argparse.Namespace,
    wrap: Callable[[Any], Any],
    wrap_step: Callable[[Any], Any] = lambda step: step,
    fused: bool = False,
) -> Take:
    """Steps of a library with torch's names."""
    workloads = load(HERE.parent / "distgrad" / "bench" / "_workloads.py")
    library.manual_seed(args.rank)
    workload = workloads.WORKLOADS[args.workload]
    program = workload.build(library, workload.batch, "cpu")
    model = wrap(program.model)
    optimizer = program.optimizer(model.parameters())
    if fused:
        for group in optimizer.param_groups:
            group["fused"] = True
    train_step = wrap_step(workloads.train_step)

    def take(steps: int) -> float:
        for _ in range(steps):
            loss = train_step(program, model, optimizer)
        return float(loss.item())

    return take


def distgrad(args: argparse.Namespace) -> Take:
    """distgrad, on one rank or on several; eager, or with the step recorded and replayed."""
    library = importlib.import_module("distgrad")
    importlib.import_module("distgrad.nn.functional")
    wrap = library.nn.parallel.DistributedDataParallel if args.ranks > 1 else lambda model: model
    if args.library == "distgrad compile":
        return torch_like(library, args, wrap, wrap_step=library.compile)
    return torch_like(library, args, wrap)


def torch(args: argparse.Namespace) -> Take:
    """torch: eager, with the fused optimizer, or compiled; over gloo on several ranks."""
    library = importlib.import_module("torch")
    library.set_num_threads(args.threads)
    wrap: Callable[[Any], Any] = lambda model: model  # noqa: E731
    if args.ranks > 1:
        place = f"tcp://127.0.0.1:{args.port}"
        library.distributed.init_process_group("gloo", place, rank=args.rank, world_size=args.ranks)
        wrap = library.nn.parallel.DistributedDataParallel
    if args.library == "torch compile":
        wrap = library.compile
    return torch_like(library, args, wrap, fused=args.library == "torch fused")


def jax(args: argparse.Namespace) -> Take:
    """JAX, the whole step jitted."""
    os.environ["NPROC"] = str(args.threads)  # the size of XLA's pool of threads
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false" if args.threads == 1 else ""
    library = importlib.import_module("jax")
    workloads = load(HERE / "jax_workloads.py")
    program = workloads.WORKLOADS[args.workload](workloads.Random())

    def step(parameters: Any, state: Any) -> Any:
        loss, gradients = library.value_and_grad(program.loss)(parameters)
        return *program.update(parameters, state, gradients), loss

    jitted = library.jit(step, donate_argnums=(0, 1))
    held = [library.tree.map(lambda a: a.copy(), tree) for tree in (program.parameters, program.state)]

    def take(steps: int) -> float:
        for _ in range(steps):
            held[0], held[1], loss = jitted(held[0], held[1])
        return float(loss.block_until_ready())

    return take


def yardstick(args: argparse.Namespace) -> Take:
    """The same NumPy work for every workload and for ever, to compare machines and days with."""
    np = importlib.import_module("numpy")
    a, b = np.ones((256, 256), np.float32), np.full((256, 256), 1 / 256, np.float32)
    x, y = np.linspace(-1, 1, 1 << 16, dtype=np.float32), np.ones(1 << 19, np.float32)
    product, exponential, total = np.empty_like(a), np.empty_like(x), np.empty_like(y)

    def take(steps: int) -> float:
        for _ in range(steps):
            for _ in range(4):
                np.matmul(a, b, out=product)
            np.exp(x, out=exponential)
            np.add(y, y, out=total)
        return float(product[0, 0])

    return take


LIBRARIES = {
    "distgrad": distgrad,
    "distgrad compile": distgrad,
    "torch": torch,
    "torch fused": torch,
    "torch compile": torch,
    "jax": jax,
    "yardstick": yardstick,
}


def obey(channel: Any, take: Take) -> None:
    """Answers until the other side hangs up."""
    for line in channel:
        steps = int(line)
        started, busy = time.perf_counter(), time.process_time()
        loss = take(steps)
        answer = {
            "seconds": time.perf_counter() - started,
            "processor": time.process_time() - busy,
            "loss": loss,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        channel.write(json.dumps(answer) + "\n")
        channel.flush()


def main() -> None:
    """Builds the workload, says hello, and obeys."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=LIBRARIES, required=True)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--rank", type=int, default=int(os.environ.get("RANK", 0)))
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    take = LIBRARIES[args.library](args)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(args.socket)
        with connection.makefile("rw") as channel:
            channel.write(json.dumps({"rank": args.rank}) + "\n")
            channel.flush()
            obey(channel, take)
    sys.stdout.flush()
    if args.library.startswith("torch") and args.ranks > 1:
        importlib.import_module("torch").distributed.destroy_process_group()


if __name__ == "__main__":
    main()
