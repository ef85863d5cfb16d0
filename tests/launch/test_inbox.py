"""The inbox of the launcher's parent: what ranks leave in it is read in order, and nothing else is ever written to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distgrad import _reports
from distgrad._reports import Inbox, Report, is_gone, open_inbox, post, post_beginning, post_done, post_summary
from tests.jobs import clean_environment

LATE, EARLY = Report(0, 2.0, False, 1, "later\nlines"), Report(3, 1.0, False, 3, "é first")
LOST = Report(1, 0.5, True, 1, "PeerLostError")


@pytest.fixture(params=["memfd", "file"])
def inbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Inbox:
    """Without a name, and as a temporary file where the system has no such thing."""
    if request.param == "file":
        monkeypatch.setattr(_reports.sys, "platform", "darwin")
        monkeypatch.setattr(_reports, "_FOLDER", str(tmp_path))
    return Inbox()


def test_the_cause_is_read_first(inbox: Inbox) -> None:
    assert inbox.read() == []
    for report in (LOST, LATE, EARLY):
        descriptor = open_inbox(inbox.address)
        assert descriptor is not None and post(report, descriptor)
        os.close(descriptor)
    assert inbox.read() == [EARLY, LATE, LOST]
    inbox.close()


def test_the_beginning_is_no_report(inbox: Inbox) -> None:
    assert not inbox.job_began()
    descriptor = open_inbox(inbox.address)
    assert descriptor is not None and post_beginning(descriptor)
    os.close(descriptor)
    assert inbox.job_began() and inbox.read() == []
    inbox.close()


def test_how_a_run_came_out_is_no_report(inbox: Inbox) -> None:
    assert inbox.summary() is None and inbox.done() == []
    descriptor = open_inbox(inbox.address)
    assert descriptor is not None
    assert post_summary("well = 3", descriptor) and post_done(2, descriptor) and post_done(0, descriptor)
    os.close(descriptor)
    assert inbox.summary() == "well = 3" and inbox.done() == [0, 2] and inbox.read() == []
    inbox.close()


def test_another_process_reaches_it(inbox: Inbox) -> None:
    code = f"from distgrad._reports import *; post(Report(2, 1.0, False, 5, 'far'), open_inbox({inbox.address!r}))"
    subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=True, timeout=60)
    assert inbox.read() == [Report(2, 1.0, False, 5, "far")]
    inbox.close()


def test_half_a_line_is_no_report(inbox: Inbox) -> None:
    descriptor = open_inbox(inbox.address)
    assert descriptor is not None
    post(EARLY, descriptor)
    os.write(descriptor, b"[2, 1.0, fal")
    os.close(descriptor)
    assert inbox.read() == [EARLY]
    inbox.close()


def test_a_file_that_is_no_inbox_stays_as_it_is(inbox: Inbox, tmp_path: Path) -> None:
    """On another host the same path may lead to a file of somebody else."""
    token = inbox.address.rpartition(":")[2]
    other = tmp_path / "other"
    other.write_text("precious\n")
    assert open_inbox(f"{other}:{token}") is None
    assert open_inbox(f"{tmp_path / 'none'}:{token}") is None
    assert other.read_text() == "precious\n"
    inbox.close()


def test_nothing_has_a_name() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has files without a name that other processes can open")
    inbox = Inbox()
    assert inbox.address.startswith(f"/proc/{os.getpid()}/fd/")
    inbox.close()
    assert open_inbox(inbox.address) is None


def test_an_ended_launcher_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A rank that starts when it has gone ends before its script; on another host, nothing can be said."""
    if sys.platform != "linux":
        pytest.skip("the inbox is found through /proc")
    inbox = Inbox()
    assert not is_gone(inbox.address)
    ask = "from distgrad._reports import Inbox; print(Inbox().address)"
    env = clean_environment()
    address = subprocess.run([sys.executable, "-c", ask], env=env, stdout=subprocess.PIPE, text=True).stdout.strip()
    assert is_gone(address)
    script = tmp_path / "script.py"
    script.write_text("print('trains')")
    command = [sys.executable, "-m", "distgrad.launch", "--inbox", address, str(script)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and ended.stdout == "" and "has ended; this rank ends, too" in ended.stderr
    monkeypatch.setattr(_reports, "_here", lambda: "another")
    assert not is_gone(address)
    inbox.close()
