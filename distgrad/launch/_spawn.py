"""`-n`: starts the job through the right mpirun, waits for it, shows the first failure last, and starts it again."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from operator import attrgetter
from types import FrameType
from typing import NamedTuple

from .._parent_death import die_with_parent
from .._reports import KEYBOARD_INTERRUPT_CODE, Inbox, Report, with_rank
from ..errors import LaunchError
from . import _env
from ._deaths import Death, Deaths
from ._mpirun import goes_on_in_place, mpirun_command
from ._request import Request
from ._revival import Revival

USAGE_ERROR = 2  # the exit status of a command line that cannot work, as argparse and most tools have it
POLL = 0.2  # seconds between two looks for failures
GRACE = 3.0  # seconds that mpirun has to end the job once a rank has failed
_NO_SPARES = (
    "distgrad.launch: --spares is not needed with this MPI, and does nothing: the job starts again with all its ranks"
)
BACKOFF, LONGEST_BACKOFF = 0.5, 30.0  # seconds before the first restart, doubled for each one after it


class Ending(NamedTuple):
    """How one start of the job ended."""

    code: int
    reports: list[Report]  # the cause first
    began: bool  # the ranks had met, as far as can be seen from here
    death: Death | None = None  # of the rank that ended first, where none left a word
    interrupted: bool = False  # by Ctrl-C: what ranks say about that is no cause
    noticed: float | None = None  # when the first rank had ended, in seconds since the epoch
    done: int = 0  # how many ranks have come to the end of their program

    @property
    def cause(self) -> str:
        """Why the job ended, in a line."""
        if self.death is not None and self.unexplained:
            return str(self.death)
        if not self.reports:
            return f"status {self.code}, and no rank left a word"
        return with_rank(self.reports[0]).splitlines()[-1]

    @property
    def victim(self) -> str:
        """Which rank's end ended the job, in words."""
        if self.reports and not self.unexplained:
            return f"rank {self.reports[0].rank} died"
        return "a rank died" if self.death is None else f"rank {self.death.rank} died"

    @property
    def unexplained(self) -> bool:
        """Whether the job failed and no rank says why; that another rank is gone is no reason."""
        return self.code != 0 and all(report.secondary for report in self.reports)

    @property
    def may_restart(self) -> bool:
        """Whether another start can end differently: not after Ctrl-C, a wrong command line, or without any start."""
        return self.began and not self.interrupted and self.status not in (0, USAGE_ERROR, KEYBOARD_INTERRUPT_CODE)

    @property
    def status(self) -> int:
        """The exit status that the user sees: of the rank that failed first, or mpirun's."""
        if self.interrupted:
            return KEYBOARD_INTERRUPT_CODE
        if self.unexplained and self.death is not None and self.death.code is not None:
            return self.death.code or 1
        return self.reports[0].code if self.reports else self.code


def spawn(request: Request) -> int:
    """Start `request.nproc` ranks and wait for them; again when they fail, as often as the request says.

    Returns:
        The status of the rank that failed first, or mpirun's.

    Raises:
        LaunchError: there is no MPI, or no mpirun that belongs to it.
    """
    command = mpirun_command(request)
    environment = _env.of_mpirun(request.env, request.bind)
    _make_log_dir(request.log_dir)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    if request.elastic and not request.is_alone and not goes_on_in_place(request):
        if request.spares:
            print(_NO_SPARES, file=sys.stderr)
        return _spawn_until_done(command, request, environment)
    for restart in itertools.count():
        ending = _start(command, request, restart, environment)
        _conclude(ending, request)
        if restart == request.max_restarts or not ending.may_restart:
            return ending.status
        _wait_before(restart + 1, request.max_restarts, ending.cause)
    raise AssertionError("itertools.count ends never")


def _spawn_until_done(command: list[str], request: Request, environment: Mapping[str, str]) -> int:
    """Start the job, and again from its last step when a rank has died, for as long as it gets on."""
    assert request.nproc is not None  # ranks are on this machine, and more than one
    revival = Revival(request.nproc)
    try:
        for restart in itertools.count():
            ending = _start(command, request, restart, environment, revival)
            if ending.done == request.nproc:
                return 0  # whatever has happened to them since
            if ending.status == 0:
                ending = ending._replace(code=1)  # by os._exit(0) of all ranks
            died = not ending.interrupted and (ending.began or restart > 0)
            error = None if ending.unexplained or not ending.reports else ending.reports[0].text.splitlines()[-1]
            if not died or not revival.revives(ending.victim, ending.noticed or time.time(), error):
                _conclude(ending, request)
                return ending.status
            if error is not None:
                _conclude(ending, request)
    finally:
        revival.close()
    raise AssertionError("itertools.count ends never")


def _make_log_dir(directory: str | None) -> None:
    try:
        if directory is not None:
            os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"expected a --log-dir that can be written to, got {directory!r}: {error}") from error


def _wait_before(restart: int, limit: int, cause: str) -> None:
    delay = min(BACKOFF * 2 ** (restart - 1), LONGEST_BACKOFF)
    print(f"distgrad.launch: restart {restart} of {limit} in {delay:g} s after: {cause}", file=sys.stderr, flush=True)
    time.sleep(delay)


def _start(
    command: list[str],
    request: Request,
    restart: int,
    environment: Mapping[str, str],
    revival: Revival | None = None,
) -> Ending:
    inbox = Inbox()
    in_place = request.elastic and not request.is_alone and revival is None
    try:
        whole = [*command, *_rank_command(request, inbox.address, restart, revival)]
        ending = _run(whole, inbox, environment, bool(request.hosts), in_place)
        summary = inbox.summary()
        if summary is not None and ending.code == 0:
            print(f"distgrad.launch: {summary}", file=sys.stderr)
        return ending
    finally:
        inbox.close()


def _rank_command(request: Request, inbox: str, restart: int, revival: Revival | None = None) -> list[str]:
    """The command line of one rank: this launcher again, inside the job."""
    options = ["--inbox", inbox]
    if request.max_restarts or revival is not None:
        options += ["--restart", f"{restart}/{max(request.max_restarts, restart)}"]
    if request.tag_output:
        options.append("--tag-output")
    if request.log_dir is not None:
        options += ["--log-dir", request.log_dir]
    if request.timeout is not None:
        options += ["--timeout", str(request.timeout)]
    if request.stall_warn is not None:
        options += ["--stall-warn", str(request.stall_warn)]
    if revival is not None:
        options += revival.options
    elif request.elastic:
        options += ["--elastic", "--spares", str(request.spares)]
    if request.chaos is not None:
        options += ["--chaos", request.chaos]
    if request.doctor:
        return [sys.executable, "-m", "distgrad.launch", *options, "--doctor"]
    if request.is_module:
        options.append("-m")
    return [sys.executable, "-m", "distgrad.launch", *options, request.script, *request.arguments]


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _run(
    command: list[str],
    inbox: Inbox,
    environment: Mapping[str, str] | None = None,
    remote: bool = False,
    elastic: bool = False,
) -> Ending:
    parent = os.getpid()
    process = subprocess.Popen(command, env=environment, preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent))
    deaths = Deaths(process.pid, inbox.token)
    look_after = partial(_attend, process, inbox, deaths) if elastic else partial(_end_when_late, process, inbox)
    helper = threading.Thread(target=look_after, daemon=True)
    helper.start()
    try:
        code = process.wait()  # without a timeout: with one, Python looks only every 50 ms
    except KeyboardInterrupt:
        before = inbox.read()
        return Ending(KEYBOARD_INTERRUPT_CODE, before, began=True, interrupted=True)
    finally:
        _end(process)
        first = deaths.first(inbox.done())
        if elastic:
            helper.join()  # it reads the inbox to the end
    if elastic and inbox.done():
        return Ending(0, [], began=True)  # whatever mpirun says about those that have died on the way
    if code == 0 and (first is not None or elastic):
        code = 1  # after os._exit(0) of a rank, MPICH ends the others and may call that a success
    # Ranks of other hosts do not reach the inbox.
    status, began = code if code >= 0 else 128 - code, remote or inbox.job_began()
    noticed, done = deaths.began_to_end, len(inbox.done())
    return Ending(status, inbox.read(), began, first, noticed=noticed, done=done)


def _end_when_late(process: "subprocess.Popen[bytes]", inbox: Inbox) -> None:
    """End mpirun some time after a rank has failed, should it not end by itself: an MPI may fail to abort."""
    while process.poll() is None:
        time.sleep(POLL)
        if process.poll() is None and inbox.read():
            time.sleep(GRACE)
            process.kill()
            return


def _attend(process: "subprocess.Popen[bytes]", inbox: Inbox, deaths: Deaths) -> None:
    """Show the last words of each rank while an elastic job goes on without it; end a job that loses one at its start.

    In MPI's initialisation nobody notices that a rank is missing.
    """
    shown: dict[int, str] = {}
    running = True
    while running:
        running = process.poll() is None
        if running and deaths.any_ended() and not inbox.job_began():
            process.terminate()
        for report in inbox.read():
            if report.rank not in shown:
                known = report.text in shown.values()
                text = report.text.rstrip().splitlines()[-1] if known else report.text
                print(with_rank(report._replace(text=text)), end="", file=sys.stderr, flush=True)
                shown[report.rank] = report.text
        time.sleep(POLL if running else 0)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave no mpirun behind. At Ctrl-C the terminal has told it already; twice would cut the ranks short."""
    for patience, signal_next in ((0.5, process.terminate), (2.0, process.kill)):
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            signal_next()
    process.wait()


def _conclude(ending: Ending, request: Request) -> None:
    """Say why the job ended, the cause last, where the eye falls."""
    told = not request.is_alone and goes_on_in_place(request)  # `_attend` has shown all but the last line
    if ending.reports and told:  # the job has survived all failures but the last
        newest = max(ending.reports, key=attrgetter("time"))
        print(with_rank(newest._replace(text=newest.text.rstrip().splitlines()[-1])), end="", file=sys.stderr)
    elif ending.reports:
        first, *others = ending.reports
        for report in others:
            if report.text != first.text:
                print(with_rank(report._replace(text=report.text.rstrip().splitlines()[-1])), end="", file=sys.stderr)
        print(with_rank(first), end="", file=sys.stderr)
    if ending.status == KEYBOARD_INTERRUPT_CODE and not ending.reports:
        print("distgrad.launch: KeyboardInterrupt", file=sys.stderr)
    elif ending.unexplained and not request.is_alone and (ending.death is not None or not ending.reports):
        where = f"; {request.log_dir}/rank*.log may say more" if request.log_dir is not None else ""
        unknown = (
            f"the job ended with status {ending.code} and no rank left a word: one was killed from outside (out of "
            "memory?), crashed in native code, or called os._exit"
        )
        print(f"distgrad.launch: {ending.death or unknown}{where}", file=sys.stderr)
