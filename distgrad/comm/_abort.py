"""An MPI job ends when one of its ranks does: uncaught errors are shown with their rank, then the whole job is aborted.

Without this, mpi4py finalizes MPI at the exit of a rank that raised, and that waits for peers which wait for this rank:
the job hangs for ever on both MPICH and Open MPI.
"""

import atexit
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import NoReturn

from .._environment import job, pmi_descriptor, raise_at_interrupt, tell_hydra
from .._parent_death import die_with_parent
from .._reports import KEYBOARD_INTERRUPT_CODE, Report, open_inbox, post_beginning, post_done, post_summary
from ..errors import BackendUnavailableError, CommError, CommTimeoutError, PeerLostError
from . import _mpi_files
from ._last_words import deliver, drain

# A rank whose error only says that a peer is gone lets that peer speak first, and is normally ended while it waits.
HEAD_START = 0.3  # seconds
STAGGER = 0.05  # seconds a rank: of errors that all ranks raise at once, one block is shown and not all of them

JOIN_PATIENCE = 0.5  # seconds for MPI_Init, when the other ranks may be waiting in it

_LAUNCHER_FRAMES = (f"{os.sep}distgrad{os.sep}launch{os.sep}", "<frozen runpy>", f"{os.sep}runpy.py")
_COMM_FRAMES = os.path.dirname(os.path.abspath(__file__)) + os.sep


@dataclass
class _Hooks:
    """What is set up in this process."""

    owner: int = 0  # process id: a forked child inherits the hooks but must not end its parent's job
    inbox: int | None = None  # descriptor: the launcher's parent reads it
    join: Callable[[], None] | None = None
    on_leave: list[Callable[[], str | None]] = field(default_factory=list)
    settle: Callable[[], bool] | None = None  # in an elastic job, which goes on when a rank ends


_hooks = _Hooks()


def install() -> None:
    """Make this rank's uncaught errors, in any thread, end its MPI job; does nothing outside a job or when repeated."""
    if not job.in_mpi_job or _hooks.owner == os.getpid():
        return
    _hooks.owner = os.getpid()
    sys.excepthook = fail
    threading.excepthook = _fail_in_thread
    raise_at_interrupt()
    atexit.register(_leave)
    if job.kind in ("hydra", "openmpi"):
        die_with_parent()
        _mpi_files.guard()


def report_to(address: str) -> None:
    """Leave last words in the inbox of the launcher's parent, which shows the first failure last, if it is in reach."""
    _hooks.inbox = open_inbox(address)


def say_that_it_began() -> None:
    """Let the launcher's parent know that the ranks have met: from now on, a failure is not one of starting."""
    if _hooks.inbox is not None:
        post_beginning(_hooks.inbox)


def sum_up(text: str) -> None:
    """Let the launcher's parent show a line about the whole run, when it has ended well."""
    if _hooks.inbox is not None:
        post_summary(text, _hooks.inbox)


def on_leave(callback: Callable[[], str | None]) -> None:
    """Call `callback` when this rank leaves in peace; a sentence that it returns (a peer still waits) ends the job."""
    _hooks.on_leave.append(callback)


def survive(settle: Callable[[], bool]) -> None:
    """From now on a failing rank ends itself and not the job; who ends in peace calls `settle`, to wait for all.

    Where that returns False, others have not waited for the same: this rank has ended too early.
    """
    _hooks.settle = settle


def join_with(callback: Callable[[], None]) -> None:
    """Call `callback` when this rank ends without ever having met the others: it lets them out of MPI_Init.

    There they would wait for this rank for ever, or leave MPI's shared memory behind when they are ended.
    """
    _hooks.join = callback


@contextmanager
def end_after(seconds: float) -> Iterator[None]:
    """End this process, with its stack on the screen, if the block takes longer: for MPI_Init, which waits for ranks.

    Nothing in Python can do it then, since mpi4py holds the lock of the interpreter.
    """
    if sys.__stderr__ is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def fail(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an uncaught error with its rank and end the job; a `sys.excepthook`."""
    _fail(error, trace, where="")


def _fail_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit):
        return  # as in plain Python, SystemExit ends the thread alone
    name = args.thread.name if args.thread else "?"
    _fail(args.exc_value, args.exc_traceback, where=f"in thread {name}: ")


def _fail(error: BaseException, trace: TracebackType | None, where: str) -> None:
    if os.getpid() != _hooks.owner:
        sys.__excepthook__(type(error), error, trace)
        return
    secondary = _is_secondary(error)
    if secondary:
        time.sleep(HEAD_START)
    if isinstance(error, CommError):
        _take_turns()
    if isinstance(error, CommTimeoutError):
        _hooks.settle = None  # who hangs would never end: an elastic job ends, too
    if isinstance(error, KeyboardInterrupt):  # all ranks get it; where each of them was is of no use
        exit_with(KEYBOARD_INTERRUPT_CODE, "KeyboardInterrupt")
    _end_job(Report(job.rank, time.time(), secondary, 1, where + _format(error, _from_script(trace))))


def _format(error: BaseException, trace: TracebackType | None) -> str:
    """The traceback as Python prints it; without our inner frames where the error says all that they could tell."""
    shown = traceback.TracebackException(type(error), error, trace)
    if isinstance(error, CommError):
        frames = [frame for frame in shown.stack if not frame.filename.startswith(_COMM_FRAMES)]
        shown.stack = traceback.StackSummary.from_list(frames)
    return "".join(shown.format())


def _is_secondary(error: BaseException | None) -> bool:
    """Whether the error, or one that it was raised from, says no more than that a peer is gone."""
    while error is not None:
        if isinstance(error, PeerLostError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _from_script(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's script on: the launcher's own frames teach nothing."""
    while trace is not None and any(part in trace.tb_frame.f_code.co_filename for part in _LAUNCHER_FRAMES):
        trace = trace.tb_next
    return trace


def exit_with(code: int, text: str) -> None:
    """End the job because this rank ends with a status other than 0; `text` says how. Does not return."""
    _end_job(Report(job.rank, time.time(), False, code, text))


def refuse(code: int, text: str) -> None:
    """End the job because no rank, or not this one, can start. Does not return."""
    _take_turns()
    exit_with(code, text)


def _take_turns() -> None:
    """Wait a little, by rank: the first rank's words end the job, and the others, who have the same to say, with it."""
    time.sleep(min(STAGGER * job.rank, HEAD_START))


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an uncaught error as Python does, without the launcher's own frames; a `sys.excepthook`."""
    trace = _from_script(trace)
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _end_job(report: Report) -> None:
    """Publish a rank's last words, then end all ranks with its status. Does not return."""
    deliver(report, _hooks.inbox)
    stop(report.code)


def _die() -> NoReturn:
    """End this rank alone, in the only way that Open MPI surely notices."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives SIGKILL")


def _leave_the_living() -> NoReturn:
    """End this rank, which has come to its end, without MPI_Finalize: the dead would be waited for."""
    assert _hooks.settle is not None
    if not _hooks.settle():
        exit_with(1, "came to the end of its program while others waited for it; they go on without this rank")
    if _hooks.inbox is not None:
        post_done(job.rank, _hooks.inbox)
    drain()
    os._exit(0)


def stop(code: int) -> None:
    """End every rank of the job with this status, at once and without another word. Does not return."""
    drain()
    if _hooks.settle is not None:
        _die()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # MPI_Abort's own message would push the traceback off the last lines
    os.dup2(silence, 2)
    if not _in_mpi() and tell_hydra(pmi_descriptor, code):
        time.sleep(2)  # its signal comes within milliseconds
    if not _in_mpi():
        joining = threading.Thread(target=_try_to_join, daemon=True)
        joining.start()
        joining.join(JOIN_PATIENCE)
    if _in_mpi():
        sys.modules["mpi4py.MPI"].COMM_WORLD.Abort(code)
    os._exit(code)


def _try_to_join() -> None:
    with suppress(Exception):  # the job ends in any case, and its reason is told already
        _join()


def _join() -> None:
    if _hooks.join is not None and not _in_mpi():
        _hooks.join()


def _in_mpi() -> bool:
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and bool(mpi.Is_initialized()) and not mpi.Is_finalized()


def _leave() -> None:
    """At exit: end the job if the script failed behind our hook, or if a peer waits for this rank."""
    if os.getpid() != _hooks.owner:
        return
    if sys.excepthook is not fail and getattr(sys, "last_value", None) is not None:
        stop(1)  # the script failed, and whoever replaced our hook has shown the error
    if _hooks.settle is not None:
        _leave_the_living()
    try:
        problem = _say_goodbye()
    except Exception as error:  # Python would ignore it, and then wait in MPI_Finalize
        fail(type(error), error, error.__traceback__)
    else:
        if problem:
            _end_job(Report(job.rank, time.time(), False, 1, problem))
        if _hooks.inbox is not None:
            post_done(job.rank, _hooks.inbox)


def _say_goodbye() -> str | None:
    with suppress(BackendUnavailableError):  # then nobody waits for us in MPI_Init either
        _join()
    problems = [callback() for callback in _hooks.on_leave]
    return next((problem for problem in problems if problem), None)
