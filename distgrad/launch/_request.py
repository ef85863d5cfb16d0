"""What the user asked for: the command line, read and checked."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from ..errors import LaunchError

_EXAMPLES = """\
examples:
  python -m distgrad.launch train.py --lr 0.1              one process
  python -m distgrad.launch -n 4 train.py --lr 0.1         four ranks on this machine
  mpirun -n 4 python -m distgrad.launch train.py --lr 0.1  the same, for those who write their own mpirun line
  python -m distgrad.launch -n 8 --hosts a:4,b:4 -m package.train
"""


class Request(NamedTuple):
    """One call of the launcher."""

    nproc: int | None  # None: this process runs the script itself
    hosts: str | None
    hostfile: str | None
    is_module: bool
    tag_output: bool
    timeout: float | None  # seconds
    stall_warn: float | None  # seconds
    report_dir: str | None
    script: str
    arguments: list[str]

    @property
    def starts_a_job(self) -> bool:
        """Whether mpirun is needed; one process on this machine runs as it is."""
        return self.hosts is not None or self.hostfile is not None or (self.nproc is not None and self.nproc > 1)


def parse(argv: Sequence[str]) -> Request:
    """Read the launcher's command line.

    Raises:
        LaunchError: a value that cannot be meant, such as `-n 0`, or a script that does not exist.
    """
    request = Request(**vars(_parser().parse_args(argv)))
    if request.script is None:
        raise LaunchError("expected a script to run, got none; write `python -m distgrad.launch [-n N] train.py`")
    if (request.hosts or request.hostfile) and request.nproc is None:
        raise LaunchError("expected -n N with --hosts or --hostfile, got no -n; say how many ranks to start")
    if request.hostfile and not Path(request.hostfile).is_file():
        raise LaunchError(f"expected a host file, but {request.hostfile!r} does not exist")
    if not request.is_module:
        _check_script(Path(request.script))
    return request


def _check_script(script: Path) -> None:
    if script.is_dir() and not (script / "__main__.py").is_file():
        raise LaunchError(f"expected a script, got the directory {str(script)!r}, which has no __main__.py")
    if not script.exists():
        hint = "; did you mean `-n N`, with a space and before the script?" if str(script).isdecimal() else ""
        raise LaunchError(f"expected a script, but {str(script)!r} does not exist in {str(Path.cwd())!r}{hint}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m distgrad.launch",
        usage="python -m distgrad.launch [options] script.py [script arguments]",
        description="Run a training script: as a rank of the mpirun around it, with -n as a new job, else alone.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-n", "--nproc", metavar="N", type=_count, help="start N ranks through mpirun")
    parser.add_argument("--hosts", metavar="HOST:N,...", help="with -n: the hosts, and how many ranks on each")
    parser.add_argument("--hostfile", metavar="FILE", help="with -n: a file of hosts in the form that your MPI reads")
    parser.add_argument("-m", dest="is_module", action="store_true", help="script is a module, as with `python -m`")
    parser.add_argument("--tag-output", action="store_true", help="begin each line of output with its rank")
    parser.add_argument("--timeout", metavar="SEC", type=_seconds, help="end the job when a collective takes longer")
    parser.add_argument("--stall-warn", metavar="SEC", type=_seconds, help="say who waits for whom after this time")
    parser.add_argument("--report-dir", help=argparse.SUPPRESS)  # where the parent of `-n` collects last words
    parser.add_argument("script", nargs="?", help="the training script, or with -m the module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="handed to the script as they are")
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse, with its complaints raised as LaunchError instead of printed and exited."""

    def error(self, message: str) -> NoReturn:
        raise LaunchError(f"{message}; see `python -m distgrad.launch --help`")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of ranks, 1 or more, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return seconds
