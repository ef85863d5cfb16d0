"""Random streams on Philox."""

import numpy as np
import pytest

from distgrad.backend._random import Stream, entropy

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def test_philox_is_numpys() -> None:
    expected = np.random.Generator(np.random.Philox(key=7)).random(4)
    assert Stream(7).uniform((4,), F64).tolist() == expected.tolist()


def test_a_seed_is_taken_modulo_two_to_the_64() -> None:
    assert Stream(-1).uniform((3,), F64).tolist() == Stream(2**64 - 1).uniform((3,), F64).tolist()
    assert Stream(1).uniform((3,), F64).tolist() != Stream(2).uniform((3,), F64).tolist()


@pytest.mark.parametrize("used", [0, 1, 2, 3, 4, 5, 9])
def test_states(used: int) -> None:
    stream = Stream(11)
    stream.uniform((used,), F32)
    stream.normal((used,), F32)
    other = Stream(0)
    other.set_state(stream.get_state())
    for _ in range(3):
        assert other.uniform((3,), F32).tolist() == stream.uniform((3,), F32).tolist()
        assert other.bernoulli(0.3, (9,)).tolist() == stream.bernoulli(0.3, (9,)).tolist()
    assert other.seed == 11
    assert stream.get_state().nbytes == 104


def test_what_is_no_state() -> None:
    for state in (np.zeros(104), np.zeros(7, dtype=np.uint8)):
        with pytest.raises(ValueError, match="random state"):
            Stream(0).set_state(state)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 5), (40_001,)])
def test_shapes(shape: tuple[int, ...]) -> None:
    stream = Stream(3)
    for drawn in (
        stream.normal(shape, F32),
        stream.normal(shape, F64),
        stream.uniform(shape, F32),
        stream.bernoulli(0.5, shape),
        stream.integers(0, 9, shape),
        stream.exponential(shape),
    ):
        assert np.shape(drawn) == shape


def test_normal_numbers_are_finite_at_the_ends() -> None:
    class Ends:
        """Bits of all zeros, then of all ones."""

        def random_raw(self, count: int) -> np.ndarray:
            return np.array([0, 2**64 - 1] * count, dtype=np.uint64)[:count]

    stream = Stream(0)
    stream._bits = Ends()  # type: ignore[assignment]
    drawn = stream.normal((64,), F32)
    assert np.isfinite(drawn).all() and np.abs(drawn).max() < 7


def test_entropy_differs() -> None:
    assert entropy() != entropy()
