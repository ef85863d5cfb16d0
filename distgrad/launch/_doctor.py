"""`--doctor`: says what is here, what a job would use, and how to mend what stands in its way."""

import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .._binding import short_list
from .._environment import job
from ..comm import _abort
from ._facts import find_launcher, look
from ._findings import Facts, Mpi, Problem, by_node, name_ranks, problems
from ._mpi_trial import DEADLINE, try_mpi
from ._request import Request

HEAD_START = 3.0  # seconds for rank 0 to say what is wrong with all ranks
WIDTH = 110  # characters of a line
_MOST_GROUPS = 4  # of ranks that differ in one thing
_WAYS = {"nccl": "NCCL", "mpi": "MPI, on addresses of GPUs", "staged": "host memory, through a pinned ring"}


def examine(request: Request) -> int | None:
    """Report on this machine, or as a rank of a job on all of it.

    Returns:
        The exit status: 0 where a job can run, 1 where a problem stops it. None where the ranks of the job that `-n`
        starts shall report, since nothing on this machine stops them.
    """
    if job.in_mpi_job:
        return _examine_as_rank(request)
    (facts,) = _try_mpi(look(), request)
    if facts.mpi.library is not None and facts.mpi.problem is None:
        facts = facts._replace(launcher=find_launcher(facts.mpi.library))
    status = _status([facts])
    if request.starts_a_job and status == 0:
        return None
    print(report([facts]), flush=True)
    return status


def _try_mpi(facts: Facts, request: Request) -> list[Facts]:
    return [facts] if facts.software.mpi4py is None else try_mpi(facts, request.timeout or DEADLINE)


def _examine_as_rank(request: Request) -> int:
    """Rank 0 speaks for all, and for itself where the ranks do not meet; others say only how their trial crashed."""
    _abort.join_with(lambda: None)  # the trial has been this rank in MPI
    if request.inbox is not None:
        _abort.report_to(request.inbox)
    ranks = _try_mpi(look(), request)
    have_met = len(ranks) == job.world_size and ranks[0].mpi.problem is None and ranks[0].mpi.apart is None
    if job.rank > 0:
        if not have_met:
            _wait_for_rank_0(ranks[0].mpi, request)
        return 0
    print(report(ranks), flush=True)
    status = _status(ranks)
    if status and request.inbox is not None:
        _abort.exit_with(status, "something stops this job; see above")
    if not have_met:
        _abort.stop(status)
    return status


def _wait_for_rank_0(mpi: Mpi, request: Request) -> None:
    """Return when rank 0 must have spoken, which ends the job; MPICH's would be ended by a rank that leaves earlier."""
    deadline = request.timeout or DEADLINE
    time.sleep(min(HEAD_START, deadline / 2))
    if mpi.problem is not None:  # rank 0 does not know it: it waits for this one
        print(f"[rank {job.rank}] MPI does not start: {mpi.problem}", file=sys.stderr, flush=True)
    time.sleep(deadline)


def _status(ranks: Sequence[Facts]) -> int:
    return int(any(problem.stops for problem in problems(ranks)))


# ---- the report ------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    label: str
    text: Callable[[Facts], str]
    of_node: bool = False  # the same for all ranks of a node


def report(ranks: Sequence[Facts]) -> str:
    """The whole report in words: what was found, what would be used, the problems with their fixes."""
    found = problems(ranks)
    sections = [
        _section(
            "found" if len(ranks) == ranks[0].job.world_size else "found on rank 0",
            [(row.label, _compare(ranks, row)) for row in _ROWS],
        ),
        _section("would be used" if ranks[0].launcher else "used by this job", _used(ranks)),
        *(_problem(problem) for problem in found),
        _conclusion(found),
    ]
    return "\n\n".join(filter(None, sections))


def _section(title: str, rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    lines = [title]
    for label, texts in rows:
        for text, name in zip(texts, (label, *[""] * len(texts)), strict=False):
            lines += _wrap(f"  {name:<16}", text)
    return "\n".join(lines) if len(lines) > 1 else ""


def _compare(ranks: Sequence[Facts], row: _Row) -> list[str]:
    """One line where all ranks say the same, else a line for each thing that they say."""
    groups: dict[str, list[int]] = {}
    for facts in ranks:
        if not row.of_node or facts.job.local_rank == 0 or len(ranks) == 1:
            groups.setdefault(row.text(facts), []).append(facts.job.rank)
    if len(groups) == 1:
        return list(groups)
    lines = [f"{name_ranks(members)}: {text}" for text, members in groups.items()]
    more = len(lines) - _MOST_GROUPS
    return lines[:_MOST_GROUPS] + ([f"and {more} more"] if more > 0 else [])


def _problem(problem: Problem) -> str:
    return "\n".join([*_wrap("problem: ", problem.text), *_wrap("fix:     ", problem.fix)])


def _wrap(label: str, text: str) -> list[str]:
    """The text behind its label, in lines that are indented below each other; words and paths stay whole."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _conclusion(found: Sequence[Problem]) -> str:
    stopping = sum(problem.stops for problem in found)
    if stopping:
        return f"{stopping} problem{'s' * (stopping > 1)} must be solved before a job can run."
    return "A job can run, and would run better without these problems." if found else "No problem: a job can run."


# ---- what was found --------------------------------------------------------------------------------------------------


def _software(facts: Facts) -> str:
    software = facts.software
    mpi4py = f"mpi4py {software.mpi4py}" if software.mpi4py else "no mpi4py"
    return f"distgrad {software.distgrad}, Python {software.python}, NumPy {software.numpy}, {mpi4py}"


def _mpi(facts: Facts) -> str:
    mpi = facts.mpi
    if mpi.library is None:
        return "none"
    if mpi.threads is None:
        return f"{mpi.library}, which does not start"
    return f"{mpi.library}, thread level {mpi.threads}, {'' if mpi.cuda_aware else 'not '}CUDA-aware"


def _job(facts: Facts) -> str:
    if not facts.job.in_mpi_job:
        return "none: a process of its own"
    return f"{_count(facts.job.world_size, 'rank')}, started by {facts.job.kind}"


def _cores(facts: Facts) -> str:
    cores = facts.cores
    quota = f", with a quota of {cores.quota}" if cores.quota is not None else ""
    return f"{short_list(cores.own)} ({len(cores.own)} of {cores.online}{quota})"


def _blas(facts: Facts) -> str:
    blas = facts.blas
    forced = f" (OPENBLAS_CORETYPE={blas.forced})" if blas.forced else ""
    if blas.library == "?":
        return f"cannot be told without threadpoolctl{forced}"
    return f"{blas.library}, kernel {blas.kernel}{forced}, {_count(blas.threads or 1, 'thread')}"


def _memory(facts: Facts) -> str:
    memory = facts.memory
    memfd = "memfd works" if memory.memfd_problem is None else f"no memfd ({memory.memfd_problem})"
    if memory.free is None:
        return f"{memfd}, no /dev/shm"
    return f"{memfd}; /dev/shm has {_bytes(memory.free)} of {_bytes(memory.total)} free"


def _gpus(facts: Facts) -> str:
    if facts.gpus.names:
        return ", ".join(facts.gpus.names)
    return "not used" if facts.gpus.driver else "none"


_ROWS = (
    _Row("node", lambda facts: facts.node),
    _Row("job", _job),
    _Row("scheduler", lambda facts: facts.scheduler or "none"),
    _Row("software", _software),
    _Row("MPI", _mpi),
    _Row("cores", _cores),
    _Row("BLAS", _blas),
    _Row("oneDNN", lambda facts: facts.onednn.text),
    _Row("shared memory", _memory, of_node=True),
    _Row("open files", lambda facts: str(facts.memory.open_files)),
    _Row("GPUs", _gpus),
)


# ---- what would be used ----------------------------------------------------------------------------------------------


def _used(ranks: Sequence[Facts]) -> list[tuple[str, list[str]]]:
    first = ranks[0]
    rows = _used_by_job(ranks) if first.job.in_mpi_job else _used_here(first)
    between = ("between GPUs", [_transport(first)])
    return [*rows, between] if rows and first.gpus.names else rows


def _used_by_job(ranks: Sequence[Facts]) -> list[tuple[str, list[str]]]:
    mpi = ranks[0].mpi
    if mpi.backend is None:
        return []
    threads = _Row("", lambda facts: f"{facts.blas.threads or '?'} a rank")
    asked = " (DISTGRAD_BACKEND)" if mpi.asked else ""
    nodes = by_node(ranks)
    return [
        ("backend", [f"{mpi.backend}{asked}: {_count(len(ranks), 'rank')} on {_count(len(nodes), 'node')}"]),
        ("BLAS threads", _compare(ranks, threads)),
    ]


def _used_here(facts: Facts) -> list[tuple[str, list[str]]]:
    launcher = facts.launcher
    alone = f"backend serial, {_count(facts.blas.threads or 1, 'BLAS thread')}"
    if launcher is None:
        return []
    cores = min(len(facts.cores.own), facts.cores.quota or len(facts.cores.own))
    each = max(1, cores // -(-launcher.ranks // launcher.nodes))
    backend = facts.mpi.asked or ("hierarchical" if launcher.nodes > 1 else "shm")
    many = f"{launcher.ranks} ranks, backend {backend}, {_count(each, 'BLAS thread')} each"
    if launcher.ranks == 1:
        many = "the same, for one core"
    rows = [("one process", [alone]), ("-n auto", [many])]
    return [*rows, ("through", [launcher.command])] if launcher.command else rows[:1]


def _transport(facts: Facts) -> str:
    problem_of = dict(facts.mpi.transports)
    chosen = next((name for name, problem in problem_of.items() if problem is None), None)
    return _WAYS[chosen] if chosen else "nothing works"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
