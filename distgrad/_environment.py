"""What surrounds this process: the MPI job that it belongs to, its share of the cores, and the BLAS that NumPy uses.

`distgrad/__init__` imports this module before anything else: a BLAS reads its thread variables once, when NumPy is
loaded, so they must be set before. That is also why nothing here imports NumPy at module level.
"""

import contextlib
import math
import os
import re
import signal
import stat
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import FrameType
from typing import NamedTuple

from ._binding import POLICIES, Binding, choose, read_cpus

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# What distgrad itself put into THREAD_VARIABLES. Children inherit both; a value equal to the record is not the user's.
RECORD_VARIABLE = "DISTGRAD_NUM_THREADS_SET"

# Which cores a rank stays on, one of POLICIES; `launch --bind` sets it.
BIND_VARIABLE = "DISTGRAD_BIND"

# The process id of the rank that the environment describes.
RANK_VARIABLE = "DISTGRAD_RANK_PID"


class Job(NamedTuple):
    """The place of this process in an MPI job; `kind` names the launcher, or is "single" where there is none."""

    kind: str
    rank: int
    world_size: int
    local_rank: int
    local_size: int

    @property
    def in_mpi_job(self) -> bool:
        """Whether an MPI launcher started this process (a job of one rank counts)."""
        return self.kind != "single"


class _Names(NamedTuple):
    """The environment variables in which one launcher tells a process who it is."""

    kind: str
    rank: str
    world_size: str
    local_rank: str
    local_size: str


SINGLE = Job("single", 0, 1, 0, 1)

# Most specific first: PALS and Slurm also set the PMI names, and mpirun inside a Slurm job leaves Slurm's own in place.
_LAUNCHERS = (
    _Names(
        "openmpi",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    _Names(
        "mvapich",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    _Names(
        "mvapich",
        "MVP_COMM_WORLD_RANK",
        "MVP_COMM_WORLD_SIZE",
        "MVP_COMM_WORLD_LOCAL_RANK",
        "MVP_COMM_WORLD_LOCAL_SIZE",
    ),
    _Names("pals", "PALS_RANKID", "PMI_SIZE", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    _Names("hydra", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # MPICH and Intel MPI
)


def read_job(environ: Mapping[str, str]) -> Job:
    """The MPI job that these environment variables describe, or `SINGLE`."""
    for names in _LAUNCHERS:
        values = [environ.get(name, "") for name in names[1:]]
        if all(value.isdecimal() for value in values):
            rank, world_size, local_rank, local_size = map(int, values)
            return Job(names.kind, rank, world_size, local_rank, local_size)
    return _read_slurm(environ)


def _read_slurm(environ: Mapping[str, str]) -> Job:
    """The job of a task that srun started; a batch script or an interactive shell of Slurm is not one."""
    names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID")
    values = [environ.get(name, "") for name in names]
    if not all(value.isdecimal() for value in values):
        return SINGLE
    rank, world_size, local_rank, node, step = map(int, values)
    if world_size == 1 or step >= 2**31:  # Slurm numbers its batch and interactive pseudo-steps from the top
        return SINGLE
    tasks = expand_tasks(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return Job("slurm", rank, world_size, local_rank, tasks[node] if node < len(tasks) else local_rank + 1)


def expand_tasks(text: str) -> list[int]:
    """Tasks of each node from Slurm's short form: "4(x2),3" is [4, 4, 3]."""
    counts: list[int] = []
    for tasks, repeat in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(tasks)] * int(repeat or 1)
    return counts


def usable_cores(job: Job) -> int:
    """Cores for this rank alone: its share of what all ranks of the node may use, and no more than it is bound to."""
    return max(1, min(_bound(), node_cores() // job.local_size))


def _bound() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def node_cores() -> int:
    """Cores that the ranks of this node share.

    The parent of a rank is the launcher's own process: where the launcher binds each rank, the parent still has the
    union. A CPU quota (the `cpu` limit of a container) is no binding, so it has to be read separately.
    """
    try:
        shared = len(os.sched_getaffinity(os.getppid()))
    except (AttributeError, OSError):
        shared = 0
    return min(max(shared, _bound()), cpu_quota())


def cpu_quota(root: str = "/sys/fs/cgroup") -> int:
    """The CPU quota of this control group in whole cores; a huge number where there is none.

    Args:
        root: where control groups are, of version 2 (`cpu.max`) or of version 1.
    """
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):
            quota, period = " ".join(_text(f"{root}/{file}") for file in files).split()
            return sys.maxsize if quota in ("max", "-1") else math.ceil(int(quota) / int(period))
    return sys.maxsize


def _text(path: str) -> str:
    with open(path) as file:
        return file.read()


def bound_by_launcher(own: frozenset[int]) -> bool:
    """Whether what started this rank has given it fewer cores than the ranks of the node have together."""
    try:
        return len(own) < len(os.sched_getaffinity(os.getppid()))
    except (AttributeError, OSError):
        return False


def _apply_binding(job: Job, environ: Mapping[str, str]) -> Binding | None:
    """Stay on this rank's cores, before the BLAS creates threads; None where the rank is left as it is."""
    policy = environ.get(BIND_VARIABLE) or "none"
    if policy not in POLICIES:
        raise ValueError(f"expected {BIND_VARIABLE} to be one of {', '.join(POLICIES)}, got {policy!r}")
    if policy == "none" or not job.in_mpi_job or bound_by_launcher(pool):
        return None
    binding = choose(policy, read_cpus(pool), job.local_rank, job.local_size)
    if binding is not None:
        os.sched_setaffinity(0, binding.cpus)
    return binding


def user_threads(environ: Mapping[str, str]) -> dict[str, str]:
    """The thread variables that the user set, as against those that a parent running distgrad left behind."""
    ours = environ.get(RECORD_VARIABLE)
    return {name: environ[name] for name in THREAD_VARIABLES if name in environ and environ[name] != ours}


def _apply_threads(job: Job, binding: Binding | None) -> int | None:
    """Give each rank its share of the cores as BLAS threads; None where the choice was left to the user or the BLAS."""
    if user_threads(os.environ):
        return None
    for name in (RECORD_VARIABLE, *THREAD_VARIABLES):
        os.environ.pop(name, None)  # what a parent decided for itself does not bind this process
    if job.local_size == 1:
        return None
    count = min(usable_cores(job), binding.cores) if binding else usable_cores(job)
    for name in (RECORD_VARIABLE, *THREAD_VARIABLES):
        os.environ[name] = str(count)
    if "numpy" in sys.modules:
        _limit_loaded_blas(count)
    return count


def user_malloc(environ: Mapping[str, str]) -> bool:
    """Whether the user tunes glibc's malloc, in its old way or in its new one."""
    return "glibc.malloc" in environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") and name.endswith("_") for name in environ
    )


def _limit_loaded_blas(count: int) -> None:
    """Set the threads of a BLAS that was loaded before distgrad, and so has read its variables already."""
    try:
        import threadpoolctl
    except ImportError:
        warnings.warn(
            f"NumPy was imported before distgrad, so each of the ranks on this node uses all cores instead of {count}. "
            f"Import distgrad first, start with `python -m distgrad.launch`, set OMP_NUM_THREADS={count}, "
            "or `pip install threadpoolctl`.",
            RuntimeWarning,
            stacklevel=2,
        )
    else:
        threadpoolctl.threadpool_limits(count)


# The widest vectors of each OpenBLAS kernel family and of the CPU: 1 SSE, 2 AVX, 3 AVX2, 4 AVX-512.
_KERNEL_WIDTH = {
    "PRESCOTT": 1,
    "NEHALEM": 1,
    "SANDYBRIDGE": 2,
    "HASWELL": 3,
    "ZEN": 3,
    "SKYLAKEX": 4,
    "COOPERLAKE": 4,
    "SAPPHIRERAPIDS": 4,
}
_CPU_WIDTH = (("avx512dq", 4), ("avx2", 3), ("avx", 2))


def forced_kernel(environ: Mapping[str, str], cpu_flags: frozenset[str]) -> str | None:
    """A sentence when the environment makes OpenBLAS use a slower kernel than this CPU allows, else None."""
    forced = environ.get("OPENBLAS_CORETYPE", "")
    width = next((width for flag, width in _CPU_WIDTH if flag in cpu_flags), 1)
    if _KERNEL_WIDTH.get(forced.upper(), width) >= width:
        return None
    return (
        f"OPENBLAS_CORETYPE={forced} forces a kernel with narrower vectors than this CPU has, "
        "which can halve the speed of matrix products; unset it."
    )


def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo") as file:
            return frozenset(next((line for line in file if line.startswith("flags")), "").split())
    except OSError:
        return frozenset()


def blas_uses_avx512() -> bool:
    """Whether OpenBLAS takes its kernels for AVX-512 here."""
    flags = _cpu_flags()
    return "avx512dq" in flags and forced_kernel(os.environ, flags) is None


class BlasConfig(NamedTuple):
    """One BLAS library loaded in this process; `kernel` and `threads` are "?" where threadpoolctl is not installed."""

    library: str
    kernel: str
    threads: str


def blas_config() -> list[BlasConfig]:
    """The BLAS libraries that this process has loaded, with the kernel and the threads that they use now."""
    try:
        import threadpoolctl
    except ImportError:
        return [BlasConfig("?", "?", "?")]
    return [
        BlasConfig(
            f"{info['internal_api']} {info.get('version') or '?'}",
            str(info.get("architecture", "?")),
            str(info["num_threads"]),
        )
        for info in threadpoolctl.threadpool_info()
        if info["user_api"] == "blas"
    ]


@contextlib.contextmanager
def openmp_that_sleeps() -> Iterator[None]:
    """An OpenMP loaded in this block puts threads without work to sleep, unless the user has chosen.

    libgomp's would spin for milliseconds instead, and take the cores from the BLAS, which has threads of its own.
    """
    chosen = "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = "0"  # libgomp reads it once, when it is loaded
    try:
        yield
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]


def show_config() -> None:
    """Print the job, the cores and the BLAS as distgrad sees them, and warn where the environment slows NumPy down."""
    print(f"job: {job.kind}, rank {job.rank} of {job.world_size} (local {job.local_rank} of {job.local_size})")
    chosen = f"{threads}, set by distgrad" if threads else "left to the environment"
    print(f"cores for this rank: {usable_cores(job)}; BLAS threads: {chosen}")
    import_module("numpy")  # with its BLAS; `import distgrad` alone does not load it
    for library, kernel, count in blas_config():
        print(f"BLAS: {library}, kernel {kernel}, threads {count}")
    warning = kernel_warning()
    if warning:
        print(f"warning: {warning}")


def kernel_warning() -> str | None:
    """A sentence when this environment makes OpenBLAS slower than it could be on this CPU, else None."""
    return forced_kernel(os.environ, _cpu_flags())


def _read_descriptor(environ: Mapping[str, str]) -> int | None:
    value = environ.get("PMI_FD", "")
    return int(value) if value.isdecimal() else None


def _answers_about_keys(environ: Mapping[str, str]) -> bool:
    """Whether the Hydra around us is MPICH's, which a rank may ask before MPI_Init; Intel's we leave alone."""
    return not any(name.startswith("I_MPI_") for name in environ)


def inherited() -> dict[str, str]:
    """The environment that a child process of this one gets."""
    return dict(os.environ)


_OF_A_JOB = ("PMI", "PMIX", "OMPI_", "PRTE_", "HYDRA_", "HYDI_", "MPI_LOCAL", "MPIR_", "SLURM_", "PALS_", "DISTGRAD_")


def outside_jobs() -> dict[str, str]:
    """The environment for a child process that is to be an MPI job of its own, whatever job is around this one."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_JOB)}


def as_this_rank() -> dict[str, str]:
    """The environment for a child process that takes the place of this rank in its job, on the same cores."""
    return {name: value for name, value in os.environ.items() if name not in (RANK_VARIABLE, BIND_VARIABLE)}


def tell_hydra(descriptor: int | None, code: int) -> bool:
    """Abort the job through Hydra's PMI socket; before MPI_Init, it ignores a rank that ends and lets the others wait.

    Args:
        descriptor: the socket, `pmi_descriptor`.
        code: the exit status of the job.

    Returns:
        Whether Hydra was told; it then ends this process too.
    """
    try:
        if descriptor is None or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        os.write(descriptor, f"cmd=abort exitcode={code}\n".encode())
    except OSError:
        return False
    return True


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    os.write(2, f"[rank {job.rank}] KeyboardInterrupt\n".encode())
    if tell_hydra(pmi_descriptor, 128 + number):
        time.sleep(2)
    os._exit(128 + number)


def leave_at_once_at_interrupt() -> None:
    """Let Ctrl-C end this rank without a traceback, until `raise_at_interrupt`.

    The imports of distgrad are no place for an error: the hook that would end the whole job is not there yet.
    """
    if job.in_mpi_job and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, _leave_at_once)


def raise_at_interrupt() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave_at_once:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_child_of_rank(environ: Mapping[str, str]) -> bool:
    """Whether a rank started this process (a data worker, a tool): it inherits the variables of a rank and is none."""
    owner = environ.get(RANK_VARIABLE, str(os.getpid()))
    if owner == str(os.getpid()):
        return False
    multiprocessing = sys.modules.get("multiprocessing")
    return owner == str(os.getppid()) or (multiprocessing is not None and multiprocessing.parent_process() is not None)


def _start() -> tuple[Job, Binding | None, int | None]:
    """The job, the place and the number of threads of this process; a rank leaves its mark for its children to see."""
    if _is_child_of_rank(os.environ):
        return SINGLE, None, None  # the rank's own place and thread count, inherited, are right for its children too
    job = read_job(os.environ)
    if job.in_mpi_job:
        os.environ[RANK_VARIABLE] = str(os.getpid())
    binding = _apply_binding(job, os.environ)
    return job, binding, _apply_threads(job, binding)


# The logical CPUs that this process could use when it began.
pool = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset(range(os.cpu_count() or 1))
job, binding, threads = _start()
pmi_descriptor = _read_descriptor(os.environ) if job.kind == "hydra" else None  # the socket to Hydra
kvs_descriptor = pmi_descriptor if _answers_about_keys(os.environ) else None  # the same, where it may be asked
pmix_namespace = os.environ.get("PMIX_NAMESPACE") if job.kind == "openmpi" else None  # what Open MPI calls this job
tunes_malloc = user_malloc(os.environ)
onednn = os.environ.get("DISTGRAD_ONEDNN", "")  # "0": do without; a file: that libdnnl; else the wheel's, if installed
leave_at_once_at_interrupt()
