"""`-n`: starts the job through the right mpirun, waits for it, and shows the first failure last."""

import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

from ..comm._abort import KEYBOARD_INTERRUPT_CODE, die_with_parent
from ..comm._last_words import Report, read_reports, with_rank
from ._mpirun import mpirun_command
from ._request import Request

POLL = 0.2  # seconds between two looks for failures
GRACE = 3.0  # seconds that mpirun has to end the job once a rank has failed


def spawn(request: Request) -> int:
    """Start `request.nproc` ranks and wait for them.

    Returns:
        The status of the rank that failed first, or mpirun's.

    Raises:
        LaunchError: there is no MPI, or no mpirun that belongs to it.
    """
    command = mpirun_command(request)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    with tempfile.TemporaryDirectory(prefix="distgrad-launch-") as directory:
        try:
            code = _run(command + _rank_command(request, directory), Path(directory))
        except _Interrupted as interrupted:
            return _conclude(KEYBOARD_INTERRUPT_CODE, interrupted.reports)
        return _conclude(code, read_reports(Path(directory)))


class _Interrupted(Exception):
    """Ctrl-C came.

    Args:
        reports: what ranks had said before: what they say later is only what Ctrl-C has done to them.
    """

    def __init__(self, reports: list[Report]) -> None:
        super().__init__()
        self.reports = reports


def _rank_command(request: Request, directory: str) -> list[str]:
    """The command line of one rank: this launcher again, inside the job."""
    options = ["--report-dir", directory]
    if request.tag_output:
        options.append("--tag-output")
    if request.timeout is not None:
        options += ["--timeout", str(request.timeout)]
    if request.stall_warn is not None:
        options += ["--stall-warn", str(request.stall_warn)]
    if request.is_module:
        options.append("-m")
    return [sys.executable, "-m", "distgrad.launch", *options, request.script, *request.arguments]


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _run(command: list[str], directory: Path) -> int:
    process = subprocess.Popen(command, preexec_fn=lambda: die_with_parent(signal.SIGTERM))
    threading.Thread(target=_end_when_late, args=(process, directory), daemon=True).start()
    try:
        code = process.wait()  # without a timeout: with one, Python looks only every 50 ms
        return code if code >= 0 else 128 - code
    except KeyboardInterrupt:
        raise _Interrupted(read_reports(directory)) from None
    finally:
        _end(process)


def _end_when_late(process: "subprocess.Popen[bytes]", directory: Path) -> None:
    """End mpirun some time after a rank has failed, should it not end by itself: an MPI may fail to abort."""
    while process.poll() is None:
        if any(directory.glob("rank*.json")):
            time.sleep(GRACE)
            process.kill()
            return
        time.sleep(POLL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave no mpirun behind. At Ctrl-C the terminal has told it already; twice would cut the ranks short."""
    for patience, signal_next in ((0.5, process.terminate), (2.0, process.kill)):
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            signal_next()
    process.wait()


def _conclude(code: int, reports: list[Report]) -> int:
    """Say why the job ended, the cause last, where the eye falls."""
    if reports:
        first, *others = reports
        for report in others:
            if report.text != first.text:
                print(with_rank(report._replace(text=report.text.rstrip().splitlines()[-1])), end="", file=sys.stderr)
        print(with_rank(first), end="", file=sys.stderr)
        return first.code
    if code == KEYBOARD_INTERRUPT_CODE:
        print("distgrad.launch: KeyboardInterrupt", file=sys.stderr)
    elif code != 0:
        print(
            f"distgrad.launch: the job ended with status {code} and no rank left a word: one was killed from outside "
            "(out of memory?), crashed in native code, or called os._exit",
            file=sys.stderr,
        )
    return code
