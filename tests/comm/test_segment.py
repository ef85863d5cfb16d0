"""Shared memory: where it comes from, what happens when there is none, and that nothing is left."""

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from distgrad.comm import get_default, run_threads
from distgrad.comm._segment import PAGE, Named, Segment, anonymous, default_stores, file_in, padded, share
from distgrad.comm._serial import SerialCommunicator
from distgrad.comm._shm import ShmCommunicator
from distgrad.errors import CommError

FLOAT = np.dtype(np.float32)


def test_padded() -> None:
    assert [padded(n) for n in (0, 1, PAGE, PAGE + 1)] == [PAGE, PAGE, PAGE, 2 * PAGE]


@pytest.mark.parametrize("kind", ["anonymous", "file"])
def test_all_ranks_see_one_memory(kind: str, tmp_path: Path) -> None:
    store = anonymous if kind == "anonymous" else file_in(str(tmp_path))

    def check() -> None:
        group = get_default()
        segment = share(group, 5 * PAGE, [store])
        whole = segment.array(0, 5 * PAGE // 4, FLOAT)
        assert not whole.any()
        group.barrier()
        whole[group.rank] = group.rank + 1
        group.barrier()
        assert whole[: group.size].tolist() == [1, 2, 3]

    with pytest.warns(RuntimeWarning, match="may be a disk") if kind == "file" else _nothing():
        run_threads(3, check)
    assert list(tmp_path.iterdir()) == []


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def no_memfd() -> Named:
    raise OSError(errno.ENOSYS, "no memfd here")


def test_the_next_store_is_tried(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="no memfd here"):
        segment = share(SerialCommunicator(), PAGE, [no_memfd, file_in(str(tmp_path))])
    assert len(segment) == PAGE


def test_every_rank_gets_the_error_when_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)

    def check() -> str:
        with pytest.raises(CommError) as caught:
            share(get_default(), 3 * PAGE, [no_memfd, file_in(str(tmp_path))])
        return str(caught.value)

    for text in run_threads(2, check):
        assert "no memfd here" in text
        assert f"expected {3 * PAGE:,} bytes free for shared memory in {tmp_path}, got" in text
        assert "--shm-size" in text
    assert list(tmp_path.iterdir()) == []


def test_the_default_never_ends_without_a_store() -> None:
    assert default_stores()[0] is anonymous and len(default_stores()) >= 2


def mappings() -> int:
    with open("/proc/self/maps") as file:
        return sum("memfd:distgrad" in line for line in file)


def test_memory_is_unmapped_with_the_last_array_on_it() -> None:
    gc.collect()
    before = mappings()
    segment: Segment | None = share(SerialCommunicator(), 10 * PAGE)
    array = segment.array(PAGE, 100, FLOAT)
    view = array[10:20]
    assert mappings() == before + 1
    segment = None
    del array
    assert mappings() == before + 1
    view[...] = 3  # a segmentation fault if it were gone
    del view
    assert mappings() == before


def test_memory_from_empty_outlives_its_communicator() -> None:
    def check() -> tuple[int, np.ndarray]:
        group = ShmCommunicator(get_default())
        array = group.empty(1000, np.float32)
        array[...] = group.rank
        group.close()
        return group.rank, array

    gc.collect()
    before = mappings()
    results = run_threads(2, check)
    gc.collect()
    assert all((array == rank).all() for rank, array in results)
    del results
    gc.collect()
    assert mappings() == before


def test_a_communicator_does_not_keep_memory_that_nobody_uses() -> None:
    def check() -> int:
        group = ShmCommunicator(get_default())
        group.barrier()
        before = mappings()
        group.barrier()
        for _ in range(5):
            array = group.empty(100_000, np.float32)
            group.all_reduce(array)
            del array
        group.barrier()
        after = mappings()
        group.barrier()
        group.close()
        return after - before

    assert all(kept <= 2 for kept in run_threads(2, check))  # the wide lane of each rank at most
