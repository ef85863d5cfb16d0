"""Medians, intervals and ratios against closed forms."""

import random

import pytest

from distgrad.bench._statistics import expected_maximum, paired_ratio, quantile, summarise


def test_interval_of_ten_samples_leaves_out_one_on_each_side() -> None:
    """Of ten samples the second and the ninth enclose the median with 97.9 %, the third and eighth with 89 %."""
    summary = summarise([float(i) for i in range(1, 11)])
    assert (summary.median, summary.low, summary.high, summary.samples) == (5.5, 2, 9, 10)


def test_few_samples_give_their_whole_range() -> None:
    assert summarise([3.0, 1.0, 2.0]).low == 1 and summarise([3.0, 1.0, 2.0]).high == 3
    assert summarise([2.0]).spread == 0


@pytest.mark.parametrize("n", [200, 201, 202, 100_000])
def test_interval_of_many_samples(n: int) -> None:
    """About the square root of n wide, in samples; the two ways to find it meet."""
    summary = summarise([float(i) for i in range(n)])
    assert summary.high - summary.low == pytest.approx(1.96 * n**0.5, abs=3)
    assert summary.high + summary.low == n - 1


@pytest.mark.parametrize("n", [6, 10, 15, 30])
def test_interval_covers_the_true_median_as_often_as_it_says(n: int) -> None:
    """For a skewed distribution, too; a hundredth is left for chance."""
    source = random.Random(n)
    draws = [summarise([source.expovariate(1.0) for _ in range(n)]) for _ in range(2000)]
    true = 0.6931471805599453
    assert sum(draw.low <= true <= draw.high for draw in draws) / 2000 > 0.94


def test_quantiles_lie_between_samples() -> None:
    assert quantile([0.0, 10.0, 20.0], 0.25) == 5.0
    assert quantile([7.0], 0.9) == 7.0


def test_a_slow_while_leaves_the_ratio_of_pairs_alone() -> None:
    slow = [1.0, 1.0, 5.0, 5.0, 1.0]
    ratio = paired_ratio([2 * t for t in slow], slow)
    assert (ratio.median, ratio.low, ratio.high) == (2, 2, 2)


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="one sample or more"):
        summarise([])


def test_expected_maximum_of_two_dice() -> None:
    """161 / 36."""
    assert expected_maximum([1, 2, 3, 4, 5, 6], 2) == pytest.approx(161 / 36)
    assert expected_maximum([1, 2, 3, 4, 5, 6], 1) == pytest.approx(3.5)
    assert expected_maximum([1, 2, 3, 4, 5, 6], 1000) == pytest.approx(6)
