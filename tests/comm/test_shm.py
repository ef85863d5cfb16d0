"""Shared memory at its edges: sizes, several segments, where pages lie, systems that have too little of it."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from distgrad.comm import Communicator, ReduceOp, _shm, get_default, run_threads
from distgrad.comm._reduce import reduced
from distgrad.comm._segment import HUGE, PAGE, share
from distgrad.comm._shm import ShmCommunicator
from tests.comm.conformance import dtype_of
from tests.jobs import ROOT, clean_environment

GIGABYTES = "DISTGRAD_TEST_GIGABYTES"


def values(rank: int, n: int, dtype: str) -> np.ndarray:
    """Numbers whose sums depend on their order."""
    return np.random.default_rng(rank).standard_normal(n).astype(dtype_of(dtype))


@pytest.mark.parametrize("own", [True, False], ids=["own memory", "other memory"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "complex64"])
def test_sums_run_in_the_order_of_the_ranks(dtype: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of the buffer and the way that it takes."""
    monkeypatch.setattr(_shm, "STAGE_BYTES", 256 * 1024)

    def check(n: int, op: ReduceOp) -> bytes:
        group = ShmCommunicator(get_default())
        buffer = group.empty(n, dtype_of(dtype)) if own else np.empty(n, dtype_of(dtype))
        buffer[...] = values(group.rank, n, dtype)
        group.all_reduce(buffer, op)
        group.close()
        return buffer.tobytes()

    for n in (9, 100_003):
        for op in (ReduceOp.SUM, ReduceOp.AVG):
            want = reduced([values(rank, n, dtype) for rank in range(3)], op).tobytes()
            assert set(run_threads(3, check, n, op)) == {want}


def test_several_segments_at_one_time() -> None:
    """From one element to many pages; one of them goes, the others stay."""

    def check() -> None:
        group = ShmCommunicator(get_default())
        sizes = [1, PAGE // 4, PAGE // 4 + 1, 70_000, 2 * HUGE // 4 + 5]
        memories = [group.empty(n, np.float32) for n in sizes]
        del memories[1], sizes[1]
        for turn in range(2):
            for number, memory in enumerate(memories):
                memory[...] = group.rank + number + turn
            for number, memory in reversed(list(enumerate(memories))):
                group.all_reduce(memory)
                assert (memory == 1 + 2 * (number + turn)).all()
        assert len(group._segments) == len(sizes)
        group.barrier()  # a segment that a peer still has is not this rank's affair
        group.close()

    run_threads(2, check)


def test_every_rank_reserves_its_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system puts a page near to the core that asks for it first: that must be the rank that will write it."""
    reserved: dict[int, tuple[int, int]] = {}
    original = os.posix_fallocate

    def note(descriptor: int, offset: int, length: int) -> None:
        reserved[threading.get_ident()] = (offset, length)
        original(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", note)

    def check() -> tuple[int, int, int, int]:
        group = ShmCommunicator(get_default())
        memory = group.empty(5_000_000, np.float32)
        (segment,) = [reference() for reference in group._segments.values()]
        assert segment is not None
        begin = memory.__array_interface__["data"][0] - segment.start
        group.barrier()
        group.close()
        return begin, memory.nbytes, *reserved[threading.get_ident()]

    before = HUGE  # of the file
    for begin, nbytes, offset, length in run_threads(3, check):
        assert offset - before == begin and nbytes <= length < nbytes + PAGE


def test_large_segments_can_lie_in_huge_pages() -> None:
    segment = share(get_default(), 5 * HUGE)
    assert segment.start % HUGE == 0
    whole = segment.array(0, 5 * HUGE, np.dtype(np.uint8))
    assert not whole.any()
    whole[-1] = 7
    assert whole.ctypes.data == segment.start and segment.array(5 * HUGE - 1, 1, whole.dtype)[0] == 7
    assert share(get_default(), PAGE).start % PAGE == 0


@pytest.mark.skipif(GIGABYTES not in os.environ, reason=f"needs 6 GiB of memory; set {GIGABYTES} to run it")
def test_gigabytes() -> None:
    """No number of bytes or elements is cut to 32 bits."""
    n = 3 << 30

    def check() -> None:
        group = ShmCommunicator(get_default())
        memory = group.empty(n, np.uint8)
        for place in (0, n // 2, (1 << 31) + 5, n - 1):
            memory[place] = group.rank + 1
        group.all_reduce(memory)
        for place in (0, n // 2, (1 << 31) + 5, n - 1):
            assert memory[place] == 3
            assert memory[place - 1 if place else 1] == 0
        group.broadcast(memory[5:], 1)
        group.close()

    run_threads(2, check, timeout=600.0)


# ---- a system with too little shared memory --------------------------------------------------------------------------

SMALL_SHM = """
import warnings
import numpy as np
from distgrad.comm import get_default, run_threads, _segment
from distgrad.comm._shm import ShmCommunicator

_segment.default_stores = lambda stores=_segment.default_stores(): stores[1:]  # as where there is no memfd

def check():
    group = ShmCommunicator(get_default())
    memory = group.empty(1_000_000, np.float32)
    memory[...] = group.rank
    group.all_reduce(memory)
    assert (memory == 1).all()
    group.close()

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    run_threads(2, check)
for warning in caught:
    print(warning.category.__name__, warning.message)
print("summed")
"""


def test_dev_shm_too_small_falls_back_to_a_temporary_file(tmp_path: Path) -> None:
    """/dev/shm of 1 MiB, as in a container, in a mount namespace of its own."""
    unshare = shutil.which("unshare")
    program = tmp_path / "small.py"
    program.write_text(SMALL_SHM)
    mounted = 'mount -t tmpfs -o size=1m tmpfs /dev/shm || exit 77; exec "$@"'
    command = [str(unshare), "--mount", "sh", "-c", mounted, "sh", sys.executable, str(program)]
    if unshare is None:
        pytest.skip("no unshare here; install util-linux")
    environment = {**clean_environment(), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60, check=False)
    if done.returncode in (1, 77) and ("mount" in done.stderr or "unshare" in done.stderr):
        pytest.skip(f"cannot mount a small /dev/shm: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "summed" in done.stdout
    needed = 2 * (4_000_000 + -4_000_000 % PAGE)
    assert "RuntimeWarning" in done.stdout and f"expected {needed:,} bytes free" in done.stdout
    assert re.search(r"/dev/shm, got [\d,]+; .* \(docker run --shm-size=1g\)", done.stdout)
    assert [path for path in tmp_path.iterdir() if path != program] == []


def test_a_buffer_that_is_no_part_of_a_segment_is_not_taken_for_one() -> None:
    """Planted: memory just behind a rank's part, and that of another rank."""

    def check(group: Communicator) -> None:
        assert isinstance(group, ShmCommunicator)
        memory = group.empty(PAGE // 4, np.float32)
        (segment,) = [reference() for reference in group._segments.values()]
        assert segment is not None
        other = segment.array((1 - group.rank) * PAGE, PAGE // 4, memory.dtype)
        assert group._locate(memory) == (1, 0) and group._locate(memory[7:]) == (1, 28)
        assert group._locate(other) == (0, 0) and group._locate(np.empty(3)) == (0, 0)
        group.barrier()
        group.close()

    run_threads(2, lambda: check(ShmCommunicator(get_default())))
