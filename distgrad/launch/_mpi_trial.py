"""Whether MPI works, tried in a process that may hang or crash.

In a job, the trial takes the place of the rank that started it: the launcher's variables and sockets are handed on, the
trial initialises MPI, meets the trials of the other ranks, and gathers what all ranks have found. Outside a job it is
an MPI job of one process. It answers after each step, so that what was learnt before a crash is not lost.

    python -m distgrad.launch._mpi_trial        # facts in, facts of all ranks out
"""

import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import FrameType
from typing import IO, Any, NoReturn

from .. import comm
from .._environment import as_this_rank, job, outside_jobs
from .._parent_death import die_with_parent
from ..comm._init import launcher_problem
from ..comm._mpi_files import forget
from ..comm.device._probe import claims_cuda
from ..errors import CommError
from ._findings import Facts, Mpi

DEADLINE = 60.0  # seconds; it takes one, and the ranks of a large job start one after another
_ANSWER = "distgrad facts: "  # before the pickled facts, on a line of its own
_COMMAND = (sys.executable, "-m", __name__)


def try_mpi(facts: Facts, deadline: float = DEADLINE, command: Sequence[str] = _COMMAND) -> list[Facts]:
    """What the trial found out: about all ranks of this job if they have met, else about this one.

    Args:
        facts: what is known about this rank without MPI.
        deadline: seconds after which the trial is ended.
        command: the trial.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as errors:
        given.write(pickle.dumps(facts))
        given.seek(0)
        process = subprocess.Popen(
            command,
            stdin=given,
            stdout=answers,
            stderr=errors,
            env=as_this_rank() if job.in_mpi_job else outside_jobs(),
            close_fds=False,  # mpirun may have given this rank a socket
            start_new_session=True,
        )
        problem = _await(process, deadline, errors)
        found = _last_answer(_text(answers)) or [facts]
        if problem is None or found[0].mpi.apart is not None:
            return found
        own = next(one for one in found if one.job.rank == facts.job.rank)
        return [own._replace(mpi=own.mpi._replace(problem=problem))]


class _JobEndedError(Exception):
    """Open MPI's mpirun asks the ranks to end, because one of them has failed."""


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise _JobEndedError


def _await(process: "subprocess.Popen[bytes]", deadline: float, errors: IO[bytes]) -> str | None:
    """How the trial went wrong; None if it ended well. Nothing is left of it."""
    if job.in_mpi_job and job.rank == 0:
        signal.signal(signal.SIGTERM, _end)  # it has a report to give
    try:
        code = process.wait(deadline)
        return _ending(code, _text(errors)) if code else None
    except subprocess.TimeoutExpired:
        return f"it takes longer than {deadline:g} s" + ", as when a rank does not come" * (job.world_size > 1)
    except _JobEndedError:
        return "the job is ended meanwhile, as when MPI fails on another rank"
    finally:
        if job.in_mpi_job and job.rank == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ending(code: int, errors: str) -> str:
    if code < 0:
        return f"it dies of {signal.Signals(-code).name}"
    if "Local abort before MPI_INIT" in errors:  # the reason goes another way: through mpirun, to the screen
        return f"Open MPI gives up in MPI_Init, with status {code}; what it says on this screen, above, is the reason"
    lines = [line.strip("\0 ") for line in errors.splitlines()]
    return f"it ends with status {code} ({next(filter(None, reversed(lines)), 'no message')})"


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _last_answer(text: str) -> list[Facts]:
    lines = [line for line in text.splitlines() if line.startswith(_ANSWER)]
    found: list[Facts] = pickle.loads(bytes.fromhex(lines[-1].removeprefix(_ANSWER))) if lines else []
    return found


# ---- the trial -------------------------------------------------------------------------------------------------------


def main() -> None:
    """The trial."""
    die_with_parent()
    facts: Facts = pickle.load(sys.stdin.buffer)
    for mpi in _steps(facts):
        facts = facts._replace(mpi=mpi)
        _answer([facts])
    if facts.mpi.problem is None and facts.mpi.apart is None:
        _answer(comm.get_default().all_gather_object(facts))


def _steps(facts: Facts) -> Iterator[Mpi]:
    """What becomes known about MPI, step by step; the next one may crash or hang."""
    found = facts.mpi
    try:
        import mpi4py

        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        yield found._replace(problem=_missing(str(error)))
        return
    version = MPI.Get_library_version().split("\n")[0].strip("\0 ")
    found = found._replace(library=_short(version))
    yield found
    if (problem := launcher_problem()) is not None:
        yield found._replace(apart=problem)
        return
    MPI.Init_thread(MPI.THREAD_MULTIPLE)
    if not job.in_mpi_job:
        forget()  # Open MPI leaves its file in /dev/shm, where there is no mpirun
    found = found._replace(threads=_thread_level(MPI), cuda_aware=claims_cuda())
    yield found
    try:
        comm.init_process_group(found.asked)
        found = found._replace(backend=comm.get_default().name)
    except CommError as error:
        forget()
        yield found._replace(apart=str(error).replace(version, _short(version)))
        return
    yield found
    yield found._replace(transports=tuple(comm.device_transports().items()))


def _missing(error: str) -> str:
    """Why no library could be loaded, without the list of all places where mpi4py has looked for one."""
    first, *places = error.splitlines()
    found = [line for line in places if not re.match(r"\S*libmpi\S*: cannot open shared object file", line)]
    return ": ".join([first.rstrip(":"), *(found or places)[:1]])


def _short(version: str) -> str:
    """ "MPICH 5.0.2", from what the library says about itself at length."""
    return " ".join(re.sub(r"\s*Version\s*:", "", version.split(",")[0]).split())


def _thread_level(mpi: Any) -> str:
    levels = ("single", "funneled", "serialized", "multiple")
    given = mpi.Query_thread()
    return next(name for name in levels if getattr(mpi, f"THREAD_{name.upper()}") == given)


def _answer(ranks: list[Facts]) -> None:
    print(f"{_ANSWER}{pickle.dumps(ranks).hex()}", flush=True)


if __name__ == "__main__":
    main()
