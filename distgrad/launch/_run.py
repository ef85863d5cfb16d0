"""Runs the user's script in this process, as `python script.py` would, with the job's rules around it."""

import faulthandler
import importlib.util
import io
import runpy
import socket
import sys
import traceback
from pathlib import Path

from .. import comm
from .._environment import job
from .._pages import page
from .._shard import remember_trained, trained
from .._snapshot import Snapshot
from .._survivors import Survivors, survive
from ..comm import _abort
from ..comm._last_words import log_to
from ..errors import CommError, LaunchError, PeerLostError
from . import _env
from ._chaos import of_rank, read
from ._log import redirect
from ._request import Request
from ._tag import TaggedStream

_injector = page(f"{__package__}._injector")  # optimizers and all: for `--chaos` alone
_summary = page(f"{__package__}._summary")


def run(request: Request) -> int:
    """Run the script as this rank of the job, or alone.

    Returns:
        0: a script that ends otherwise does not return here.
    """
    if request.inbox is not None:
        _abort.report_to(request.inbox)
    _env.export(request.env)
    _env.export_rank(job, request.timeout, request.stall_warn)
    if request.elastic:
        _env.export([("DISTGRAD_ELASTIC", "1"), ("DISTGRAD_SPARES", str(request.spares))])
    if request.snapshot is not None:
        _go_on_from(request.snapshot, request.lost)
    if request.restart is not None:
        _env.export_restarts(*request.restart)
    if request.log_dir is not None:
        _log_to(request.log_dir, append=request.restart is not None and request.restart[0] > 0)
    if request.is_module:
        _check_module(request.script)
    if not job.in_mpi_job:
        _env.export_master(*_own_address(single_node=True))
        _abort.say_that_it_began()
        _run_alone(request)
        return 0
    faulthandler.enable()  # a crash in native code shows its Python lines
    _reach("init", request)
    _prepare_output(request.tag_output)
    _meet()
    if job.rank == 0:
        _abort.say_that_it_began()
        _say_where_ranks_stay(request)
    _run_as_rank(request)
    return 0


def _reach(phase: str, request: Request) -> None:
    """Come to a phase of `--chaos` outside the script; before it, its steps are listened to as well."""
    if request.chaos is None:
        return
    restart = request.restart[0] if request.restart is not None else 0
    faults = of_rank(read(request.chaos), job.rank, job.world_size, restart)
    injector = _injector.Injector([fault for fault in faults if phase == "start" or fault.phase == phase], job.rank)
    if phase == "start":
        injector.install()
    injector.reach(phase)


def refuse(code: int, text: str) -> None:
    """End the job because no rank, or not this one, can start. Does not return."""
    _abort.refuse(code, text)


def _log_to(directory: str, append: bool) -> None:
    log = redirect(directory, job.rank, append)
    log_to(log.file, log.screens)
    _prepare_output(tag_output=False)


def _go_on_from(address: str, lost: tuple[float, str]) -> None:
    """Keep the states of this rank where the launcher's parent holds them, and go on with those that are there."""
    file = Snapshot.open(address, job.world_size)
    if file is None:
        raise LaunchError(f"expected to reach {address!r}, where the launcher keeps what --elastic needs")
    survive(Survivors(file, job.rank, lost[1], lost[0]))


def _say_where_ranks_stay(request: Request) -> None:
    text = _env.describe_binding(job)
    if text is not None and (request.restart is None or request.restart[0] == 0):
        print(f"distgrad.launch: {text}", file=sys.stderr)


def _meet() -> None:
    """Let the ranks find each other before the script starts.

    From here on every rank can see when another one ends; in MPI's own initialisation it could only wait for it.

    Raises:
        LaunchError: the ranks cannot communicate.
        PeerLostError: one has ended meanwhile; its own end is what there is to tell.
    """
    try:
        world = comm.get_default()
    except PeerLostError:
        raise
    except CommError as error:
        raise LaunchError(str(error)) from error
    single_node = job.local_size == job.world_size
    _env.export_master(*world.broadcast_object(_own_address(single_node) if job.rank == 0 else None))


def _own_address(single_node: bool) -> tuple[str, int]:
    """A name of this host by which the other ranks reach it, and a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return "127.0.0.1" if single_node else socket.gethostname(), probe.getsockname()[1]


def _check_module(name: str) -> None:
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise LaunchError(f"expected a module, but there is no module named {name!r} from {str(Path.cwd())!r}")


def _prepare_output(tag_output: bool) -> None:
    """Let lines appear when they are printed, and whole.

    Through mpirun, Python would hold back blocks of 8 KiB, or with PYTHONUNBUFFERED cut each line into its words.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
    if tag_output:
        sys.stdout = TaggedStream(sys.stdout, f"[{job.rank}] ")
        sys.stderr = TaggedStream(sys.stderr, f"[{job.rank}] ")


def _run_alone(request: Request) -> None:
    sys.excepthook = _abort.show_error
    _execute(request)


def _run_as_rank(request: Request) -> None:
    """Run the script; whatever it ends with but success ends the job.

    The error is caught here and not left to sys.excepthook, which the script may have replaced.
    """
    try:
        if request.inbox is not None:
            remember_trained()
        _execute(request)
    except SystemExit as leaving:
        _leave(leaving)
    except BaseException as error:
        _abort.fail(type(error), error, error.__traceback__)
    if trained() is not None:
        _summary.sum_up()


def _leave(leaving: SystemExit) -> None:
    if leaving.code in (None, 0):
        return
    if isinstance(leaving.code, int):
        place = traceback.extract_tb(leaving.__traceback__)[-1]
        _abort.exit_with(leaving.code & 0xFF, f"exited with status {leaving.code} at {place.filename}:{place.lineno}")
    else:
        _abort.exit_with(1, str(leaving.code))  # sys.exit("message")


def _execute(request: Request) -> None:
    """Run the script, between the phases of `--chaos` around it."""
    _reach("start", request)
    _run_script(request)
    _reach("end", request)


def _run_script(request: Request) -> None:
    sys.argv = [request.script, *request.arguments]
    if request.is_module:
        runpy.run_module(request.script, run_name="__main__", alter_sys=True)
        return
    script = Path(request.script)
    if script.is_file() and not sys.flags.safe_path:
        sys.path[0] = str(script.resolve().parent)  # in place of the directory that `-m distgrad.launch` put there
    runpy.run_path(request.script, run_name="__main__")
