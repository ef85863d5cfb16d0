"""`python -m distgrad.bench predict`: command line, tables and plot of the model, and how far it is off."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import comm
from .._environment import job
from ..backend import cuda_problem
from ..comm import Topology
from . import _files, _machine, _profile
from ._arguments import counts, joined, names_of, numbers
from ._errors import BenchError
from ._model import Cluster, Fits, Prediction, Record, predict
from ._scaling import Plan, measure_one
from ._start import job_command, run_job
from ._statistics import paired_ratio, summarise
from ._table import ranks_text, table, time_text
from ._workloads import WORKLOADS

TERMS = {
    "cores": "ranks of a node share its cores and memory",
    "stragglers": "all wait for the slowest",
    "latency": "what a collective takes beside the bytes",
    "memory": "bytes inside the nodes",
    "link": "bytes between the nodes",
    "": "none",
}
WIRES = {"float32": 4, "float16": 2, "bfloat16": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `predict`."""
    known = names_of(list(WORKLOADS))
    parser.add_argument("--workloads", type=known, default="mlp,gpt", help=f"of {joined(list(WORKLOADS))}")
    parser.add_argument(
        "--profile", type=Path, nargs="+", help="what an earlier run, or jobs of 1 and of 2 ranks, have measured"
    )
    parser.add_argument("--nodes", type=counts, default="1,2,4,8,16,32,64,128,256")
    parser.add_argument("--ranks-per-node", type=int, help="default: the cores of this machine")
    parser.add_argument("--bucket-mb", type=numbers, default="25", help="such as 1,5,25; they matter with --overlap")
    parser.add_argument("--wire", type=names_of(list(WIRES)), default="float32", help=f"of {joined(list(WIRES))}")
    parser.add_argument("--link-gbit", type=float, default=100.0, help="of a node (default %(default)s)")
    parser.add_argument("--latency-us", type=float, default=5.0, help="between nodes (default %(default)s)")
    parser.add_argument("--overlap", action="store_true", help="reduce buckets during backward")
    parser.add_argument("--floor", type=float, default=80.0, help="the efficiency in %% at which the knee is")
    parser.add_argument("--seconds", type=float, default=3.0, help="to record each workload (default %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--validate", type=counts, metavar="N,N", help="measure jobs of these sizes here, and say how far it is off"
    )
    parser.add_argument("--inside", type=int, default=0, help=argparse.SUPPRESS)  # ranks of the job; 1 is none
    parser.add_argument("--json", type=Path, default=Path("results/predict.json"))
    parser.add_argument("--png", type=Path, help="a plot (default: beside the JSON; needs matplotlib)")
    parser.add_argument("--no-plot", action="store_true")


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Predict; or measure, inside a job."""
    names = args.workloads
    if args.device == "cuda" and (problem := cuda_problem()):
        raise BenchError(f"--device cuda: {problem}")
    if job.in_mpi_job or args.inside:
        return _inside(args, names)
    profile = _load(args.profile) if args.profile else _measure(args)
    fits = _profile.fits_of(profile)
    predictions = [row for name in names for row in predictions_of(args, name, _profile.record_of(profile, name), fits)]
    result: dict[str, Any] = {"profile": profile, "predictions": predictions}
    if args.validate:
        result["validation"] = _validate(args, names, profile)
    _files.publish(args, "predict", result, text_of(result, args.floor / 100), lambda figure: draw(figure, result))
    return 0


# ---- measuring -------------------------------------------------------------------------------------------------------


def _inside(args: argparse.Namespace, names: Sequence[str]) -> int:
    """The part of one job: what a profile, or with --validate a comparison, needs from this number of ranks."""
    group = comm.get_default()
    local = Topology.discover(group).local_size

    def progress(text: str) -> None:
        if group.rank == 0:
            print(f"{ranks_text(group.size)}: {text}", file=sys.stderr, flush=True)

    if args.validate:
        runs = []
        for name in names:
            for bucket in (None, *args.bucket_mb) if args.overlap else (None,):
                progress(f"{name}, {'at the end' if bucket is None else f'buckets of {bucket:g} MiB'}")
                plan = Plan(names, ["weak"], args.seconds, 8, args.device, bucket, bucket is not None, True)
                runs.append(measure_one(group, name, WORKLOADS[name].batch, plan))
        content: dict[str, Any] = {"runs": runs}
    else:
        content = _profile.measure(group, names, args.seconds, args.device, progress)
    if group.rank == 0:
        machine = _machine.describe()
        _files.write(args.json, "part", {"ranks": group.size, "local": local, "machine": machine, **content})
        if not args.inside:
            print(f"written: {args.json}; give it and that of the other size to `predict --profile`", flush=True)
    return 0


def _part(args: argparse.Namespace, ranks: int, folder: Path, more: Sequence[str]) -> dict[str, Any]:
    """Start a job of this size here and read what it measured."""
    file = folder / f"{ranks}.json"
    options = [
        "predict",
        "--workloads",
        joined(args.workloads),
        "--seconds",
        str(args.seconds),
        "--device",
        args.device,
    ]
    options += ["--bucket-mb", joined(args.bucket_mb), "--json", str(file), "--inside", str(ranks), *more]
    if run_job(job_command(ranks, options)):
        raise BenchError(f"the job of {ranks_text(ranks)} failed; see above")
    return _files.read(file, "part")


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    """A profile of this machine, from jobs of one and of two ranks."""
    with tempfile.TemporaryDirectory(prefix="distgrad-bench-") as folder:
        return _profile.merge([_part(args, ranks, Path(folder), []) for ranks in (1, 2)])


def _load(files: Sequence[Path]) -> dict[str, Any]:
    """The profile in a result of `predict`, or in the files of two jobs."""
    if len(files) == 1:
        profile: dict[str, Any] = _files.read(files[0], "predict")["profile"]
        return profile
    return _profile.merge([_files.read(file, "part") for file in files])


def _validate(args: argparse.Namespace, names: Sequence[str], profile: dict[str, Any]) -> list[dict[str, Any]]:
    """Measured steps beside predicted ones.

    A machine's speed drifts. So in every job the step of a single rank is measured in turn with those of all, and the
    prediction, whose unit is that step, is expressed in today's.
    """
    rows = []
    more = ["--validate", joined(args.validate), *(["--overlap"] if args.overlap else [])]
    fits = _profile.fits_of(profile)
    with tempfile.TemporaryDirectory(prefix="distgrad-bench-") as folder:
        for ranks in args.validate:
            for run_ in _part(args, ranks, Path(folder), more)["runs"]:
                bucket = run_["bucket_mb"]
                size = 25 << 20 if bucket is None else round(bucket * 2**20)
                cluster = Cluster(1, ranks, bucket_bytes=size, overlap=run_["overlap"])
                record = _profile.record_of(profile, run_["workload"])
                then = predict(record, fits, Cluster()).step
                drift = summarise(run_["single"]).median / then
                predicted = drift * predict(record, fits, cluster).step
                measured = paired_ratio(run_["with"], run_["single"]).scaled(then * drift)
                rows.append(
                    {
                        "workload": run_["workload"],
                        "ranks": ranks,
                        "bucket_mb": bucket,
                        "overlap": run_["overlap"],
                        "measured": measured.as_json(),
                        "drift": drift,
                        "predicted": predicted,
                        "error": predicted / measured.median - 1,
                    }
                )
    return rows


# ---- predicting ------------------------------------------------------------------------------------------------------


class Variant(NamedTuple):
    """One way to train that is predicted."""

    bucket_mb: float
    wire: str

    @property
    def text(self) -> str:
        """For the plot."""
        return f"{self.wire}, {self.bucket_mb:g} MiB"


def predictions_of(args: argparse.Namespace, name: str, record: Record, fits: Fits) -> list[dict[str, Any]]:
    """A row for each number of nodes, bucket size and wire dtype."""
    variants = [Variant(mb, wire) for mb in args.bucket_mb for wire in args.wire]
    rows = []
    for variant in variants:
        for nodes in args.nodes:
            cluster = Cluster(
                nodes,
                args.ranks_per_node or fits.cores,
                args.link_gbit * 1e9 / 8,
                args.latency_us * 1e-6,
                round(variant.bucket_mb * 2**20),
                WIRES[variant.wire],
                args.overlap,
            )
            rows.append(_row(name, variant, cluster, predict(record, fits, cluster)))
    return rows


def _row(name: str, variant: Variant, cluster: Cluster, prediction: Prediction) -> dict[str, Any]:
    return {
        "workload": name,
        "bucket_mb": variant.bucket_mb,
        "wire": variant.wire,
        "nodes": cluster.nodes,
        "ranks": cluster.ranks,
        "step": prediction.step,
        "exposed": prediction.step - prediction.compute,
        "efficiency": prediction.efficiency,
        "binding": prediction.binding,
        "costs": prediction.costs,
    }


def knee(rows: Sequence[dict[str, Any]], floor: float) -> dict[str, Any] | None:
    """The first row, by ranks, whose efficiency is below the floor; None if all are above."""
    below = [row for row in sorted(rows, key=lambda row: int(row["ranks"])) if row["efficiency"] < floor]
    return below[0] if below else None


def _groups(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, Variant], list[dict[str, Any]]]:
    """The rows of each workload and variant."""
    groups: dict[tuple[str, Variant], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["workload"], Variant(row["bucket_mb"], row["wire"])), []).append(row)
    return groups


def text_of(result: dict[str, Any], floor: float) -> str:
    """Tables of predictions, knees, and where it was validated, the errors."""
    lines = [_machine.sentence(result["profile"]["machine"]), ""]
    rows = [
        [
            row["workload"],
            f"{row['bucket_mb']:g}",
            row["wire"],
            str(row["nodes"]),
            str(row["ranks"]),
            time_text(row["step"]),
            time_text(row["exposed"]),
            f"{100 * row['efficiency']:.1f} %",
            row["binding"] or "none",
        ]
        for row in result["predictions"]
    ]
    head = ["workload", "MiB", "wire", "nodes", "ranks", "a step", "waiting", "efficiency", "binding term"]
    lines += [table(head, rows), ""]
    for (name, variant), found in _groups(result["predictions"]).items():
        row = knee(found, floor)
        if row is None:
            lines.append(f"{name}, {variant.text}: at least {100 * floor:.0f} % up to {found[-1]['ranks']} ranks")
        else:
            cost = time_text(row["costs"].get(row["binding"], 0.0))
            lines.append(
                f"{name}, {variant.text}: the knee is at {row['ranks']} ranks on {row['nodes']} nodes, where "
                f"efficiency falls to {100 * row['efficiency']:.1f} %; {TERMS[row['binding']]}: {cost} of a step"
            )
    if "validation" in result:
        lines += ["", validation_text(result["validation"])]
    return "\n".join(lines)


def validation_text(rows: Sequence[dict[str, Any]]) -> str:
    """Predicted and measured steps, and how far apart they are."""
    cells = [
        [
            row["workload"],
            str(row["ranks"]),
            f"{row['bucket_mb']:g} MiB in backward" if row["overlap"] else "at the end",
            f"{time_text(row['measured']['median'])}",
            f"{time_text(row['measured']['low'])} - {time_text(row['measured']['high'])}",
            time_text(row["predicted"]),
            f"{100 * row['error']:+.1f} %",
        ]
        for row in rows
    ]
    errors = sorted(abs(row["error"]) for row in rows)
    head = ["workload", "ranks", "reduced", "measured", "95 %", "predicted", "error"]
    return (
        table(head, cells) + f"\nerror: median {100 * errors[len(errors) // 2]:.1f} %, largest {100 * errors[-1]:.1f} %"
    )


def draw(figure: Any, result: dict[str, Any]) -> None:
    """Efficiency over ranks for each workload and variant; beside it what was measured over what was predicted."""
    validation = result.get("validation", [])
    axes = figure.subplots(1, 2 if validation else 1, squeeze=False)[0]
    for (name, variant), rows in _groups(result["predictions"]).items():
        ranks, values = [row["ranks"] for row in rows], [100 * row["efficiency"] for row in rows]
        axes[0].plot(ranks, values, marker="o", label=f"{name}, {variant.text}")
    axes[0].set(xscale="log", xlabel="ranks", ylabel="predicted efficiency, %", ylim=(0, 105))
    axes[0].legend()
    axes[0].grid(alpha=0.3)
    if validation:
        for ranks in sorted({row["ranks"] for row in validation}):
            points = [row for row in validation if row["ranks"] == ranks]
            measured = [1e3 * row["measured"]["median"] for row in points]
            axes[1].loglog(measured, [1e3 * row["predicted"] for row in points], "o", label=ranks_text(ranks))
        ends = [f(1e3 * row["measured"]["median"] for row in validation) for f in (min, max)]
        axes[1].loglog(ends, ends, color="grey", linewidth=0.8)
        axes[1].set(xlabel="measured step, ms", ylabel="predicted step, ms")
        axes[1].legend()
