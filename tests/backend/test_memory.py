"""Whether memory that one step frees is there for the next."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, numpy
import distgrad.backend
def step():
    [numpy.ones(1 << 20) for _ in range(8)]
    arrays = [numpy.ones(1 << 20) for _ in range(8)]  # 8 MiB each
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
"""


def faults(**environ: str) -> int:
    """Minor page faults of a step that fills and frees 64 MiB."""
    run = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={"PYTHONPATH": ":".join(sys.path), **environ},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is what is set")
def test_freed_memory_is_kept_unless_the_user_decided() -> None:
    assert faults() < 50
    # So much comes back where the user wants memory returned: at least one fault for each 2 MiB.
    assert faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072") >= 32
