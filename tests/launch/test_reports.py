"""What the parent of `-n` says at the end: the cause of it all stands last."""

import json
import signal
import threading
import time
from pathlib import Path

import pytest

from distgrad.comm._last_words import Report, read_reports
from distgrad.launch import _spawn
from distgrad.launch._spawn import _conclude


def report(rank: int, time: float, text: str, *, secondary: bool = False, code: int = 1) -> Report:
    return Report(rank, time, secondary, code, text)


def written(folder: Path, *reports: Report) -> list[Report]:
    for one in reports:
        (folder / f"rank{one.rank}.json").write_text(json.dumps(one))
    (folder / "rank9.part").write_text("[9, ")  # a rank that was ended while it wrote
    return read_reports(folder)


def test_the_cause_comes_before_what_it_caused(tmp_path: Path) -> None:
    lost = report(0, 1.0, "PeerLostError: rank 2 died", secondary=True)
    cause, later = report(2, 2.0, "ValueError: cause"), report(1, 3.0, "ValueError: later")
    assert written(tmp_path, lost, later, cause) == [cause, later, lost]


def test_the_first_failure_is_shown_last_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    first = report(2, 1.0, "Traceback\n  here\nValueError: cause\n", code=5)
    other = report(0, 2.0, "Traceback\n  there\nPeerLostError: rank 2 died\n", secondary=True)
    assert _conclude(1, [first, other]) == 5
    assert capsys.readouterr().err.splitlines() == [
        "[rank 0] PeerLostError: rank 2 died",
        "[rank 2] Traceback",
        "[rank 2]   here",
        "[rank 2] ValueError: cause",
    ]


def test_ranks_that_say_the_same_say_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    _conclude(1, [report(rank, float(rank), "ValueError: shared") for rank in range(3)])
    assert capsys.readouterr().err == "[rank 0] ValueError: shared\n"


@pytest.mark.parametrize(("code", "shown"), [(0, ""), (9, "status 9 and no rank left a word"), (130, "KeyboardInterr")])
def test_without_last_words(code: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _conclude(code, []) == code
    error = capsys.readouterr().err
    assert shown in error and bool(shown) == bool(error)


def test_an_mpirun_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spawn, "GRACE", 0.1)
    written(tmp_path, report(0, 1.0, "ValueError: cause"))
    start = time.monotonic()
    assert _spawn._run(["sleep", "60"], tmp_path) == 128 + signal.SIGKILL
    assert time.monotonic() - start < 10


def test_an_mpirun_without_failures_has_all_the_time_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spawn, "GRACE", 0.0)
    assert _spawn._run(["sh", "-c", "sleep 0.5; exit 7"], tmp_path) == 7


def test_what_ranks_say_after_ctrl_c_is_not_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, report(1, 1.0, "ValueError: cause"))
    monkeypatch.setattr(_spawn, "_end", lambda process: written(tmp_path, report(0, 2.0, "what Ctrl-C did")))
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(_spawn._Interrupted) as caught:
        _spawn._run(["sleep", "2"], tmp_path)
    assert [one.text for one in caught.value.reports] == ["ValueError: cause"]
