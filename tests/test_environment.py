"""Who this process is, by the variables of each launcher, and how many threads that leaves it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distgrad import _environment as environment
from distgrad._environment import (
    SINGLE,
    THREAD_VARIABLES,
    Job,
    forced_kernel,
    read_job,
    usable_cores,
    user_malloc,
    user_threads,
)
from tests.jobs import clean_environment

OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
HYDRA = {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"}
PALS = {"PALS_RANKID": "5", "PMI_SIZE": "8", "PALS_LOCAL_RANKID": "1", "PALS_LOCAL_SIZE": "4", "PMI_RANK": "5"}
MVAPICH = {name.replace("OMPI_", "MV2_"): value for name, value in OPENMPI.items()}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}


@pytest.mark.parametrize(
    ("kind", "environ"),
    [("openmpi", OPENMPI), ("hydra", HYDRA), ("pals", PALS), ("mvapich", MVAPICH), ("slurm", SLURM)],
)
def test_each_launcher_is_known(kind: str, environ: dict[str, str]) -> None:
    job = read_job(environ)
    assert job == Job(kind, 5, 8, 1, 4)
    assert job.in_mpi_job


def test_without_a_launcher() -> None:
    assert read_job({"PATH": "/bin"}) == SINGLE
    assert not SINGLE.in_mpi_job


def test_half_a_job_is_none() -> None:
    assert read_job({"PMI_RANK": "1"}) == SINGLE
    assert read_job({**HYDRA, "PMI_SIZE": "many"}) == SINGLE


def test_mpirun_inside_slurm_counts_before_slurm() -> None:
    assert read_job({**SLURM, **HYDRA, "SLURM_PROCID": "0"}).kind == "hydra"


def test_batch_script_of_slurm_is_no_rank() -> None:
    batch = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}
    assert read_job(batch) == SINGLE
    assert read_job({**SLURM, "SLURM_STEP_ID": "4294967291"}) == SINGLE  # srun's own batch step
    assert read_job({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) == SINGLE  # srun --pty bash


@pytest.mark.parametrize(("tasks", "local_size"), [("4(x2)", 4), ("5,3", 3), ("2(x1),6", 6), ("", 2)])
def test_slurm_tasks_of_each_node(tasks: str, local_size: int) -> None:
    assert read_job({**SLURM, "SLURM_STEP_TASKS_PER_NODE": tasks}).local_size == local_size


def cores(monkeypatch: pytest.MonkeyPatch, own: int, parent: int, ranks: int, quota: int = 10**6) -> int:
    """usable_cores where this process may use `own` cores and the launcher above it `parent`."""
    sets = {0: set(range(own)), os.getppid(): set(range(parent))}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: sets[pid])
    monkeypatch.setattr(environment, "cpu_quota", lambda: quota)
    return usable_cores(Job("hydra", 0, ranks, 0, ranks))


@pytest.mark.parametrize(
    ("own", "parent", "ranks", "expected"),
    [
        (64, 64, 4, 16),  # not bound: a share
        (1, 64, 4, 1),  # bound to a core
        (8, 64, 8, 8),  # bound to a NUMA domain of its own
        (8, 64, 16, 4),  # two ranks in each domain
        (2, 2, 4, 1),  # more ranks than cores
        (8, 8, 3, 2),
    ],
)
def test_usable_cores(monkeypatch: pytest.MonkeyPatch, own: int, parent: int, ranks: int, expected: int) -> None:
    assert cores(monkeypatch, own, parent, ranks) == expected


def test_usable_cores_in_a_container_with_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores(monkeypatch, 64, 64, 2, quota=4) == 2


@pytest.mark.parametrize(
    ("text", "quota"),
    [("max 100000\n", sys.maxsize), ("200000 100000\n", 2), ("150000 100000\n", 2), ("", sys.maxsize)],
)
def test_cpu_quota(tmp_path: Path, text: str, quota: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text)
    assert environment.cpu_quota(str(tmp_path)) == quota
    assert environment.cpu_quota(str(tmp_path / "none")) == sys.maxsize


@pytest.mark.parametrize(("text", "quota"), [("-1\n", sys.maxsize), ("200000\n", 2), ("250000\n", 3)])
def test_cpu_quota_of_the_first_version(tmp_path: Path, text: str, quota: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(text)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert environment.cpu_quota(str(tmp_path)) == quota


def test_the_users_threads_are_told_from_ours() -> None:
    assert user_threads({"OMP_NUM_THREADS": "3"}) == {"OMP_NUM_THREADS": "3"}
    assert user_threads({"OMP_NUM_THREADS": "2", environment.RECORD_VARIABLE: "2"}) == {}
    assert user_threads({"OMP_NUM_THREADS": "3", environment.RECORD_VARIABLE: "2"}) == {"OMP_NUM_THREADS": "3"}


AVX512 = frozenset({"avx", "avx2", "avx512f", "avx512dq"})


@pytest.mark.parametrize(
    ("forced", "flags", "slower"),
    [
        ("Haswell", AVX512, True),
        ("haswell", frozenset({"avx", "avx2"}), False),
        ("Nehalem", frozenset({"avx"}), True),
        ("SkylakeX", AVX512, False),
        ("", AVX512, False),
        ("SomethingNew", AVX512, False),
    ],
)
def test_a_slower_kernel_is_named(forced: str, flags: frozenset[str], slower: bool) -> None:
    warning = forced_kernel({"OPENBLAS_CORETYPE": forced} if forced else {}, flags)
    assert (warning is not None) == slower
    if warning:
        assert forced in warning and "unset" in warning


# ---- in real processes -----------------------------------------------------------------------------------------------

REPORT = """
import json, os, {first}distgrad._environment as environment
import numpy, threadpoolctl
threads = [i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
print(json.dumps([environment.job.kind, environment.threads, max(threads), {{n: os.environ.get(n) for n in {names}}}]))
"""

SHARE = usable_cores(Job("hydra", 1, 2, 1, 2))
RANK = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


def report(environ: dict[str, str], first: str = "", prefix: tuple[str, ...] = ()) -> list[object]:
    """What a fresh process with these variables finds: kind of job, threads set, BLAS threads, variables."""
    pytest.importorskip("threadpoolctl", reason="the threads of the BLAS can be read only with threadpoolctl")
    code = REPORT.format(first=first, names=THREAD_VARIABLES)
    result = subprocess.run(
        [*prefix, sys.executable, "-c", code],
        env={**clean_environment(), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[object] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_one_process_is_left_alone() -> None:
    kind, threads, _, variables = report({})
    assert (kind, threads) == ("single", None)
    assert variables == dict.fromkeys(THREAD_VARIABLES)


@pytest.mark.parametrize("first", ["", "numpy, "], ids=["distgrad first", "numpy first"])
def test_a_rank_takes_its_share(first: str) -> None:
    assert report(RANK, first) == ["hydra", SHARE, SHARE, dict.fromkeys(THREAD_VARIABLES, str(SHARE))]


def test_the_users_choice_stands() -> None:
    kind, threads, blas, variables = report({**RANK, "OMP_NUM_THREADS": "2"})
    assert (kind, threads, blas) == ("hydra", None, min(2, len(os.sched_getaffinity(0))))
    assert variables == {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": None, "MKL_NUM_THREADS": None}


def test_a_parents_setting_is_not_the_users() -> None:
    """A rank of a job that another distgrad process started inherits that one's variables."""
    inherited = {**dict.fromkeys(THREAD_VARIABLES, "7"), environment.RECORD_VARIABLE: "7"}
    assert report({**RANK, **inherited})[1] == SHARE
    assert report(inherited)[3] == dict.fromkeys(THREAD_VARIABLES)


def test_a_child_of_a_rank_is_no_rank() -> None:
    """It must neither join the job nor end it; its threads are those of the rank."""
    code = "import os, sys, subprocess, distgrad._environment as e; sys.exit(subprocess.call(sys.argv[1:]))"
    kind, threads, _, variables = report(RANK, prefix=(sys.executable, "-c", code))
    assert (kind, threads) == ("single", None)
    assert variables == dict.fromkeys(THREAD_VARIABLES, str(SHARE))


def test_without_threadpoolctl_the_warning_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.warns(RuntimeWarning, match="OMP_NUM_THREADS=3"):
        environment._limit_loaded_blas(3)
    assert environment.blas_config()[0].kernel == "?"


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    environment.show_config()
    shown = capsys.readouterr().out
    assert "job: " in shown and "cores for this rank: " in shown and "BLAS: " in shown


@pytest.mark.parametrize(
    ("environ", "tuned"),
    [
        ({}, False),
        ({"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, True),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, True),
        ({"MALLOC_CONF": "narenas:1"}, False),
    ],
)
def test_the_users_malloc_is_noticed(environ: dict[str, str], tuned: bool) -> None:
    assert user_malloc(environ) is tuned
