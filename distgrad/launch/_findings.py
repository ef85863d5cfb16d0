"""What the doctor found, and what of it stands in a job's way: no function here looks at the machine."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from .._binding import short_list
from .._environment import Job

MIB = 1 << 20
SMALL_SHARED_MEMORY = 1024 * MIB  # for parameters and gradients, where there is no memfd
MPI_SHARED_MEMORY = 16 * MIB  # of MPI itself, a rank: with less, Open MPI 5 does not start; MPICH 5 can do with 4
FEW_FILES = 1024

INSTALL_MPI = "pip install 'distgrad[mpich]', or load your cluster's MPI"
ENLARGE = "start the container with --shm-size=4g (docker), or with a memory-backed emptyDir (Kubernetes)"


class Software(NamedTuple):
    """Versions."""

    python: str
    distgrad: str
    numpy: str
    mpi4py: str | None  # None: not installed


class Cores(NamedTuple):
    """Logical CPUs."""

    own: frozenset[int]  # that this process may use
    node: int  # how many the ranks of this node share
    online: int
    quota: int | None  # of the control group


class Blas(NamedTuple):
    """The BLAS of NumPy."""

    library: str
    kernel: str
    threads: int | None
    forced: str | None  # OPENBLAS_CORETYPE
    problem: str | None


class OneDnn(NamedTuple):
    """The library of neural network primitives that the CPU kernels use where it is installed."""

    version: str | None = None
    reason: str | None = None  # why it is not used

    @property
    def text(self) -> str:
        """The version, or the reason without the fix."""
        return self.version or split_fix(self.reason or "not looked for", "")[0]


class Memory(NamedTuple):
    """What ranks of one node can share, and how many files a process may open."""

    memfd_problem: str | None
    free: int | None  # bytes of /dev/shm; None: there is none
    total: int
    open_files: int


class Gpus(NamedTuple):
    """NVIDIA GPUs."""

    driver: bool
    names: tuple[str, ...]
    problem: str | None  # why none can be used


class Mpi(NamedTuple):
    """What a trial of the MPI library showed."""

    library: str | None = None
    threads: str | None = None  # the thread level
    cuda_aware: bool | None = None  # what the library says about itself
    problem: str | None = None  # why it does not start
    apart: str | None = None  # why the ranks of this job did not meet
    chosen: str | None = None  # the library of MPI4PY_LIBMPI
    asked: str | None = None  # the backend of DISTGRAD_BACKEND
    backend: str | None = None  # on which they have met
    transports: tuple[tuple[str, str | None], ...] = ()  # ways between GPUs, and what is against each


class Launcher(NamedTuple):
    """What `-n auto` would do."""

    ranks: int
    nodes: int
    command: str | None  # the mpirun line
    problem: str | None = None
    stops: bool = False


class Facts(NamedTuple):
    """What was found on one rank, or on this machine outside a job."""

    job: Job
    node: str
    scheduler: str | None
    software: Software
    cores: Cores
    blas: Blas
    memory: Memory
    gpus: Gpus
    mpi: Mpi = Mpi()
    launcher: Launcher | None = None  # outside a job
    onednn: OneDnn = OneDnn()


class Problem(NamedTuple):
    """One finding, with its fix in a line; `stops` says whether no job can run."""

    text: str
    fix: str
    stops: bool = False


def problems(ranks: Sequence[Facts]) -> list[Problem]:
    """Every problem of these ranks, those that stop a job first; it names ranks where not all have it."""
    found = [*_of_all(ranks)]
    owners: dict[Problem, list[int]] = {}
    for facts in ranks:
        for problem in _of_rank(facts):
            owners.setdefault(problem, []).append(facts.job.rank)
    found += [_named(problem, name_ranks(members), len(members) < len(ranks)) for problem, members in owners.items()]
    nodes = by_node(ranks)
    for node, members_of_node in nodes.items():
        found += [_named(problem, node, len(nodes) > 1) for problem in _of_node(members_of_node)]
    return sorted(found, key=lambda problem: not problem.stops)


def by_node(ranks: Iterable[Facts]) -> dict[str, list[Facts]]:
    """The ranks of each node."""
    nodes: dict[str, list[Facts]] = {}
    for facts in ranks:
        nodes.setdefault(facts.node, []).append(facts)
    return nodes


def name_ranks(ranks: Sequence[int]) -> str:
    """ "rank 3", or "ranks 0-2,5"."""
    return f"rank{'s' * (len(ranks) > 1)} {short_list(ranks)}"


def _named(problem: Problem, name: str, needs_name: bool) -> Problem:
    return problem._replace(text=f"{name}: {problem.text}") if needs_name else problem


def split_fix(text: str, default: str) -> tuple[str, str]:
    """What is wrong and what to do, from an error that says both as "...; do this"."""
    wrong, _, fix = text.rpartition("; ")
    return (wrong, fix) if wrong else (text, default)


# ---- of the job ------------------------------------------------------------------------------------------------------


def _of_all(ranks: Sequence[Facts]) -> list[Problem]:
    found = []
    for name, texts in (
        ("Python", [facts.software.python for facts in ranks]),
        ("distgrad", [facts.software.distgrad for facts in ranks]),
        ("NumPy", [facts.software.numpy for facts in ranks]),
        ("MPI", [facts.mpi.library for facts in ranks]),
        ("oneDNN", [facts.onednn.text for facts in ranks]),
    ):
        groups: dict[str | None, list[int]] = {}
        for facts, text in zip(ranks, texts, strict=True):
            groups.setdefault(text, []).append(facts.job.rank)
        if len(groups) > 1:
            listed = "; ".join(f"{text} ({name_ranks(members)})" for text, members in groups.items())
            found.append(Problem(f"ranks have different versions of {name}: {listed}", "use one environment for all"))
    return found + _backend(ranks[0].mpi, len(by_node(ranks)))


def _backend(mpi: Mpi, nodes: int) -> list[Problem]:
    if mpi.backend != "mpi" or mpi.asked is not None:
        return []
    reason = "DISTGRAD_BACKEND=shm says why" if nodes == 1 else "DISTGRAD_BACKEND=hierarchical says why"
    return [Problem(f"the ranks of a node do not share memory, and go through MPI ({reason})", ENLARGE)]


# ---- of a rank -------------------------------------------------------------------------------------------------------


def _of_rank(facts: Facts) -> list[Problem]:
    parts = _launcher(facts.launcher), _blas(facts.blas), _onednn(facts.onednn), _files(facts.memory), _gpus(facts)
    return [*_mpi(facts), *chain.from_iterable(parts)]


def _mpi(facts: Facts) -> list[Problem]:
    mpi = facts.mpi
    if facts.software.mpi4py is None:
        return [Problem("mpi4py is not installed, so only one process can run", "pip install 'distgrad[mpich]'", True)]
    if mpi.apart is not None:
        default = "start the ranks with the mpirun of the MPI that mpi4py uses"
        text, fix = split_fix(mpi.apart, "unset DISTGRAD_BACKEND" if mpi.asked else default)
        return [Problem(text, fix, True)]
    if mpi.problem is None:
        return []
    text = f"MPI does not start: {mpi.problem}"
    if mpi.library is None:
        fix = INSTALL_MPI if mpi.chosen is None else "unset MPI4PY_LIBMPI, or let it name your libmpi.so"
        return [Problem(f"mpi4py finds no MPI library: {mpi.problem}", fix, True)]
    if (tight := _tight([facts])) is not None:
        return [Problem(f"{text}; {tight}", ENLARGE, True)]
    fix = "`python -c 'from mpi4py import MPI'` shows it; reinstall that MPI, or load its module"
    if (facts.job.kind, "Open MPI" in mpi.library) in (("openmpi", False), ("hydra", True)):
        fix = "start the ranks with the mpirun of that MPI: `python -m distgrad.launch -n N` finds it"
    elif facts.job.in_mpi_job:
        fix = "`python -m distgrad.launch --doctor` on each node, outside the job, says whether MPI starts there"
    return [Problem(text, fix, True)]


def _launcher(launcher: Launcher | None) -> list[Problem]:
    if launcher is None or launcher.problem is None:
        return []
    return [Problem(*split_fix(launcher.problem, "put the bin folder of that MPI first on PATH"), launcher.stops)]


def _blas(blas: Blas) -> list[Problem]:
    if blas.problem is None:
        return []
    return [Problem(blas.problem.removesuffix("; unset it."), "unset OPENBLAS_CORETYPE")]


def _onednn(onednn: OneDnn) -> list[Problem]:
    text, fix = split_fix(onednn.reason or "", "")
    return [Problem(f"oneDNN {text}", fix)] if fix else []


def _files(memory: Memory) -> list[Problem]:
    if memory.open_files >= FEW_FILES:
        return []
    return [Problem(f"a process may open only {memory.open_files} files", "ulimit -n 4096")]


def _gpus(facts: Facts) -> list[Problem]:
    gpus = facts.gpus
    if not gpus.driver:
        return []
    if gpus.problem is not None:
        text, fix = split_fix(gpus.problem, "look at `nvidia-smi` and CUDA_VISIBLE_DEVICES, and at CuPy's CUDA version")
        return [Problem(f"a GPU is here and not used: {text}", fix)]
    nccl = dict(facts.mpi.transports).get("nccl")
    if nccl is None:
        return []
    return [Problem(*split_fix(f"GPUs do not talk through NCCL: {nccl}", "pip install nvidia-nccl-cu13"))]


# ---- of a node -------------------------------------------------------------------------------------------------------


def _of_node(ranks: Sequence[Facts]) -> list[Problem]:
    return [*_memory(ranks), *_cores(ranks), *_shared_gpus(ranks)]


def _memory(ranks: Sequence[Facts]) -> list[Problem]:
    memory = ranks[0].memory
    if memory.free is not None and memory.memfd_problem is not None and memory.free < SMALL_SHARED_MEMORY:
        return [Problem(f"{_free(memory)}, and memfd does not work ({memory.memfd_problem})", ENLARGE)]
    tight = _tight(ranks)
    return [] if tight is None or ranks[0].mpi.problem is not None else [Problem(tight, ENLARGE)]


def _tight(ranks: Sequence[Facts]) -> str | None:
    """A sentence where /dev/shm is too small for MPI's own needs."""
    memory, launcher = ranks[0].memory, ranks[0].launcher
    count = -(-launcher.ranks // launcher.nodes) if launcher is not None else ranks[0].job.local_size
    if memory.free is None or memory.free >= count * MPI_SHARED_MEMORY:
        return None
    return f"{_free(memory)}, and MPI itself takes up to {MPI_SHARED_MEMORY // MIB} MiB a rank there"


def _free(memory: Memory) -> str:
    return f"/dev/shm has {(memory.free or 0) // MIB} MiB free"


def _cores(ranks: Sequence[Facts]) -> list[Problem]:
    count, cores = len(ranks), ranks[0].cores.node
    used = frozenset[int]().union(*(facts.cores.own for facts in ranks))
    threads = sum(facts.blas.threads or 1 for facts in ranks)
    if count > cores:
        text = f"{count} ranks share {_plural(cores, 'core')}, and wait for each other's time"
        return [Problem(text, f"start no more than {_plural(cores, 'rank')} on this node: -n {cores}")]
    if count > len(used):
        text = f"{count} ranks all stay on {_plural(len(used), 'core')} ({short_list(used)}) of {cores}"
        return [Problem(text, "start them unbound (Open MPI: --bind-to none), or with -n N --bind auto")]
    room = min(cores, len(used))
    if threads > room:
        who = f"{_plural(count, 'rank')} with {_plural(threads, 'BLAS thread')} in all"
        verb = "share" if count > 1 else "shares"
        each = max(1, room // count)
        text = f"{who} {verb} {_plural(room, 'core')}"
        return [Problem(text, f"export OMP_NUM_THREADS={each}" + (", or unset it" if count > 1 else ""))]
    return []


def _shared_gpus(ranks: Sequence[Facts]) -> list[Problem]:
    count = len(ranks[0].gpus.names)
    if not 0 < count < len(ranks):
        return []
    text = f"{len(ranks)} ranks share {_plural(count, 'GPU')}, so they do not talk through NCCL"
    return [Problem(text, f"start no more than {_plural(count, 'rank')} on this node")]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
