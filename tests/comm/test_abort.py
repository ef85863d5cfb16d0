"""The parts of the abort hook that need no job to end; tests/launch/test_exit_matrix.py does the rest."""

import os
import subprocess
import sys
import time
from types import TracebackType

import pytest

from distgrad._reports import Inbox, Report, open_inbox, with_rank
from distgrad.comm import _abort, _last_words
from distgrad.comm._communicator import Options
from distgrad.comm._last_words import deliver
from distgrad.comm.diagnosis._board import Board, board_bytes
from distgrad.errors import CommTimeoutError, PeerLostError
from tests.jobs import clean_environment

REPORT = Report(2, 1.5, False, 1, "Traceback\n  here\nValueError: cause\n")


def raised_from(cause: BaseException, error: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "secondary"),
    [
        (PeerLostError("rank 2 died"), True),
        (raised_from(PeerLostError("rank 2 died"), RuntimeError("training failed")), True),
        (CommTimeoutError("nobody came"), False),
        (ValueError("mine"), False),
        (raised_from(ValueError("mine"), RuntimeError("training failed")), False),
    ],
)
def test_an_error_about_a_lost_peer_is_secondary(error: BaseException, secondary: bool) -> None:
    assert _abort._is_secondary(error) == secondary


def fail_in(file: str) -> TracebackType | None:
    """The traceback of an error in code from a file of this name."""
    try:
        exec(compile("raise_it()", file, "exec"), {"raise_it": lambda: [][0]})
    except IndexError as error:
        return error.__traceback__ and error.__traceback__.tb_next
    raise AssertionError


@pytest.mark.parametrize(
    ("file", "shown"),
    [("/home/me/train.py", True), ("/x/distgrad/launch/_run.py", False), ("<frozen runpy>", False)],
)
def test_the_launchers_own_frames_are_left_out(file: str, shown: bool) -> None:
    trace = _abort._from_script(fail_in(file))
    assert trace is not None
    assert (trace.tb_frame.f_code.co_filename == file) == shown


def test_an_error_of_communication_shows_the_users_lines_alone() -> None:
    def train() -> None:
        Board(memoryview(bytearray(board_bytes(2))).cast("q"), 0, 2, Options(timeout=0.01)).meet()

    with pytest.raises(CommTimeoutError) as caught:
        train()
    text = _abort._format(caught.value, caught.tb)
    assert "in train" in text and "CommTimeoutError: rank 0 gave up" in text
    assert "_board.py" not in text


def test_nothing_is_installed_outside_a_job() -> None:
    code = "import sys, distgrad; print(sys.excepthook is sys.__excepthook__)"
    result = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True)
    assert result.stdout == "True\n"


def test_every_line_says_its_rank() -> None:
    assert with_rank(REPORT) == "[rank 2] Traceback\n[rank 2]   here\n[rank 2] ValueError: cause\n"


def test_a_report_goes_to_the_parent_where_there_is_one(capfd: pytest.CaptureFixture[str]) -> None:
    inbox = Inbox()
    deliver(REPORT, open_inbox(inbox.address))
    assert inbox.read() == [REPORT]
    assert capfd.readouterr().err == ""
    inbox.close()


def test_a_report_goes_to_the_screen_where_there_is_no_inbox(capfd: pytest.CaptureFixture[str]) -> None:
    closed = os.open(os.devnull, os.O_RDONLY)
    deliver(REPORT, closed)
    deliver(REPORT, None)
    os.close(closed)
    assert capfd.readouterr().err == 2 * with_rank(REPORT)


def test_a_rank_waits_until_its_words_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPICH drops what is still in the pipe when the job is aborted."""
    reader, writer = os.pipe()
    os.write(writer, b"words")
    assert _last_words._unread(writer) == 5
    os.read(reader, 5)
    assert _last_words._unread(writer) == 0
    os.close(reader)
    os.close(writer)
    monkeypatch.setattr(_last_words, "_unread", lambda descriptor: 1)  # nobody reads: not for ever
    monkeypatch.setattr(_last_words, "READER_PATIENCE", 0.05)
    start = time.monotonic()
    _last_words.drain()
    assert 0.05 <= time.monotonic() - start < 20
