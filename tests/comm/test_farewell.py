"""The wait at the end of a program: it ends with the peers, says who is late, and gives up on those who cannot come."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from distgrad.comm._communicator import Options
from distgrad.comm._process import _read_stat
from distgrad.comm.diagnosis._board import Board, board_bytes
from distgrad.comm.diagnosis._farewell import await_peers
from distgrad.comm.diagnosis._rows import PID, ROW, STARTED, STATE, State
from distgrad.errors import CommTimeoutError, PeerLostError

PATIENT = Options(timeout=60, stall_warn=60)


@pytest.fixture
def peer() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that stands for rank 1."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def board_with(peer: "subprocess.Popen[bytes]") -> Board:
    """The board of rank 0, which has ended, with a row for the peer, which has not."""
    words = memoryview(bytearray(board_bytes(2))).cast("q")
    board = Board(words, 0, 2, PATIENT)
    stat = _read_stat(peer.pid)
    assert stat is not None
    words[ROW + PID], words[ROW + STARTED] = peer.pid, stat[1]
    board.finish()
    return board


def end_peer(board: Board, after: float) -> None:
    """Let the peer have ended its program after some seconds."""
    threading.Timer(after, lambda: board._words.__setitem__(ROW + STATE, State.FINISHED)).start()


def test_it_ends_with_the_peer(peer: "subprocess.Popen[bytes]", capfd: pytest.CaptureFixture[str]) -> None:
    board = board_with(peer)
    end_peer(board, after=0.3)
    start = time.monotonic()
    await_peers(board.rows, PATIENT)
    assert 0.25 < time.monotonic() - start < 20
    assert capfd.readouterr().err == ""


def test_a_late_peer_is_named_once(peer: "subprocess.Popen[bytes]", capfd: pytest.CaptureFixture[str]) -> None:
    board = board_with(peer)
    end_peer(board, after=0.5)
    await_peers(board.rows, Options(timeout=60, stall_warn=0.01))
    assert capfd.readouterr().err.count("rank 0 has ended its program and has waited") == 1


def test_a_peer_that_dies(peer: "subprocess.Popen[bytes]") -> None:
    board = board_with(peer)
    threading.Timer(0.2, peer.kill).start()
    with pytest.raises(PeerLostError, match=r"rank 0 had ended its program, but rank 1 \(process \d+\) died"):
        await_peers(board.rows, PATIENT)


def test_a_peer_that_is_stopped(peer: "subprocess.Popen[bytes]") -> None:
    board = board_with(peer)
    os.kill(peer.pid, signal.SIGSTOP)
    message = r"gave up waiting for ranks that are stopped.*\n(.*\n)*.*rank 1.*stopped"
    with pytest.raises(CommTimeoutError, match=message):
        await_peers(board.rows, Options(timeout=0.3, stall_warn=60))
