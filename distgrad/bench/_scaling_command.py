"""`python -m distgrad.bench scaling` and `merge`: command lines, the table and the plot."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import comm
from .._environment import job
from ..backend import cuda_problem
from ..comm import Topology
from . import _files, _machine
from ._arguments import counts, joined, names_of
from ._errors import BenchError
from ._scaling import Plan, efficiency, measure, scaling
from ._start import job_command, run_job
from ._statistics import Summary, summarise
from ._table import ranks_text, table, time_text
from ._workloads import WORKLOADS

KEY = ("workload", "mode", "ranks", "ranks_per_node", "bucket_mb", "overlap", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `scaling`."""
    parser.add_argument(
        "-n",
        "--nproc",
        type=counts,
        default="1,2",
        help="sizes of the jobs to start here, such as 1,2,4; not used inside a job",
    )
    known = names_of(list(WORKLOADS))
    parser.add_argument("--workloads", type=known, default="mlp,cnn,gpt", help=f"of {joined(list(WORKLOADS))}")
    parser.add_argument("--modes", type=names_of(["weak", "strong"]), default="weak,strong")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each workload and mode (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="blocks of steps of each side (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="go through the sizes of -n this often")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads of each rank that -n starts")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--bucket-mb", type=float, help="of DistributedDataParallel, instead of its own choice")
    parser.add_argument("--overlap", action="store_true", help="reduce during backward")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # the job that -n has started
    _add_outputs(parser, "scaling")


def add_merge_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merge`."""
    parser.add_argument("files", nargs="+", type=Path, help="JSON of `scaling`, from jobs of any sizes")
    _add_outputs(parser, "scaling-merged")


def _add_outputs(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--json", type=Path, default=Path(f"results/{name}.json"))
    parser.add_argument("--png", type=Path, help="a plot (default: beside the JSON; needs matplotlib)")
    parser.add_argument("--no-plot", action="store_true")


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Measure, inside a job; or start one job after another that does, and merge what they found."""
    if args.device == "cuda" and (problem := cuda_problem()):
        raise BenchError(f"--device cuda: {problem}")
    if job.in_mpi_job or args.inside:
        return _measure_here(args)
    with tempfile.TemporaryDirectory(prefix="distgrad-bench-") as folder:
        files = []
        for turn in range(args.repeat):
            for ranks in args.nproc:
                files.append(Path(folder) / f"{turn}-{ranks}.json")
                status = run_job(job_command(ranks, _inner_arguments(args, files[-1]), args.threads))
                if status:
                    print(f"distgrad.bench: the job of {ranks_text(ranks)} failed", file=sys.stderr)
                    return status
        return _conclude(merge([_files.read(file, "scaling") for file in files]), args)


def run_merge(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Put the results of several jobs into one table and plot."""
    return _conclude(merge([_files.read(file, "scaling") for file in args.files]), args)


def _inner_arguments(args: argparse.Namespace, file: Path) -> list[str]:
    """The command line of a job that `-n` starts."""
    options = [
        "--workloads",
        joined(args.workloads),
        "--modes",
        joined(args.modes),
        "--device",
        args.device,
        "--json",
        str(file),
    ]
    options += ["--seconds", str(args.seconds), "--rounds", str(args.rounds), "--no-plot", "--inside"]
    options += ["--overlap"] if args.overlap else []
    return ["scaling", *options, *([] if args.bucket_mb is None else ["--bucket-mb", str(args.bucket_mb)])]


def _measure_here(args: argparse.Namespace) -> int:
    """One job's part; rank 0 writes the file."""
    group = comm.get_default()
    local_size = Topology.discover(group).local_size

    def progress(text: str) -> None:
        if group.rank == 0:
            print(f"{ranks_text(group.size)}: {text}", file=sys.stderr, flush=True)

    plan = Plan(args.workloads, args.modes, args.seconds, args.rounds, args.device, args.bucket_mb, args.overlap)
    result = measure(group, local_size, plan, progress)
    if group.rank > 0:
        return 0
    result = {"machines": [{**_machine.describe(), "backends": [group.name]}], **result}
    if args.inside:
        _files.write(args.json, "scaling", result)
        return 0
    return _conclude(result, args)


def merge(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result from those of several jobs: runs of the same workload, mode and ranks become one."""
    runs: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in (run for result in results for run in result["runs"]):
        key = tuple(run[name] for name in KEY)
        if key in runs:
            before = runs[key]
            runs[key] = {
                **before,
                "with": before["with"] + run["with"],
                "without": before["without"] + run["without"],
            }
        else:
            runs[key] = run
    skipped = {name: reason for result in results for name, reason in result["skipped"].items()}
    machines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for machine in (machine for result in results for machine in result["machines"]):
        known = machines.setdefault(tuple(machine[name] for name in ("cpu", "cores", "python", "numpy")), machine)
        known["backends"] = sorted({*known["backends"], *machine["backends"]})
    return {"machines": list(machines.values()), "runs": list(runs.values()), "skipped": skipped}


def rows_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What the runs mean, in the order of workload, mode and ranks."""
    rows = []
    for run in sorted(result["runs"], key=lambda run: (run["workload"], run["mode"] != "weak", run["ranks"])):
        alike = [
            other
            for other in result["runs"]
            if all(other[name] == run[name] for name in ("workload", "mode", "bucket_mb", "overlap", "device"))
        ]
        smallest = min(alike, key=lambda other: int(other["ranks"]))
        growth = 1.0 if run["mode"] == "weak" else smallest["ranks"] / run["ranks"]
        step = summarise(run["with"])
        rows.append(
            {
                **{name: run[name] for name in (*KEY, "batch")},
                "step": step,
                "alone": summarise([sum(everyone) / len(everyone) for everyone in run["without"]]),
                "efficiency": efficiency(run["with"], run["without"]),
                "scaling": scaling(summarise(smallest["with"]), step, growth),
                "of": smallest["ranks"],
            }
        )
    return rows


def _conclude(result: dict[str, Any], args: argparse.Namespace) -> int:
    _files.publish(args, "scaling", result, text_of(result), lambda figure: draw(figure, result))
    return 0


def text_of(result: dict[str, Any]) -> str:
    """The result as a table, with what its columns mean."""
    rows = [
        [
            row["workload"],
            row["mode"],
            str(row["ranks"]),
            str(row["batch"]),
            _interval(row["step"], time_text),
            time_text(row["alone"].median),
            _interval(row["efficiency"], _percent),
            "" if row["ranks"] == row["of"] else _interval(row["scaling"], _percent),
        ]
        for row in rows_of(result)
    ]
    head = ["workload", "mode", "ranks", "batch", "a step", "alone", "of alone", "of smallest"]
    lines = [_machine.sentence(machine) + f"; {', '.join(machine['backends'])}" for machine in result["machines"]]
    lines += ["", table(head, rows, left=2), ""]
    lines += [
        "batch: samples a rank and step. a step: with communication, the slowest rank; median (95 % interval).",
        "alone: the same processes at the same time, each by itself. of alone: samples per second with communication",
        "over those without, in turn. of smallest: efficiency over the smallest job.",
    ]
    return "\n".join(lines + [f"not measured: {name}: {reason}" for name, reason in result["skipped"].items()])


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(value: Summary, text: Any) -> str:
    return f"{text(value.median)} ({text(value.low)} - {text(value.high)})"


def draw(figure: Any, result: dict[str, Any]) -> None:
    """Efficiency over the number of ranks: weak scaling beside strong scaling."""
    rows = rows_of(result)
    modes = [mode for mode in ("weak", "strong") if any(row["mode"] == mode for row in rows)]
    for axes, mode in zip(figure.subplots(1, len(modes), squeeze=False)[0], modes, strict=True):
        for number, name in enumerate(dict.fromkeys(row["workload"] for row in rows)):
            line = [row for row in rows if row["workload"] == name and row["mode"] == mode]
            ranks = [row["ranks"] for row in line]
            for key, style, label in (("scaling", "-", name), ("efficiency", ":", None)):
                values = [row[key] for row in line]
                middle = [100 * value.median for value in values]
                errors = [
                    [100 * (value.median - value.low) for value in values],
                    [100 * (value.high - value.median) for value in values],
                ]
                axes.errorbar(ranks, middle, errors, fmt="o" + style, color=f"C{number}", label=label, capsize=3)
        axes.axhline(100, color="grey", linewidth=0.8)
        axes.set(title=f"{mode} scaling", xlabel="ranks", ylabel="efficiency, %", xscale="log", ylim=(0, None))
        axes.set_xticks(
            sorted({row["ranks"] for row in rows}), [str(n) for n in sorted({row["ranks"] for row in rows})]
        )
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(title="solid: over the smallest job\ndotted: over no communication")
