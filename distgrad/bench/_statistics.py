"""Medians with their spread, and ratios of measurements that were taken in turn."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """The median of some samples, and between which values the median of all that could have been taken lies.

    Args:
        median: of the samples.
        low: lower end of the confidence interval of the median (95 %, or as near as the number of samples allows).
        high: its upper end.
        samples: how many there were.
    """

    median: float
    low: float
    high: float
    samples: int

    @property
    def spread(self) -> float:
        """Half the width of the interval, as a fraction of the median."""
        return (self.high - self.low) / 2 / abs(self.median) if self.median else 0.0

    def scaled(self, factor: float) -> "Summary":
        """In another unit; `factor` is positive."""
        return Summary(self.median * factor, self.low * factor, self.high * factor, self.samples)

    def as_json(self) -> dict[str, float]:
        """For a file."""
        return asdict(self)


def summarise(samples: Sequence[float]) -> Summary:
    """The median and its confidence interval, which needs no assumption on how the samples are distributed.

    The k-th smallest of n samples lies above the true median with the probability that a fair coin shows heads fewer
    than k times in n throws (Conover, Practical Nonparametric Statistics, section 3.2).
    """
    if not samples:
        raise ValueError("expected one sample or more, got none")
    ordered = sorted(samples)
    n = len(ordered)
    k = _outside(n)
    return Summary(quantile(ordered, 0.5), ordered[k], ordered[n - 1 - k], n)


def quantile(ordered: Sequence[float], p: float) -> float:
    """The value below which a share `p` of sorted samples lies, with linear interpolation."""
    place = p * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Summary:
    """The ratio of two things measured in turn: what slows the machine down for a while slows both of a pair."""
    return summarise([a / b for a, b in zip(numerators, denominators, strict=True)])


def expected_maximum(samples: Sequence[float], draws: int) -> float:
    """The mean of the largest of `draws` independent values with the distribution of the samples."""
    ordered = sorted(samples)
    n = len(ordered)
    return sum(x * (((i + 1) / n) ** draws - (i / n) ** draws) for i, x in enumerate(ordered))


def _outside(n: int) -> int:
    """How many of `n` samples may be left out on each side of the interval."""
    if n > 200:  # where the normal distribution is as good, and powers of two are not yet too small
        return max(math.floor((n - NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(n)) / 2) - 1, 0)
    tail, k = 0.5**n, 0
    while tail <= (1 - CONFIDENCE) / 2:
        k += 1
        tail += math.comb(n, k) * 0.5**n
    return max(k - 1, 0)
