"""The command line of all benchmarks."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .._environment import job
from ..comm import _abort
from . import _allreduce_command, _predict_command, _scaling_command
from ._errors import BenchError

USAGE_ERROR = 2


class Command(NamedTuple):
    """One benchmark.

    Args:
        text: what it does.
        add_arguments: declares its options.
        run: is given the options, and the command line that they were read from; returns the exit status.
    """

    text: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Sequence[str]], int]


COMMANDS = {
    "allreduce": Command(
        "time all-reduces of all sizes by every backend, beside MPI's own and torch's gloo",
        _allreduce_command.add_arguments,
        _allreduce_command.run,
    ),
    "scaling": Command(
        "train the same models on more and more ranks, with communication and without",
        _scaling_command.add_arguments,
        _scaling_command.run,
    ),
    "merge": Command(
        "put the results of several `scaling` jobs into one table and plot",
        _scaling_command.add_merge_arguments,
        _scaling_command.run_merge,
    ),
    "predict": Command(
        "predict how training would scale on nodes that are not here, from what one and two ranks show",
        _predict_command.add_arguments,
        _predict_command.run,
    ),
}


def main(argv: Sequence[str]) -> int:
    """Run `python -m distgrad.bench` with these arguments and return its exit status."""
    if job.in_mpi_job:
        _abort.install()
    args = _parser().parse_args(argv)
    try:
        return COMMANDS[args.command].run(args, argv)
    except BenchError as error:
        if job.in_mpi_job:
            _abort.refuse(USAGE_ERROR, f"distgrad.bench: error: {error}")
        print(f"distgrad.bench: error: {error}", file=sys.stderr)
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distgrad.bench",
        description="Measures this machine or cluster. Each benchmark prints a table and writes JSON and a plot.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="benchmark")
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(name, help=command.text, description=command.text, allow_abbrev=False)
        )
    return parser
