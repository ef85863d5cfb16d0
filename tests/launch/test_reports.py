"""What the parent of `-n` says at the end: the cause of it all stands last."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from distgrad._reports import Inbox, Report, open_inbox, post
from distgrad.launch import _spawn
from distgrad.launch._request import parse
from distgrad.launch._spawn import Ending, _conclude


def report(rank: int, time: float, text: str, *, secondary: bool = False, code: int = 1) -> Report:
    return Report(rank, time, secondary, code, text)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.close()


def leave(inbox: Inbox, *reports: Report) -> None:
    descriptor = open_inbox(inbox.address)
    assert descriptor is not None
    assert all(post(one, descriptor) for one in reports)
    os.close(descriptor)


def conclude(code: int, *reports: Report, log_dir: str | None = None) -> int:
    """Say why a job of two ranks ended; returns the status."""
    ending = Ending(code, list(reports), began=True)
    _conclude(ending, parse(["-n", "2", __file__])._replace(log_dir=log_dir))
    return ending.status


def test_the_cause_comes_before_what_it_caused(inbox: Inbox) -> None:
    lost = report(0, 1.0, "PeerLostError: rank 2 died", secondary=True)
    cause, later = report(2, 2.0, "ValueError: cause"), report(1, 3.0, "ValueError: later")
    leave(inbox, lost, later, cause)
    assert inbox.read() == [cause, later, lost]


def test_the_first_failure_is_shown_last_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    first = report(2, 1.0, "Traceback\n  here\nValueError: cause\n", code=5)
    other = report(0, 2.0, "Traceback\n  there\nPeerLostError: rank 2 died\n", secondary=True)
    assert conclude(1, first, other) == 5
    assert capsys.readouterr().err.splitlines() == [
        "[rank 0] PeerLostError: rank 2 died",
        "[rank 2] Traceback",
        "[rank 2]   here",
        "[rank 2] ValueError: cause",
    ]


def test_ranks_that_say_the_same_say_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    conclude(1, *(report(rank, float(rank), "ValueError: shared") for rank in range(3)))
    assert capsys.readouterr().err == "[rank 0] ValueError: shared\n"


@pytest.mark.parametrize(("code", "shown"), [(0, ""), (9, "status 9 and no rank left a word"), (130, "KeyboardInterr")])
def test_without_last_words(code: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude(code) == code
    error = capsys.readouterr().err
    assert shown in error and bool(shown) == bool(error)


def test_without_last_words_the_logs_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    conclude(9, log_dir="logs")
    assert "logs/rank*.log may say more" in capsys.readouterr().err


def test_an_mpirun_that_does_not_end_is_ended(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spawn, "GRACE", 0.1)
    leave(inbox, report(0, 1.0, "ValueError: cause"))
    start = time.monotonic()
    assert _spawn._run(["sleep", "60"], inbox).code == 128 + signal.SIGKILL
    assert time.monotonic() - start < 10


def test_an_mpirun_without_failures_has_all_the_time_it_wants(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spawn, "GRACE", 0.0)
    assert _spawn._run(["sh", "-c", "sleep 0.5; exit 7"], inbox) == Ending(7, [], began=False)


def test_what_ranks_say_after_ctrl_c_is_not_the_cause(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(inbox, report(1, 1.0, "ValueError: cause"))
    monkeypatch.setattr(_spawn, "_end", lambda process: leave(inbox, report(0, 2.0, "what Ctrl-C did")))
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    ending = _spawn._run(["sleep", "2"], inbox)
    assert [one.text for one in ending.reports] == ["ValueError: cause"]
    assert ending.status == 130 and not ending.may_restart


def test_nobody_reads_the_inbox_after_ctrl_c(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed then: who looks after an elastic job has ended, too."""
    monkeypatch.setattr(_spawn, "POLL", 0.5)
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    before = set(threading.enumerate())
    assert _spawn._run(["sleep", "0.3"], inbox, elastic=True).interrupted
    timer.join()
    assert set(threading.enumerate()) <= before


CAUSE = report(2, 1.0, "Traceback\nValueError: cause")


@pytest.mark.parametrize(
    ("ending", "again"),
    [
        (Ending(0, [], began=True), False),
        (Ending(1, [CAUSE], began=True), True),
        (Ending(9, [], began=True), True),  # killed
        (Ending(1, [], began=False), False),  # mpirun could not start the ranks
        (Ending(2, [report(0, 1.0, "distgrad.launch: error: expected", code=2)], began=True), False),
        (Ending(130, [CAUSE], began=True, interrupted=True), False),
        (Ending(130, [report(0, 1.0, "KeyboardInterrupt", code=130)], began=True), False),
    ],
)
def test_what_is_started_again(ending: Ending, again: bool) -> None:
    assert ending.may_restart == again


class Starts:
    """Stands for the job: ends as told, and counts."""

    def __init__(self, *endings: Ending) -> None:
        self.endings = endings
        self.restarts: list[int] = []

    def __call__(self, command: object, request: object, restart: int, environment: object) -> Ending:
        self.restarts.append(restart)
        return self.endings[min(restart, len(self.endings) - 1)]


@pytest.mark.parametrize(
    ("endings", "restarts", "code"),
    [
        ([Ending(0, [], True)], [0], 0),
        ([Ending(1, [CAUSE], True), Ending(0, [], True)], [0, 1], 0),
        ([Ending(1, [CAUSE], True)], [0, 1, 2], 1),
        ([Ending(1, [CAUSE], True), Ending(2, [], True)], [0, 1], 2),
    ],
)
def test_restarts(
    endings: list[Ending],
    restarts: list[int],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    starts, waits = Starts(*endings), list[float]()
    monkeypatch.setattr(_spawn, "_start", starts)
    monkeypatch.setattr(_spawn, "mpirun_command", lambda request: [])
    monkeypatch.setattr(_spawn.time, "sleep", waits.append)
    monkeypatch.setattr(_spawn.signal, "signal", lambda number, handler: None)
    assert _spawn.spawn(parse(["-n", "3", "--max-restarts", "2", __file__])) == code
    assert starts.restarts == restarts
    assert waits == [0.5, 1.0][: len(restarts) - 1]
    told = [line for line in capsys.readouterr().err.splitlines() if "restart" in line]
    expected = "distgrad.launch: restart {} of 2 in {:g} s after: [rank 2] ValueError: cause"
    assert told == [expected.format(restart, wait) for restart, wait in zip(restarts[1:], waits, strict=True)]
