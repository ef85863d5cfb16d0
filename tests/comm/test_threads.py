"""Ranks as threads: results, errors, and groups of their own."""

import time

import numpy as np
import pytest

import distgrad.comm as dist
from distgrad.comm import get_default, run_threads
from distgrad.errors import CollectiveMismatchError, CommError, CommTimeoutError, PeerLostError


def test_results_come_by_rank() -> None:
    assert run_threads(3, lambda x: (dist.get_rank(), dist.get_world_size(), x), 5) == [(0, 3, 5), (1, 3, 5), (2, 3, 5)]


def test_the_first_error_is_raised_and_frees_the_others() -> None:
    def fail() -> None:
        if dist.get_rank() == 1:
            raise ValueError("planted")
        dist.barrier()

    started = time.monotonic()
    with pytest.raises(ValueError, match="planted"):
        run_threads(3, fail)
    assert time.monotonic() - started < 30


def test_a_rank_that_returns_early_frees_the_others() -> None:
    with pytest.raises(PeerLostError, match="rank 1 has left: its function has returned"):
        run_threads(2, lambda: dist.barrier() if dist.get_rank() == 0 else None)


def test_a_mismatch_names_both_sides() -> None:
    def differ() -> None:
        dist.all_reduce(np.zeros(3 + dist.get_rank()))

    with pytest.raises(CollectiveMismatchError, match=r"(?s)rank 0: all_reduce\(SUM, 3 .*rank 1: all_reduce\(SUM, 4 "):
        run_threads(2, differ)


def test_timeout() -> None:
    with pytest.raises(CommTimeoutError, match=r"missing: ranks \[1\]"):
        run_threads(2, lambda: dist.barrier() if dist.get_rank() == 0 else time.sleep(0.5), timeout=0.1)


def test_arguments_are_not_shared() -> None:
    def write(array: np.ndarray) -> None:
        array[...] = dist.get_rank()
        dist.barrier()
        assert (array == dist.get_rank()).all()

    original = np.full(5, -1.0)
    run_threads(3, write, original)
    assert (original == -1).all()


def test_threads_do_not_change_the_group_of_the_process() -> None:
    run_threads(2, get_default)
    assert dist.get_world_size() == 1


def test_a_failed_group_stays_failed() -> None:
    def fail_twice() -> None:
        with pytest.raises(CollectiveMismatchError):
            dist.all_reduce(np.zeros(3 + dist.get_rank()))
        with pytest.raises(
            CommError, match=r"cannot be used any more: all_reduce.*failed with CollectiveMismatchError"
        ):
            dist.barrier()

    run_threads(2, fail_twice)


def test_a_message_of_another_size_is_an_error() -> None:
    def exchange() -> None:
        if dist.get_rank() == 0:
            dist.send(np.zeros(3), 1)
        else:
            dist.recv(np.zeros(4), 0)

    with pytest.raises(CommError, match="expected 32 bytes from rank 0, got 24"):
        run_threads(2, exchange)


def test_waiting_for_a_message_of_a_rank_that_left() -> None:
    with pytest.raises(PeerLostError, match="receiving from rank 1, but rank 1 has left"):
        run_threads(2, lambda: dist.recv(np.zeros(4), 1) if dist.get_rank() == 0 else None)
