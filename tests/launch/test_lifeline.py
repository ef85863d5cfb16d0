"""The line from a rank to its parent: who it is, and that it closes before what was opened earlier."""

import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from distgrad import _lifeline
from tests.jobs import clean_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ranks hold a line on Linux alone")

RANK = """
import os, sys, time
from distgrad import _lifeline
_lifeline.hold(sys.argv[1], 7)
if os.fork() == 0:
    time.sleep(20)  # a child that goes on does not hold the line
    os._exit(0)
print("up", flush=True)
time.sleep(20)
"""


def test_the_line_closes_before_other_files_of_the_rank() -> None:
    listener = _lifeline.listen(f"distgrad-test-{os.getpid()}")
    assert listener is not None
    output, theirs = socket.socketpair()
    command = [sys.executable, "-c", RANK, f"distgrad-test-{os.getpid()}"]
    rank = subprocess.Popen(command, stdout=theirs, env=clean_environment(), start_new_session=True)
    try:
        assert output.makefile("rb").readline() == b"up\n"
        accepted = _lifeline.accept(listener)
        assert accepted is not None and accepted[1] == 7
        connection = accepted[0]
        os.kill(rank.pid, signal.SIGKILL)
        assert select.select([connection], [], [], 20)[0]
        assert connection.recv(10) == b""
        connection.close()
    finally:
        os.killpg(rank.pid, signal.SIGKILL)
        rank.wait()
        for end in (listener, output, theirs):
            end.close()


def test_nobody_listens() -> None:
    before = os.listdir("/proc/self/fd")
    _lifeline.hold("distgrad-test-nobody", 0)
    assert os.listdir("/proc/self/fd") == before
