"""Starts MPI jobs as child processes that can neither hang the tests nor leave anything behind."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SHARED_MEMORY = Path("/dev/shm")
OPENMPI_VENV = "DISTGRAD_TEST_OPENMPI"  # a second virtual environment, with Open MPI, for those who have one
MARK = "DISTGRAD_TEST_JOB"  # marks every process of a job

_numbers = itertools.count()


class Mpi(NamedTuple):
    """An MPI that is installed together with a Python."""

    name: str
    python: str
    mpirun: tuple[str, ...]  # with the options that this machine needs

    def job(self, ranks: int, *command: str) -> list[str]:
        """The command line that starts `python command...` on this many ranks."""
        return [*self.mpirun, "-n", str(ranks), self.python, *command]


class Outcome(NamedTuple):
    """How a job ended."""

    code: int  # exit status, negative for a signal
    output: str  # standard output and error, as they came
    ended: float  # seconds since the epoch
    timed_out: bool
    left: list[str]  # processes and shared memory that it left behind

    @property
    def last_line(self) -> str:
        """What stands last on the screen."""
        lines = self.output.strip().splitlines()
        return lines[-1] if lines else ""


@cache
def installed_mpis() -> tuple[Mpi, ...]:
    """The MPIs that tests can use: that of this Python, and the one that the environment names."""
    pythons = [sys.executable]
    if OPENMPI_VENV in os.environ:
        pythons.append(str(Path(os.environ[OPENMPI_VENV]) / "bin" / "python"))
    return tuple(mpi for mpi in map(_mpi_of, pythons) if mpi is not None)


def _mpi_of(python: str) -> Mpi | None:
    mpirun = Path(python).parent / "mpirun"
    if not mpirun.exists():
        return None
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=20).stdout
    if "Open MPI" in version:
        root = ("--allow-run-as-root",) if os.geteuid() == 0 else ()
        options = ("--oversubscribe", "--bind-to", "none", "--mca", "pml", "ob1", "--mca", "btl", "self,sm")
        return Mpi("openmpi", python, (str(mpirun), *root, *options))
    return Mpi("mpich", python, (str(mpirun),))


def clean_environment() -> dict[str, str]:
    """This environment without what pytest, a job around it or distgrad put there; kernels are NumPy's."""
    ours = ("PYTEST", "PMI", "MPI_", "OMPI_", "PMIX", "DISTGRAD_", "OMP_", "OPENBLAS_NUM", "MKL_NUM", "PYTHONDONTWRITE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**environment, "PYTHONPATH": str(ROOT), "DISTGRAD_ONEDNN": os.environ.get("DISTGRAD_ONEDNN", "0")}


class Job:
    """A running command, and all processes that descend from it.

    They are known by a mark in their environment: MPICH starts its ranks in sessions of their own, and a process whose
    parent has died is nobody's child.

    Args:
        command: the command line.
        directory: where it runs.
        environment: variables on top of `clean_environment()`.
    """

    def __init__(
        self, command: Sequence[str], directory: Path = ROOT, environment: dict[str, str] | None = None
    ) -> None:
        self._mark = f"{os.getpid()}-{next(_numbers)}"
        self._shared = _shared_memory()
        self._screen = tempfile.TemporaryFile()  # noqa: SIM115  a pipe would stay open with whatever is left behind
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._screen,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**clean_environment(), **(environment or {}), MARK: self._mark},
            start_new_session=True,
        )

    def output(self) -> str:
        """What is on the screen so far."""
        text = os.pread(self._screen.fileno(), 1 << 24, 0).decode(errors="replace")
        return text.replace("\0", "")  # Open MPI ends its messages with one

    def await_output(self, text: str, deadline: float = 30.0) -> None:
        """Return when the job has printed this text."""
        end = time.monotonic() + deadline
        while text not in self.output():
            if time.monotonic() > end or self.process.poll() is not None:
                self.finish(0.0)
                raise AssertionError(f"the job did not print {text!r} but:\n{self.output()}")
            time.sleep(0.01)

    def descendants(self) -> list[int]:
        """The processes of the job that still run."""
        mark = f"{MARK}={self._mark}".encode()
        return [pid for pid in _living() if mark in _read(Path(f"/proc/{pid}/environ")).split(b"\0")]

    def finish(self, deadline: float) -> Outcome:
        """Wait for the end, or make an end after `deadline` seconds, with the stacks of all ranks on the screen."""
        timed_out = False
        try:
            self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            timed_out = True
            self._dump_stacks()
        ended = time.time()
        left = [] if timed_out else self._left_behind()
        for pid in self.descendants():
            _send(pid, signal.SIGKILL)
        code = self.process.wait()
        if timed_out:
            _remove_shared_memory(self._shared)
        output = self.output()
        self._screen.close()
        return Outcome(code, output, ended, timed_out, left)

    def _dump_stacks(self) -> None:
        """Ask all ranks for their stacks, and wait until nothing more comes."""
        before = shown = self.output()
        asked = False
        for pid in self.descendants():
            if b"pytest" in _read(Path(f"/proc/{pid}/cmdline")) and b"python" in _read(Path(f"/proc/{pid}/comm")):
                _send(pid, signal.SIGUSR1)  # tests/conftest.py lets faulthandler answer it
                asked = True
        end = time.monotonic() + 10.0
        while asked and time.monotonic() < end:
            time.sleep(0.5)
            last, shown = shown, self.output()
            if shown == last != before:
                return

    def _left_behind(self) -> list[str]:
        """Processes that are there long after the end, and files 5 s after theirs: a busy machine takes its time."""
        ended = alive = time.monotonic()
        while True:
            now = time.monotonic()
            processes = [_read(Path(f"/proc/{pid}/cmdline")).decode() for pid in self.descendants()]
            alive = now if processes else alive
            left = processes + sorted(_shared_memory() - self._shared - _mapped())
            if not left or now > (ended + 30.0 if processes else alive + 5.0):
                return left
            time.sleep(0.02)


def run_job(
    command: Sequence[str], deadline: float, directory: Path = ROOT, environment: dict[str, str] | None = None
) -> Outcome:
    """Run a command to its end, or for `deadline` seconds."""
    return Job(command, directory, environment).finish(deadline)


def _living() -> Iterator[int]:
    """All processes that have not ended (one that its parent has not yet reaped has)."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _read(entry / "stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"], [b"X"]):
            yield int(entry.name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # the process has ended meanwhile


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _shared_memory() -> set[str]:
    return {str(path) for path in SHARED_MEMORY.glob("*")}


def _mapped() -> set[str]:
    """Shared memory that a living process uses: not a leftover, and perhaps none of ours."""
    maps = b"".join(_read(Path(f"/proc/{pid}/maps")) for pid in _living())
    return {line.split()[-1].decode() for line in maps.splitlines() if b" /dev/shm/" in line}


def _remove_shared_memory(before: set[str]) -> None:
    for name in _shared_memory() - before - _mapped():
        Path(name).unlink(missing_ok=True)
