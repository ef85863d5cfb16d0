"""Whether a process lives, and where a call came from."""

import os
import subprocess
import sys
import threading
from functools import partial

from distgrad.comm._process import _PACKAGE, Process, _read_stat, call_site
from distgrad.comm._progress import Fifo


def start() -> tuple["subprocess.Popen[bytes]", Process]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stat = _read_stat(child.pid)
    assert stat is not None
    return child, Process(child.pid, stat[1])


def test_this_process_lives() -> None:
    own = Process.current()
    assert own.pid == os.getpid() and own.is_alive() and own.state() != "dead"


def test_a_killed_process_is_dead_before_and_after_it_is_reaped() -> None:
    child, process = start()
    assert process.is_alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert not process.is_alive()
    child.wait()
    assert not process.is_alive()


def test_a_stopped_process_lives() -> None:
    child, process = start()
    child.send_signal(19)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert process.state() == "stopped" and process.is_alive()
    child.kill()
    child.wait()


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    own = Process.current()
    assert not own._replace(started=own.started - 1).is_alive()


def test_call_site_is_the_users_line() -> None:
    assert call_site().startswith("test_process.py:") and call_site().endswith("in test_call_site_is_the_users_line")


def test_call_site_in_a_thread_without_user_code() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(call_site()))
    thread.start()
    thread.join()
    assert found[0].startswith("test_process.py:")


def test_call_site_in_the_background_is_where_the_operation_began() -> None:
    found: list[str] = []
    queue = Fifo("distgrad-test", 20.0)
    queue.submit(partial(_note_site, found), []).wait()
    queue.close()
    (site,) = found
    assert site.startswith("test_process.py:") and site.endswith(
        "in test_call_site_in_the_background_is_where_the_operation_began, in the background"
    )


# As if it stood in the package: the stack of the thread then has no line of the program.
_note_site = eval(compile("lambda found: found.append(call_site())", _PACKAGE + "planted.py", "eval"))
