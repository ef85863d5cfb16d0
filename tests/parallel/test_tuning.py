"""Which choice the tuner takes."""

import numpy as np

from distgrad.parallel._tuning import ROUNDS, best_of


def noisy(seed: int, *means: float, noise: float = 0.05) -> list[list[float]]:
    """Times of choices with these means; slow rounds are slow for all."""
    random = np.random.default_rng(seed)
    rounds = 1 + 2.0 * random.random(ROUNDS)
    return [(mean * rounds * (1 + noise * random.normal(size=ROUNDS))).tolist() for mean in means]


def test_a_clear_winner_is_taken() -> None:
    assert all(best_of(noisy(seed, 1.0, 0.8, 0.9)) == 1 for seed in range(50))


def test_noise_alone_rarely_decides() -> None:
    assert sum(best_of(noisy(seed, 1.0, 1.0)) != 0 for seed in range(200)) < 20


def test_the_simplest_wins_ties_and_small_gains() -> None:
    assert best_of(noisy(0, 1.0, 1.0, noise=0.0)) == 0
    assert best_of(noisy(0, 1.0, 0.99, noise=0.0)) == 0
    assert best_of(noisy(0, 1.0, 0.97, noise=0.0)) == 1
