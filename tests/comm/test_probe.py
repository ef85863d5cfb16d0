"""Whether MPI takes addresses on a GPU: what the library says, and the trial in a process that may crash."""

import subprocess
import sys

import pytest

from distgrad.comm import device_transports
from distgrad.comm.device import _probe
from tests.backend import fake_cupy
from tests.jobs import ROOT, clean_environment


def trial(code: str) -> str | None:
    return _probe.trial_problem((sys.executable, "-c", code))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('cuda-aware')", None),
        ("import os; os.kill(os.getpid(), 11)", "the trial died of SIGSEGV"),
        ("print('cuda-aware'); import os, sys; sys.stdout.flush(); os.abort()", "the trial died of SIGABRT"),
        ("raise SystemExit('expected 3 everywhere, got 0')", "the trial ended with status 1: expected 3 everywhere"),
        ("pass", "the trial ended with status 0: no message"),
    ],
)
def test_how_a_trial_ends(code: str, problem: str | None) -> None:
    found = trial(code)
    assert found == problem if problem is None else (found or "").startswith(problem)


def test_a_trial_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_probe, "_DEADLINE", 0.2)
    assert trial("import time; time.sleep(30)") == "the trial did not end within 0.2 s"


def test_the_trial_is_no_rank_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the launcher's environment reaches it, or it would wait for the job's other ranks."""
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "MPI_LOCALRANKID", "DISTGRAD_X"):
        monkeypatch.setenv(name, "mark")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    seen = "import os; raise SystemExit([n for n, v in os.environ.items() if v == 'mark'] or 'none')"
    assert trial(seen) == "the trial ended with status 1: none"
    kept = "import os; print('cuda-aware' if os.environ['CUDA_VISIBLE_DEVICES'] == '0' else '')"
    assert trial(kept) is None


ON_STAND_IN = """
from distgrad.comm.device import _probe
from tests.backend import fake_cupy
with fake_cupy.installed(late=True):
    {plant}
    _probe.main()
"""


@pytest.mark.parametrize(
    ("plant", "problem"),
    [("", None), ("fake_cupy.Stream.synchronize = lambda self: None", "expected 3 everywhere, got")],
    ids=["sound", "without waiting"],
)
def test_the_trial_itself(plant: str, problem: str | None) -> None:
    """On the stand-in, whose addresses every MPI takes."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    outcome = subprocess.run(
        [sys.executable, "-c", ON_STAND_IN.format(plant=plant)],
        env=clean_environment(), cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (outcome.returncode == 0) == (problem is None), outcome.stderr
    assert "cuda-aware" in outcome.stdout if problem is None else problem in outcome.stderr


ASK = """
from distgrad.comm import device_transports
from tests.backend import fake_cupy
with fake_cupy.installed():
    print(device_transports())
"""


def test_what_the_library_says() -> None:
    """The MPI of a wheel is built without CUDA."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    outcome = subprocess.run(
        [sys.executable, "-c", ASK], env=clean_environment(), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "'nccl': None, 'mpi': 'the MPI library does not say that it is CUDA-aware" in outcome.stdout, outcome.stderr
    assert "'staged': None" in outcome.stdout


def test_without_a_gpu_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_cupy.installed() as cupy:
        monkeypatch.setattr(cupy, "is_available", lambda: False)
        found = device_transports()
    assert list(found) == ["nccl", "mpi", "staged"]
    assert all("no usable NVIDIA GPU" in str(problem) for problem in found.values())
