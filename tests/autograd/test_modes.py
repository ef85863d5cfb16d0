"""no_grad and its like: as contexts, as decorators, nested, in threads."""

import threading
from collections.abc import Iterator

import pytest

import distgrad as dg


def test_no_grad_records_nothing() -> None:
    x = dg.ones(2, requires_grad=True)
    with dg.no_grad():
        y = x * 2
        assert not dg.is_grad_enabled()
    assert dg.is_grad_enabled()
    assert not y.requires_grad and y.is_leaf


def test_a_new_leaf_under_no_grad_requires_grad() -> None:
    with dg.no_grad():
        x = dg.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_nesting() -> None:
    with dg.no_grad():
        with dg.enable_grad():
            assert dg.is_grad_enabled()
            with dg.no_grad():
                assert not dg.is_grad_enabled()
        assert not dg.is_grad_enabled()
        with dg.set_grad_enabled(True):
            assert dg.is_grad_enabled()
        assert not dg.is_grad_enabled()


def test_the_mode_comes_back_after_an_error() -> None:
    with pytest.raises(KeyError), dg.no_grad():
        raise KeyError
    assert dg.is_grad_enabled()


def test_one_guard_can_be_entered_twice() -> None:
    guard = dg.no_grad()
    with guard, guard:
        assert not dg.is_grad_enabled()
    assert dg.is_grad_enabled()


def test_decorators() -> None:
    @dg.no_grad()
    def off() -> bool:
        return dg.is_grad_enabled()

    @dg.no_grad
    def off_without_call() -> bool:
        return dg.is_grad_enabled()

    @dg.enable_grad()
    def on() -> bool:
        return dg.is_grad_enabled()

    @dg.set_grad_enabled(False)
    def also_off() -> bool:
        return dg.is_grad_enabled()

    @dg.inference_mode()
    def inferring() -> tuple[bool, bool]:
        return dg.is_grad_enabled(), dg.is_inference_mode_enabled()

    assert (off(), off_without_call(), also_off()) == (False, False, False)
    assert inferring() == (False, True)
    with dg.no_grad():
        assert on()
    assert dg.is_grad_enabled() and not dg.is_inference_mode_enabled()
    assert off.__name__ == "off"


def test_a_decorated_generator() -> None:
    @dg.no_grad()
    def numbers() -> Iterator[bool]:
        received = yield dg.is_grad_enabled()
        assert received == "sent"
        try:
            yield dg.is_grad_enabled()
        except ValueError:
            yield dg.is_grad_enabled()
        return "end"

    generator = numbers()
    assert next(generator) is False
    assert dg.is_grad_enabled()
    assert generator.send("sent") is False
    assert generator.throw(ValueError()) is False
    with pytest.raises(StopIteration, match="end"):
        next(generator)
    assert dg.is_grad_enabled()


def test_a_decorated_generator_can_be_closed() -> None:
    closed: list[bool] = []

    @dg.no_grad()
    def numbers() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(dg.is_grad_enabled())

    generator = numbers()
    next(generator)
    generator.close()
    assert closed == [False]
    assert dg.is_grad_enabled()


def test_set_grad_enabled_as_a_function() -> None:
    dg.set_grad_enabled(False)
    try:
        assert not dg.is_grad_enabled()
    finally:
        dg.set_grad_enabled(True)
    assert dg.is_grad_enabled()


def test_inference_mode() -> None:
    x = dg.ones(2, requires_grad=True)
    with dg.inference_mode():
        with dg.inference_mode():
            pass
        assert dg.is_inference_mode_enabled() and not dg.is_grad_enabled()
        y = x * 2
    assert not y.requires_grad
    with dg.inference_mode(False):
        assert dg.is_grad_enabled() and not dg.is_inference_mode_enabled()


def test_a_thread_has_its_own_mode() -> None:
    seen: list[bool] = []
    with dg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(dg.is_grad_enabled()))
        thread.start()
        thread.join()
        assert not dg.is_grad_enabled()
    assert seen == [True]
