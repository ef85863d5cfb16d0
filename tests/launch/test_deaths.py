"""Which rank ended first, and how: told apart from those that mpirun ends because of it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from distgrad.errors import BackendUnavailableError, CommError, LaunchError, PeerLostError
from distgrad.launch import _deaths, _run
from distgrad.launch._deaths import Death, Deaths
from tests.jobs import clean_environment

KILLED, TERMINATED, CRASHED, EXIT3, GAVE_UP = signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, 3 << 8, 15 << 8


@pytest.mark.parametrize(
    ("seen", "rank"),
    [
        ([(1.0, 2, KILLED), (1.01, 0, KILLED), (1.01, 1, KILLED)], 2),
        ([(1.0, 0, KILLED), (1.0, 1, CRASHED), (1.0, 2, KILLED)], 1),
        ([(1.0, 0, KILLED), (1.001, 1, EXIT3)], 1),  # the end of a peer was seen before
        ([(1.0, 1, 0), (1.51, 0, KILLED), (1.52, 2, KILLED)], 1),  # os._exit(0)
        ([(1.0, 1, 0), (9.0, 0, KILLED), (9.02, 2, KILLED)], 0),  # left in peace, long ago
        ([(1.0, 2, None), (1.01, 0, None)], 2),  # a kernel that tells no status
        ([(1.0, 0, KILLED), (1.0, 1, TERMINATED), (1.0, 2, KILLED)], 1),  # MPICH's mpirun kills
        ([(1.0, 0, TERMINATED), (1.0, 1, TERMINATED), (1.0, 2, KILLED)], 2),  # Open MPI's sends SIGTERM
        ([(1.0, 0, KILLED), (1.0, 1, TERMINATED)], 0),
        ([(1.0, 1, KILLED), (1.01, 0, GAVE_UP), (1.01, 2, KILLED), (1.02, 3, KILLED)], 1),  # in MPI_Init
        ([(1.0, 1, GAVE_UP), (1.01, 0, KILLED), (1.01, 2, KILLED)], 1),  # os._exit(15)
        ([(1.0, 0, 0), (1.0, 1, 0)], None),
        ([], None),
    ],
)
def test_the_cause(seen: list[tuple[float, int, int | None]], rank: int | None) -> None:
    cause = _deaths._cause([(at, Death(rank, 100 + rank, status)) for at, rank, status in seen])
    assert (cause and cause.rank) == rank


def test_who_has_come_to_the_end_of_its_program_is_no_cause() -> None:
    """Rank 3 is killed in the moment in which rank 2, whose program is over, ends."""
    for moment in (1.0, 1.05):
        ends = [(moment, Death(2, 102, 0)), (1.1, Death(3, 103, KILLED)), (1.11, Death(0, 100, KILLED))]
        for done, rank in (([], 2), ([2], 3)):
            cause = _deaths._cause(ends, done)
            assert cause is not None and cause.rank == rank


def test_without_statuses_a_rank_that_came_to_its_end_is_no_cause() -> None:
    """Before Linux 6.15 a job that went well must not be called a failure."""
    ends = [(1.0, Death(0, 100, None)), (1.01, Death(1, 101, None))]
    for done, rank in (([0, 1], None), ([0], 1), ([], 0)):
        cause = _deaths._cause(ends, done)
        assert (cause and cause.rank) == rank


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (
            KILLED,
            137,
            "rank 2 (process 7) ended first, without a word: killed by SIGKILL, from outside (out of memory?)",
        ),
        (CRASHED, 139, "killed by SIGSEGV, a crash in native code"),
        (EXIT3, 3, "with status 3, by os._exit or the like"),
        (None, None, "killed from outside (out of memory?), crashed in native code, or in os._exit"),
    ],
)
def test_in_words(status: int | None, code: int | None, text: str) -> None:
    death = Death(2, 7, status)
    assert death.code == code and str(death).endswith(text)


MPIRUN = """
import os, subprocess, sys, time
ranks = []
for rank in range(3):
    names = {"PMI_RANK": str(rank), "PMI_SIZE": "3", "MPI_LOCALRANKID": str(rank), "MPI_LOCALNRANKS": "3"}
    ranks.append(subprocess.Popen(["sleep", "60"], env={**os.environ, **names}))
sys.stdin.readline()  # until all are watched
ranks[1].send_signal(int(sys.argv[1]))
ranks[1].wait()
time.sleep(0.05)
for rank in ranks:
    rank.kill()
    rank.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="process descriptors are Linux's")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_processes(number: int) -> None:
    environment = {name: value for name, value in clean_environment().items() if "PMI" not in name}
    command = [sys.executable, "-c", MPIRUN, str(int(number))]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
    deaths = Deaths(process.pid, f"distgrad-test-{process.pid}")
    end_when_watched(process, deaths, ranks=3)
    cause = deaths.first()
    assert cause is not None and cause.rank == 1
    assert cause.status in (number, None)  # None before Linux 6.15


def end_when_watched(process: "subprocess.Popen[bytes]", deaths: Deaths, ranks: int) -> None:
    """Tell a stand-in for mpirun to go on when its ranks have been seen, and wait for its end."""
    end = time.monotonic() + 60
    while len(deaths._processes) < ranks and time.monotonic() < end:
        time.sleep(0.01)
    process.communicate(b"\n", timeout=60)


BY_SRUN = """
import os, subprocess, sys
names = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_STEP_ID": "0"}
helper = (
    "import os, subprocess\\n"
    "names = {'PMI_RANK': '0', 'PMI_SIZE': '1', 'MPI_LOCALRANKID': '0', 'MPI_LOCALNRANKS': '1'}\\n"
    "rank = ['sh', '-c', 'read line; exit ' + os.environ['CODE']]\\n"
    "subprocess.Popen(rank, env={**os.environ, **names}).wait()\\n"
    "os._exit(255)\\n"
)
subprocess.Popen([sys.executable, "-c", helper], env={**os.environ, **names, "CODE": sys.argv[1]}).wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="process descriptors are Linux's")
@pytest.mark.parametrize("code", [0, 3])
def test_helpers_that_srun_starts_for_mpirun_are_no_ranks(code: int) -> None:
    """They have Slurm's variables of a task, and Open MPI's end with 255 when the job has ended in peace."""
    environment = {name: value for name, value in clean_environment().items() if not name.startswith("SLURM")}
    process = subprocess.Popen([sys.executable, "-c", BY_SRUN, str(code)], env=environment, stdin=subprocess.PIPE)
    deaths = Deaths(process.pid, f"distgrad-test-{process.pid}")
    end_when_watched(process, deaths, ranks=1)
    cause = deaths.first()
    assert (cause is None) == (code == 0), cause
    assert cause is None or cause.status in (code << 8, None)


def test_a_job_that_ends_in_peace() -> None:
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    process = subprocess.Popen(["sleep", "0.3"], env=clean_environment())
    deaths = Deaths(process.pid, f"distgrad-test-{process.pid}")
    process.wait(30)
    start = time.monotonic()
    assert deaths.first() is None
    assert time.monotonic() - start < 20
    assert sys.platform != "linux" or len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("error", "shown_as"), [(PeerLostError, PeerLostError), (BackendUnavailableError, LaunchError)]
)
def test_a_peer_that_dies_at_the_first_meeting_speaks_first(
    error: type[CommError], shown_as: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the launcher is shown at once, that of a lost peer after a moment, in which the cause is told."""

    def get_default() -> None:
        raise error("planted")

    monkeypatch.setattr(_run.comm, "get_default", get_default)
    with pytest.raises(shown_as, match="planted"):
        _run._meet()
