"""What MPI keeps in /dev/shm while a job starts; tests/launch/test_startup.py has the jobs that are ended then."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from distgrad.comm import _mpi_files
from tests.jobs import clean_environment

SHELL = _mpi_files._WATCH


def test_published_values_of_the_hashes() -> None:
    assert [_mpi_files.fnv1a(text) for text in (b"", b"a", b"foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]
    # as Wikipedia quotes them for the hash that takes one byte at a time
    phrase = b"The quick brown fox jumps over the lazy dog"
    assert [_mpi_files.one_at_a_time(text) for text in (b"a", phrase)] == [0xCA2E9442, 0x519E91F5]


def test_names_that_were_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that Open MPI 5.0.11 made for a namespace, and MPICH 5.0.2 for a key-value space."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert _mpi_files._open_mpi_pattern("prterun-vm-32554@1") == "/dev/shm/sm_segment.*.0.86c90001.*"
    assert _mpi_files._open_mpi_pattern("3141592653") is None
    assert _mpi_files.fnv1a(b"kvs_32530_0_1269944210_vm") == 0x912C3955


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"cmd=my_kvsname rc=0 kvsname=kvs_3_0_1_host\n", b"kvs_3_0_1_host"),
        (b"cmd=my_kvsname kvsname=kvs_3 rc=0\n", b"kvs_3"),
        (b"cmd=unknown rc=-1\n", b""),
        (b"", b""),
    ],
)
def test_the_question_to_hydra(answer: bytes, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, hydra = socket.socketpair()
    with mine, hydra:
        hydra.sendall(answer)
        monkeypatch.setattr(_mpi_files, "kvs_descriptor", mine.fileno())
        monkeypatch.setattr(_mpi_files, "_PATIENCE", 0.05)
        monkeypatch.setattr(_mpi_files, "_in_use", lambda: False)
        assert _mpi_files._key_value_space() == name
        assert hydra.recv(100) == b"cmd=get_my_kvsname\n"
        monkeypatch.setattr(_mpi_files, "_in_use", lambda: True)
        assert _mpi_files._key_value_space() == b""


def test_a_late_answer_of_hydra_is_not_left_for_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, hydra = socket.socketpair()
    with mine, hydra:
        monkeypatch.setattr(_mpi_files, "kvs_descriptor", mine.fileno())
        monkeypatch.setattr(_mpi_files, "_in_use", lambda: False)
        answer = threading.Timer(1.5, hydra.sendall, [b"cmd=my_kvsname rc=0 kvsname=kvs_3\n"])
        answer.start()
        assert _mpi_files._key_value_space() == b"kvs_3"
        answer.join()


RANK = """
import os, sys, time
from distgrad.comm import _mpi_files
_mpi_files.job_pattern = lambda: sys.argv[1] + "*"
_mpi_files.guard()
_mpi_files.guard()
if sys.argv[2] == "forgets":
    _mpi_files.forget()
elif sys.argv[2] == "goes on":
    os.execv("/bin/sh", ["sh", "-c", "sleep 0.5"])
elif sys.argv[2] == "fork":
    if os.fork() == 0:
        _mpi_files.forget()
        os._exit(0)
    os.wait()
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a rank has a guard on Linux alone")
@pytest.mark.parametrize(
    ("ending", "removed"), [("dies", True), ("fork", True), ("forgets", False), ("goes on", False)]
)
def test_the_guard(ending: str, removed: bool, tmp_path: Path) -> None:
    file = tmp_path / "mpich_shm_1_0"
    file.touch()
    subprocess.run([sys.executable, "-c", RANK, str(file)[:-1], ending], env=clean_environment(), check=True)
    deadline = time.monotonic() + (20 if removed else 0.3)
    while file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert file.exists() != removed


def test_only_names_of_the_mpi_library_are_forgotten(tmp_path: Path) -> None:
    own = [Path(f"/dev/shm/{name}{os.getpid()}-test") for name in ("mpich_shm_", "sm_segment.", "other-")]
    maps = tmp_path / "maps"
    maps.write_text("".join(f"7f00-7f01 rw-s 00000000 00:01 7    {path}\n" for path in own) + "7f02-7f03 rw-p 0 0 0\n")
    for path in own:
        path.touch()
    try:
        _mpi_files.forget(str(maps))
        _mpi_files.forget(str(maps))  # another rank was faster
        _mpi_files.forget(str(tmp_path / "none"))
        assert [path.exists() for path in own] == [False, False, True]
    finally:
        own[2].unlink()
