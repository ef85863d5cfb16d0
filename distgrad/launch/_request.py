"""What the user asked for: the command line, read and checked."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from .._binding import POLICIES
from ..errors import LaunchError
from . import _chaos, _env
from ._hosts import Allocation, Host, parse_hosts, read_hostfile

_EXAMPLES = """\
examples:
  python -m distgrad.launch train.py --lr 0.1              one process
  python -m distgrad.launch -n 4 train.py --lr 0.1         four ranks on this machine
  mpirun -n 4 python -m distgrad.launch train.py --lr 0.1  the same, for those who write their own mpirun line
  python -m distgrad.launch --hosts a:4,b:4 -m package.train
  python -m distgrad.launch -n auto --max-restarts 3 --log-dir logs train.py
  python -m distgrad.launch --doctor                       what is here, and what is wrong; no script
"""

AUTO = 0  # `-n auto`, before it is known what that means here


class Request(NamedTuple):
    """One call of the launcher."""

    nproc: int | None  # None: this process runs the script itself
    hosts: tuple[Host, ...]
    is_module: bool
    bind: str | None
    env: tuple[tuple[str, str], ...]  # variables for the ranks
    tag_output: bool
    log_dir: str | None
    max_restarts: int
    elastic: bool  # the job goes on without ranks that die
    spares: int  # of the ranks, so many wait for one to die
    timeout: float | None  # seconds
    stall_warn: float | None  # seconds
    chaos: str | None  # the faults that shall strike, as `_chaos.read` reads them
    inbox: str | None  # of a rank: where the parent of `-n` collects last words
    restart: tuple[int, int] | None  # of a rank: how many times the job was started again, and how many times it may be
    snapshot: str | None  # of a rank: where the parent holds what a job that starts again goes on with
    lost: tuple[float, str]  # of a rank: when, and in words why, the job was started again
    doctor: bool  # report on this machine or job, and run no script
    script: str
    arguments: list[str]

    @property
    def starts_a_job(self) -> bool:
        """Whether somebody must start the script and wait for it; one process on this machine runs it as it is."""
        return not self.is_alone or self.max_restarts > 0

    @property
    def is_alone(self) -> bool:
        """Whether there is one process only, here."""
        return not self.hosts and (self.nproc is None or self.nproc + self.spares == 1)


def parse(argv: Sequence[str]) -> Request:
    """Read the launcher's command line.

    Raises:
        LaunchError: a value that cannot be meant, such as `-n 0`, or a script that does not exist.
    """
    given = _parser().parse_args(argv)
    allocation = _env.allocation()
    hosts = _hosts(given)
    nproc, hosts = _places(given, hosts, allocation)
    request = Request(
        nproc=nproc,
        hosts=hosts,
        is_module=given.is_module,
        bind=given.bind,
        env=tuple(map(_variable, given.env)),
        tag_output=given.tag_output,
        log_dir=given.log_dir,
        max_restarts=given.max_restarts,
        elastic=given.elastic,
        spares=given.spares,
        timeout=given.timeout,
        stall_warn=given.stall_warn,
        chaos=given.chaos,
        inbox=given.inbox,
        restart=given.restart,
        snapshot=given.snapshot,
        lost=given.lost,
        doctor=given.doctor,
        script=given.script,
        arguments=given.arguments,
    )
    if request.doctor:
        _check_doctor(request)
    else:
        _check(request)
    return request


def _hosts(given: argparse.Namespace) -> tuple[Host, ...]:
    if given.hosts is not None and given.hostfile is not None:
        raise LaunchError("expected --hosts or --hostfile, got both; leave one out")
    if given.hostfile is not None:
        return read_hostfile(given.hostfile)
    return parse_hosts(given.hosts) if given.hosts is not None else ()


def _places(
    given: argparse.Namespace, hosts: tuple[Host, ...], allocation: Allocation | None
) -> tuple[int | None, tuple[Host, ...]]:
    """How many ranks, and on which hosts; none of these where mpirun need not be told."""
    nproc: int | None = given.nproc
    if given.nproc_per_node is not None:
        if nproc is not None:
            raise LaunchError("expected -n N or --nproc-per-node N, got both; leave one out")
        nproc = given.nproc_per_node
        if hosts or allocation:
            named = hosts or (allocation.hosts if allocation else ())
            hosts = tuple(Host(host.name, nproc or host.slots) for host in named)
            nproc = AUTO
    if not hosts and nproc is not None and allocation is not None and len(allocation.hosts) > 1:
        hosts = allocation.hosts
    if hosts:
        return _ranks_on(hosts, nproc), hosts
    if nproc == AUTO:
        nproc = allocation.slots if allocation else _env.cores()
    return nproc, ()


def _ranks_on(hosts: tuple[Host, ...], nproc: int | None) -> int:
    slots = [host.slots for host in hosts]
    known = [count for count in slots if count is not None]
    if len(known) < len(slots):
        if not nproc:
            unknown = next(host.name for host in hosts if host.slots is None)
            raise LaunchError(
                f"expected -n N with --hosts that have no number of ranks ({unknown!r}), got no -n; "
                f"write -n N, or --hosts {unknown}:N"
            )
        return nproc
    if nproc and nproc > sum(known):
        raise LaunchError(
            f"expected at most -n {sum(known)} on {len(hosts)} hosts with room for {sum(known)} ranks, got -n {nproc}; "
            "raise the numbers after the hosts' names"
        )
    return nproc or sum(known)


def _check_doctor(request: Request) -> None:
    if request.script is not None:
        raise LaunchError(f"expected no script with --doctor, which runs none, got {request.script!r}; leave one out")
    others = {
        "-m": request.is_module,
        "--elastic": request.elastic,
        "--max-restarts": request.max_restarts,
        "--chaos": request.chaos,
        "--log-dir": request.log_dir,
        "--tag-output": request.tag_output,
        "--stall-warn": request.stall_warn,
    }
    for name, is_given in others.items():
        if is_given:
            raise LaunchError(f"expected --doctor without {name}, which is for a script; leave one out")


def _check(request: Request) -> None:
    if request.script is None:
        raise LaunchError("expected a script to run, got none; write `python -m distgrad.launch [-n N] train.py`")
    if request.bind not in (None, "none") and request.nproc is None:
        raise LaunchError(
            f"expected -n N with --bind {request.bind}, got no -n; under your own mpirun set "
            f"DISTGRAD_BIND={request.bind}, or use its own option (--bind-to, -bind-to, srun --cpu-bind)"
        )
    if request.spares and not request.elastic:
        raise LaunchError("expected --spares with --elastic, got it alone: without, nobody takes a dead rank's place")
    if request.spares and request.nproc is None and request.inbox is None:
        raise LaunchError("expected --spares with -n N, got no -n")
    if request.elastic and request.hosts:
        raise LaunchError("expected --elastic on one machine, got --hosts; leave one out")
    if request.log_dir is not None and Path(request.log_dir).exists() and not Path(request.log_dir).is_dir():
        raise LaunchError(f"expected a directory for --log-dir, got the file {request.log_dir!r}; name another")
    if request.chaos is not None:
        _chaos.of_rank(_chaos.read(request.chaos), 0, request.spares + (request.nproc or sys.maxsize))
    if not request.is_module:
        _check_script(Path(request.script))


def _check_script(script: Path) -> None:
    if script.is_dir() and not (script / "__main__.py").is_file():
        raise LaunchError(f"expected a script, got the directory {str(script)!r}, which has no __main__.py")
    if not script.exists():
        hint = "; did you mean `-n N`, with a space and before the script?" if str(script).isdecimal() else ""
        raise LaunchError(f"expected a script, but {str(script)!r} does not exist in {str(Path.cwd())!r}{hint}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m distgrad.launch",
        usage="python -m distgrad.launch [options] script.py [script arguments] | --doctor",
        description="Run a training script: as a rank of the mpirun around it, with -n as a new job, else alone.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_places(parser)
    _add_output(parser)
    _add_faults(parser)
    doctor = "say what is here, what a job would use, and how to mend what is wrong; with -n, hosts or mpirun, of a job"
    parser.add_argument("--doctor", action="store_true", help=doctor)
    # What the parent of `-n` tells the ranks.
    parser.add_argument("--inbox", help=argparse.SUPPRESS)
    parser.add_argument("--restart", type=_restart, help=argparse.SUPPRESS)
    parser.add_argument("--snapshot", help=argparse.SUPPRESS)
    parser.add_argument("--lost", type=_lost, default=(0.0, ""), help=argparse.SUPPRESS)
    parser.add_argument("script", nargs="?", help="the training script, or with -m the module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="handed to the script as they are")
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    auto = "`auto`: as many as the scheduler has granted, or one for each core"
    add("-n", "--nproc", metavar="N", type=_count, help=f"start N ranks through mpirun; {auto}")
    add("--nproc-per-node", "--nproc_per_node", metavar="N", type=_count, help="start N ranks on each host")
    add("--hosts", metavar="HOST:N,...", help="the hosts, and how many ranks on each")
    add("--hostfile", metavar="FILE", help="hosts, one a line: `host`, `host:N` or `host slots=N`")
    add("--bind", choices=POLICIES, metavar="|".join(POLICIES), help="with -n: the cores that each rank stays on")
    add("-x", "--env", metavar="NAME[=VALUE]", action="append", default=[], help="a variable for all ranks")
    add("-m", "--module", dest="is_module", action="store_true", help="script is a module, as with `python -m`")
    # torchrun's, which say what is so anyway
    add("--standalone", action="store_true", help=argparse.SUPPRESS)
    add("--nnodes", type=_one_node, help=argparse.SUPPRESS)


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tag-output", action="store_true", help="begin each line of output with its rank")
    add("--log-dir", "--log_dir", metavar="DIR", help="rank R prints to DIR/rankR.log; the screen has rank 0")


def _add_faults(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    restarts = "start the job again when it fails, up to K times; the script resumes from its checkpoint"
    add("--max-restarts", "--max_restarts", metavar="K", type=_number_of("restarts"), default=0, help=restarts)
    add("--elastic", action="store_true", help="go on when ranks die, with the same bits (see DataLoader.steps)")
    spares = "with --elastic: K more ranks, which wait for one to die and take its place"
    add("--spares", metavar="K", type=_number_of("spare ranks"), default=0, help=spares)
    add("--timeout", metavar="SEC", type=_seconds, help="end the job when a collective takes longer")
    add("--stall-warn", metavar="SEC", type=_seconds, help="say who waits for whom after this time")
    add("--chaos", metavar="FAULTS", help='strike ranks, as a test: "kill@rank=2,step=17; exc@rank=*,step=3"')


class _Parser(argparse.ArgumentParser):
    """argparse, with its complaints raised as LaunchError instead of printed and exited."""

    def error(self, message: str) -> NoReturn:
        raise LaunchError(f"{message}; see `python -m distgrad.launch --help`")


def _count(text: str) -> int:
    if text in ("auto", "cpu"):
        return AUTO
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of ranks, 1 or more, or `auto`, got {text!r}")
    return int(text)


def _one_node(text: str) -> int:
    if text not in ("1", "1:1"):
        raise argparse.ArgumentTypeError(f"expected 1 (name several hosts with --hosts a:4,b:4), got {text!r}")
    return 1


def _number_of(what: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal():
            raise argparse.ArgumentTypeError(f"expected a whole number of {what}, 0 or more, got {text!r}")
        return int(text)

    return read


def _restart(text: str) -> tuple[int, int]:
    count, _, limit = text.partition("/")
    return int(count), int(limit)


def _lost(text: str) -> tuple[float, str]:
    at, _, words = text.partition(" ")
    return float(at), words


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return seconds


def _variable(text: str) -> tuple[str, str]:
    name, has_value, value = text.partition("=")
    if not name.isidentifier():
        raise LaunchError(f"expected --env NAME or --env NAME=VALUE, got {text!r}")
    if has_value:
        return name, value
    inherited = _env.value(name)
    if inherited is None:
        raise LaunchError(f"expected --env {name} to be set here, and it is not; write --env {name}=VALUE")
    return name, inherited
