"""`python -m distgrad.bench allreduce`: the command line, the table and the plot."""

import argparse
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import comm
from .._environment import job
from ..backend import OF_NUMPY, cuda_problem
from ..comm import Communicator, ReduceOp, Topology
from ..comm._mpi import load
from . import _allreduce, _files, _machine
from ._arguments import sizes
from ._contenders import Contender, Gloo, mpi_itself, our_backends
from ._errors import BenchError
from ._start import job_command, run_job
from ._table import ranks_text, size_text, table, time_text

NAMES = ("float16", "bfloat16", "float32", "float64", "int32", "int64")
DTYPES = {dtype.name: dtype for dtype in OF_NUMPY if dtype.name in NAMES}
OPS = {"sum": ReduceOp.SUM, "avg": ReduceOp.AVG, "max": ReduceOp.MAX, "min": ReduceOp.MIN}
SIZES = "4K,16K,64K,256K,1M,4M,16M,25M,64M,256M"
GLOO_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "torch_allreduce.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("-n", "--nproc", type=int, default=2, help="ranks to start here; not used inside a job")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads of each rank that -n starts")
    parser.add_argument(
        "--sizes", type=sizes, default=SIZES, help="bytes of the buffer, such as 64K,1M (default %(default)s)"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--op", choices=OPS, default="avg")
    parser.add_argument(
        "--buffers",
        choices=("shared", "private", "both"),
        default="shared",
        help="buffers that the communicator gave out, as DDP uses them, or any others",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the buffers are")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each, taken in turn (default %(default)s)")
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has torch: compare with its gloo as well")
    parser.add_argument("--json", type=Path, default=Path("results/allreduce.json"))
    parser.add_argument("--png", type=Path, help="a plot (default: beside the JSON; needs matplotlib)")
    parser.add_argument("--no-plot", action="store_true")
    parser.add_argument("--topology", metavar="NxM", help="with -n: take the ranks for N nodes of M, to try it out")


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Measure, inside a job or alone; or start the job that does."""
    if not job.in_mpi_job and args.nproc > 1:
        return run_job(job_command(args.nproc, argv, args.threads, args.topology))
    group = comm.get_default()
    dtype = DTYPES[args.dtype]
    contenders, reasons = _contenders(group, args, dtype)
    try:
        result = _allreduce.run(
            group, contenders, args.sizes, dtype, args.rounds, Topology.discover(group).local_size, lambda text: None
        )
    finally:
        for contender in contenders:
            contender.close()
    if group.rank == 0:
        settings = {"dtype": args.dtype, "op": args.op, "buffers": args.buffers, "device": args.device}
        machine = {**_machine.describe(), "mpi": _mpi_name()}
        result = {**settings, "machine": machine, "unavailable": reasons, **result}
        _files.publish(args, "allreduce", result, text_of(result), lambda figure: draw(figure, result))
    return 0


def _contenders(
    group: Communicator, args: argparse.Namespace, dtype: "np.dtype[Any]"
) -> tuple[list[Contender], dict[str, str]]:
    """Who can take part, and why the others do not."""
    op, on_gpu = OPS[args.op], args.device == "cuda"
    if on_gpu and (problem := cuda_problem()):
        raise BenchError(f"--device cuda: {problem}")
    shared = {"shared": [True], "private": [False], "both": [True, False]}[args.buffers]
    found, reasons = our_backends(group, dtype, op, shared, on_gpu)
    if group.size == 1:
        reasons["MPI"] = "a single process has nobody to communicate with"
    elif args.dtype in ("float16", "bfloat16"):
        reasons["MPI"] = f"no MPI datatype for {args.dtype} works everywhere"
    elif on_gpu:
        reasons["MPI"] = "MPI is given host memory only"
    else:
        found += mpi_itself(group, dtype, op)
    if args.torch is not None:
        found.append(_gloo(group, args))
    return found, reasons


def _gloo(group: Communicator, args: argparse.Namespace) -> Gloo:
    if not GLOO_SCRIPT.exists():
        raise BenchError(f"--torch needs {GLOO_SCRIPT.name} of a source checkout, and there is no {GLOO_SCRIPT}")
    place = group.broadcast_object(_free_place() if group.rank == 0 else None)
    return Gloo([args.torch, str(GLOO_SCRIPT), str(group.rank), str(group.size), *place, args.dtype, args.op])


def _free_place() -> tuple[str, str]:
    with socket.socket() as probe:
        probe.bind(("", 0))
        address = "127.0.0.1" if job.local_size == job.world_size else socket.gethostname()
        return address, str(probe.getsockname()[1])


def _mpi_name() -> str:
    if not job.in_mpi_job:
        return "no MPI"
    return str(load().Get_library_version()).splitlines()[0].strip("\0 ")


def text_of(result: dict[str, Any]) -> str:
    """The result as a table, with what its columns mean."""
    rows = []
    for row in result["rows"]:
        time, speedup = row["seconds"], row.get("speedup")
        rows.append(
            [
                size_text(row["bytes"]),
                row["name"],
                time_text(time["median"]),
                f"{time_text(row['quartiles'][0])} - {time_text(row['quartiles'][1])}",
                f"{row['algbw'] / 1e9:.2f}",
                f"{row['busbw'] / 1e9:.2f}",
                f"{row['memory_share']:.0%}",
                "" if speedup is None else f"{speedup['median']:.2f}",
                "" if speedup is None else f"{speedup['low']:.2f} - {speedup['high']:.2f}",
            ]
        )
    head = ["size", "by", "time", "quartiles", "algbw", "busbw", "memory", "x MPI", "95 %"]
    memory = result["memory"]["bytes_per_second"]["median"]
    lines = [
        f"all-reduce ({result['op']}) of {result['dtype']} on {ranks_text(result['ranks'])}, "
        f"buffers: {result['buffers']}",
        _machine.sentence(result["machine"]),
        f"memory: {memory / 1e9:.1f} GB/s ({result['memory']['method']})",
        "",
        table(head, rows, left=2),
        "",
        "algbw, busbw: GB/s as in nccl-tests. memory: (ranks + 1) x size / time, as a share of the bandwidth above;",
        "what fits into the caches can exceed it. x MPI: how many times as fast as MPI's own in-place Allreduce.",
    ]
    return "\n".join(lines + [f"not measured: {name}: {reason}" for name, reason in result["unavailable"].items()])


def draw(figure: Any, result: dict[str, Any]) -> None:
    """busbw over the size, a line for each contender, and the share of memory bandwidth beside it."""
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(row["name"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["name"] == name]
        sizes = [row["bytes"] for row in rows]
        factor = [row["busbw"] * row["seconds"]["median"] / 1e9 for row in rows]
        left.plot(sizes, [row["busbw"] / 1e9 for row in rows], marker="o", label=name)
        low = [f / row["seconds"]["high"] for f, row in zip(factor, rows, strict=True)]
        high = [f / row["seconds"]["low"] for f, row in zip(factor, rows, strict=True)]
        left.fill_between(sizes, low, high, alpha=0.2)
        right.plot(sizes, [100 * row["memory_share"] for row in rows], marker="o", label=name)
    right.axhline(100, color="grey", linewidth=0.8)
    for axes, label in ((left, "busbw, GB/s"), (right, "% of memory bandwidth")):
        axes.set(xscale="log", yscale="log", xlabel="bytes of the buffer", ylabel=label)
        axes.grid(alpha=0.3)
    left.legend()
    figure.suptitle(f"all-reduce ({result['op']}, {result['dtype']}), {ranks_text(result['ranks'])}")
