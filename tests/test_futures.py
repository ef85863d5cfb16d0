"""Futures: values that come later, and what is to be done with them."""

import threading
from typing import Any

import numpy as np
import pytest

from distgrad import comm
from distgrad.comm import run_threads
from distgrad.futures import Future, collect_all, wait_all


def test_a_result_and_its_callbacks() -> None:
    future: Future[int] = Future()
    seen: list[int] = []
    future.add_done_callback(lambda f: seen.append(f.value()))
    later = future.then(lambda f: 2 * f.value()).then(lambda f: f.value() + 1)
    assert not future.done() and not later.done()
    with pytest.raises(RuntimeError, match=r"wait\(\) for it first"):
        future.value()
    future.set_result(20)
    assert seen == [20] and later.done() and later.wait() == 41
    future.add_done_callback(lambda f: seen.append(-f.value()))
    assert seen == [20, -20]
    with pytest.raises(RuntimeError, match="takes one result"):
        future.set_result(3)


def test_errors_travel() -> None:
    future: Future[int] = Future()
    later = future.then(lambda f: f.value() + 1)
    future.set_exception(ValueError("planted"))
    for one in (future, later):
        with pytest.raises(ValueError, match="planted"):
            one.wait()


def test_a_source_runs_once_for_whoever_waits_first() -> None:
    calls: list[int] = []

    def source() -> int:
        calls.append(1)
        return 7

    future = Future.of(source)
    later = future.then(lambda f: f.value() * 2)
    assert not calls
    assert later.wait() == 14 and future.wait() == 7 and calls == [1]

    def fails() -> int:
        raise KeyError("planted")

    with pytest.raises(KeyError):
        Future.of(fails).then(lambda f: f.value()).wait()


def test_completed_by_another_thread() -> None:
    future: Future[str] = Future()
    threading.Timer(0.02, future.set_result, ["there"]).start()
    assert future.then(lambda f: f.value() + "!").wait() == "there!"


def test_several_at_once() -> None:
    futures = [Future.of(lambda i=i: i) for i in range(3)]  # type: ignore[misc]
    assert [f.value() for f in collect_all(futures).wait()] == [0, 1, 2]
    assert wait_all(futures) == [0, 1, 2]


def test_work_of_a_collective() -> None:
    def on_rank() -> Any:
        buffer = np.ones(3)
        work = comm.all_reduce(buffer, async_op=True)
        assert work is not None
        done = work.get_future().then(lambda f: f.value()[0])
        assert done.wait() is buffer
        return buffer.tolist()

    assert run_threads(2, on_rank) == [[2.0] * 3] * 2
