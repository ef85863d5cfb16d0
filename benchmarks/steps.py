"""Training steps of distgrad beside torch's and JAX's: in turn, with the same threads, on this machine.

    make bench TORCH=/path/to/python JAX=/path/to/python
    python benchmarks/steps.py --torch /path/to/python --jax /path/to/python
    python benchmarks/steps.py --torch /path/to/python --ranks 2      DDP on both sides
    python benchmarks/steps.py --against main~3                       this tree against an older one of ours

Every library runs in a process of its own, once for each workload, and sleeps while the others are timed. Variables
that force a BLAS kernel are taken away from all. The result is a table of times and of ratios of pairs, JSON, and a
plot. `benchmarks/check.py` compares it with the last recorded one.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from distgrad.bench import _files, _machine
from distgrad.bench._statistics import paired_ratio, summarise
from distgrad.bench._table import ranks_text, table, time_text
from distgrad.bench._workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
WORKER = HERE / "step_worker.py"
OURS = ("distgrad", "distgrad compile")  # the first is the one that the others are compared with
FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
START_SECONDS = 300  # to import and build
ANSWER_SECONDS = 600  # to compile, at most


class BenchmarkError(Exception):
    """A library cannot take part; the message says why."""


class Side(NamedTuple):
    """One library in the comparison.

    Args:
        name: in the table.
        library: what the worker calls it.
        python: the interpreter that has it.
        source: where distgrad is imported from, if this is distgrad.
    """

    name: str
    library: str
    python: str
    source: Path | None = None


class Running:
    """The processes of one side for one workload.

    Args:
        side: the library.
        workload: by name.
        ranks: processes, with DDP between them if there are several.
        threads: of each.
        folder: where the socket is made.
    """

    def __init__(self, side: Side, workload: str, ranks: int, threads: int, folder: Path) -> None:
        path = folder / f"{side.name.replace('/', '_')}-{workload}"
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the processes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen(ranks)
            options = ["--library", side.library, "--workload", workload, "--socket", str(path)]
            options += ["--threads", str(threads), "--ranks", str(ranks)]
            self._processes = [
                subprocess.Popen(command, env=environment(side, threads), stdout=self.log, stderr=subprocess.STDOUT)
                for command in commands(side, options, ranks)
            ]
            self._channels: list[Any] = []
            try:
                for _ in range(ranks):
                    self._channels.append(self._accept(server))
            except BenchmarkError:
                self.close()
                raise

    def _accept(self, server: socket.socket) -> Any:
        server.settimeout(1.0)
        for _ in range(START_SECONDS):
            try:
                connection, _ = server.accept()
            except TimeoutError:
                if any(process.poll() is not None for process in self._processes):
                    raise BenchmarkError(self.last_words()) from None
                continue
            connection.settimeout(ANSWER_SECONDS)
            channel = connection.makefile("rw")
            channel.readline()  # its hello
            return channel
        raise BenchmarkError(f"did not start in {START_SECONDS} s")

    def take(self, steps: int) -> dict[str, float]:
        """Let all ranks take this many steps; the answer of the slowest, with the processor time of all."""
        try:
            for channel in self._channels:
                channel.write(f"{steps}\n")
                channel.flush()
            lines = [channel.readline() for channel in self._channels]
        except TimeoutError:
            raise BenchmarkError(f"gave no answer in {ANSWER_SECONDS} s") from None
        except OSError:
            lines = [""]
        if not all(lines):
            raise BenchmarkError(self.last_words())
        answers = [json.loads(line) for line in lines]
        slowest = max(answers, key=lambda answer: float(answer["seconds"]))
        return {
            **slowest,
            "loss": answers[0]["loss"],
            "processor": sum(answer["processor"] for answer in answers),
            "peak_mib": max(answer["peak_mib"] for answer in answers),
        }

    def last_words(self) -> str:
        """The last line that a process printed."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a word"

    def close(self) -> None:
        """End the processes."""
        for channel in self._channels:
            channel.close()
        patience = 20.0 if self._channels else 0.0
        for process in self._processes:
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.terminate()  # a launcher takes its ranks with it
                process.wait()
        self.log.close()


def commands(side: Side, options: Sequence[str], ranks: int) -> list[list[str]]:
    """What to start: one process for each rank, or a launcher that starts them."""
    worker = [str(WORKER), *options]
    if ranks == 1:
        return [[side.python, *worker]]
    if side.source is not None:
        return [[side.python, "-m", "distgrad.launch", "-n", str(ranks), *worker]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    return [[side.python, *worker, "--rank", str(rank), "--port", port] for rank in range(ranks)]


def environment(side: Side, threads: int) -> dict[str, str]:
    """This one without forced kernels, with the number of threads, and with the right distgrad."""
    kept = {name: value for name, value in os.environ.items() if name not in (*FORCED, "PYTHONPATH")}
    kept.update(dict.fromkeys(THREADS, str(threads)))
    return kept if side.source is None else {**kept, "PYTHONPATH": str(side.source)}


def measure(sides: Sequence[Side], workload: str, args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One workload on all sides that can run it: seconds a step for each round, in turn."""
    running: dict[str, Running] = {}
    rows: list[dict[str, Any]] = []
    try:
        steps: dict[str, int] = {}
        for side in sides:
            try:
                running[side.name] = run = Running(side, workload, args.ranks, args.threads, folder)
                first = run.take(1)["loss"]
                run.take(2)
                steps[side.name] = max(round(args.block / (run.take(3)["seconds"] / 3)), 1)
                rows.append({"workload": workload, "side": side.name, "first_loss": first, "seconds": [], "cores": []})
            except BenchmarkError as error:
                print(f"{workload}: {side.name} left out: {error}", file=sys.stderr, flush=True)
        for turn in range(args.rounds):
            for row in rows if turn % 2 == 0 else reversed(rows):
                n = steps[row["side"]]
                answer = running[row["side"]].take(n)
                row["seconds"].append(answer["seconds"] / n)
                row["cores"].append(answer["processor"] / answer["seconds"])
                row.update(loss=answer["loss"], peak_mib=answer["peak_mib"])
        return rows
    finally:
        for run in running.values():
            run.close()


@contextmanager
def older_tree(revision: str) -> Iterator[Path]:
    """The files of a revision of this repository, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="distgrad-older-") as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=HERE.parent, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def all_sides(args: argparse.Namespace) -> tuple[list[Side], dict[str, str]]:
    """Who takes part, and why the others do not."""
    ours = [name for name in OURS if name == "distgrad" or name not in args.without]
    sides = [Side(name, name, sys.executable, HERE.parent) for name in ours]
    reasons: dict[str, str] = {}
    if args.ranks == 1:
        sides.append(Side("yardstick", "yardstick", sys.executable))
    for name, python, libraries in (
        ("torch", args.torch, ["torch", "torch fused", "torch compile"]),
        ("jax", args.jax, ["jax"]),
    ):
        if not python:
            reasons[name] = f"no --{name}: give a Python that has it"
        elif (problem := import_problem(python, name)) is not None:
            reasons[name] = problem
        elif args.ranks == 1:
            sides += [Side(library, library, python) for library in libraries if library not in args.without]
        elif name == "torch":
            sides.append(Side("torch", "torch", python))  # DDP over gloo
        else:
            reasons[name] = "runs on one rank only here"
    return sides, reasons


def import_problem(python: str, module: str) -> str | None:
    """Why this Python has no such module; None if it has."""
    try:
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["unknown"])[-1]


def versions(sides: Sequence[Side]) -> dict[str, str]:
    """The versions of the libraries of other interpreters."""
    found = {}
    for side in sides:
        module = side.library.partition(" ")[0]
        if module in ("torch", "jax"):
            code = f"import {module}; print({module}.__version__)"
            answer = subprocess.run([side.python, "-c", code], capture_output=True, text=True).stdout.split()
            found[module] = answer[-1] if answer else "?"
    return found


def summary_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each measurement with its median, and with the ratios to it of distgrad's times, eager and compiled."""
    done = []
    for row in rows:
        ours = {r["side"]: r["seconds"] for r in rows if r["workload"] == row["workload"] and r["side"] in OURS}
        if "distgrad" not in ours:
            raise BenchmarkError(f"{row['workload']}: distgrad was left out, and there is nothing to compare with")
        ratios = {name: paired_ratio(seconds, row["seconds"]).as_json() for name, seconds in ours.items()}
        step = summarise(row["seconds"]).as_json()
        done.append({**row, "step": step, "ratio": ratios.pop("distgrad"), "compiled_ratio": ratios.get(OURS[1])})
    return done


def ratio_texts(ratio: dict[str, float] | None) -> tuple[str, str]:
    """A ratio and its interval; nothing where none was measured."""
    return (f"{ratio['median']:.2f}", f"{ratio['low']:.2f} - {ratio['high']:.2f}") if ratio else ("", "")


def text_of(result: dict[str, Any]) -> str:
    """The result as a table."""
    rows = []
    for row in result["rows"]:
        step = row["step"]
        eager, compiled = (None if row["side"] in OURS else row[name] for name in ("ratio", "compiled_ratio"))
        rows.append(
            [
                row["workload"],
                row["side"],
                time_text(step["median"]),
                f"{time_text(step['low'])} - {time_text(step['high'])}",
                *ratio_texts(eager),
                *ratio_texts(compiled),
                f"{summarise(row['cores']).median:.2f}",
                f"{row['peak_mib']:.0f}",
            ]
        )
    head = ["workload", "library", "a step", "95 %", "distgrad/it", "95 %", "compiled/it", "95 %", "cores", "MiB"]
    libraries = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        _machine.sentence(result["machine"]) + (f"; {libraries}" if libraries else ""),
        f"{ranks_text(result['ranks'])}, {result['threads']} BLAS thread(s) each; blocks in turn, medians",
        "",
        table(head, rows, left=2),
        "",
        "distgrad/it: below 1, distgrad is faster; compiled/it: the same for its compiled step.",
        "cores: processor time over time. MiB: peak memory of the process.",
        *(f"not measured: {name}: {reason}" for name, reason in result["unavailable"].items()),
    ]
    return "\n".join(lines)


def draw(figure: Any, result: dict[str, Any]) -> None:
    """A group of bars for each workload: distgrad's time over that of each other library."""
    axes = figure.subplots()
    workloads = list(dict.fromkeys(row["workload"] for row in result["rows"]))
    sides = [s for s in dict.fromkeys(row["side"] for row in result["rows"]) if s not in (*OURS, "yardstick")]
    width = 0.8 / max(len(sides), 1)
    for number, side in enumerate(sides):
        found = {row["workload"]: row["ratio"] for row in result["rows"] if row["side"] == side}
        places = [workloads.index(name) + width * (number - (len(sides) - 1) / 2) for name in found]
        middle = [ratio["median"] for ratio in found.values()]
        errors = [
            [ratio["median"] - ratio["low"] for ratio in found.values()],
            [ratio["high"] - ratio["median"] for ratio in found.values()],
        ]
        heights = [value - 1 for value in middle]  # a bar begins at 1, so that its direction says who is faster
        axes.bar(places, heights, 0.9 * width, bottom=1, yerr=errors, capsize=2, label=side)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(
        yscale="log",
        ylabel="time of distgrad / time of the other",
        title="A training step: below 1, distgrad is faster",
    )
    axes.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["1/4", "1/2", "1", "2", "4", "8"])
    axes.minorticks_off()
    axes.set_xticks(range(len(workloads)), workloads)
    if sides:
        axes.legend()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="a Python that has torch")
    parser.add_argument("--jax", metavar="PYTHON", help="a Python that has jax")
    parser.add_argument("--without", default="", help="sides to leave out, such as 'torch compile'")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--ranks", type=int, default=1, help="with DistributedDataParallel, if more than one")
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--block", type=float, default=0.2, help="seconds of steps that are timed at once")
    parser.add_argument("--against", metavar="REVISION", help="compare with an older state of this repository only")
    parser.add_argument("--json", type=Path, default=HERE.parent / "results" / "steps.json")
    parser.add_argument("--png", type=Path, help="default: beside the JSON")
    parser.add_argument("--no-plot", action="store_true")
    args = parser.parse_args(argv)
    args.without = [name.strip() for name in args.without.split(",")]
    return args


def run(args: argparse.Namespace, sides: Sequence[Side], reasons: dict[str, str]) -> dict[str, Any]:
    """Measure all workloads."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="distgrad-steps-") as folder:
        for workload in args.workloads.split(","):
            print(workload, file=sys.stderr, flush=True)
            rows += measure(sides, workload, args, Path(folder))
    return {
        "machine": _machine.describe(args.threads),
        "versions": versions(sides),
        "ranks": args.ranks,
        "threads": args.threads,
        "unavailable": reasons,
        "rows": summary_rows(rows),
    }


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what the command line asks for."""
    if args.against is None:
        return run(args, *all_sides(args))
    with older_tree(args.against) as older:
        sides = [
            Side("distgrad", "distgrad", sys.executable, HERE.parent),
            Side(args.against, "distgrad", sys.executable, older),
        ]
        return run(args, sides, {})


def main(argv: Sequence[str]) -> int:
    """Measure, print, write, draw."""
    args = parse(argv)
    try:
        result = compare(args)
    except BenchmarkError as error:
        print(f"steps: error: a process ended while it was measured: {error}", file=sys.stderr)
        return 1
    _files.write(args.json, "steps", result)
    print(text_of(result), f"written: {args.json}", sep="\n\n", flush=True)
    if not args.no_plot:
        png = args.png or args.json.with_suffix(".png")
        _files.plot(png, lambda figure: draw(figure, result))
        print(f"plot: {png}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
