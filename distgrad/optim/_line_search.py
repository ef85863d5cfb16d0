"""A line search for the strong Wolfe conditions.

Source: Nocedal and Wright, "Numerical optimization", 2nd edition, algorithms 3.5 and 3.6; the safeguards are those of
Mark Schmidt's minFunc.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from .._typing import Array

DECREASE, CURVATURE = 1e-4, 0.9  # the constants c1 and c2 of the conditions
MARGIN = 0.1  # of the bracket's width: how near to its ends a trial point may lie


class Point(NamedTuple):
    """A place on the line.

    Attributes:
        at: the distance from the start, in units of the direction.
        loss: the loss there.
        grad: the flat gradient there.
        slope: the derivative along the line.
    """

    at: float
    loss: float
    grad: Array
    slope: float = 0.0


def strong_wolfe(
    evaluate: Callable[[float], Point],
    length: float,
    direction: Array,
    start: Point,
    slope: float,
    tolerance: float,
    budget: int,
) -> tuple[Point, int]:
    """A place along `direction` where the loss has fallen enough and the slope is flat enough.

    Args:
        evaluate: the loss and gradient at a distance.
        length: the first distance to try.
        direction: flat, a direction of descent.
        start: where the line starts.
        slope: the derivative there, negative.
        tolerance: the search ends when the bracket is narrower.
        budget: most trials after the first.

    Returns:
        The best place found, and how often `evaluate` was called.
    """
    search = _Search(evaluate, direction, start._replace(at=0.0, slope=slope))
    low, high = search.bracket(length, budget)
    if high is not None:
        low = search.zoom(low, high, tolerance / float(abs(direction).max()), budget)
    return low, search.calls


class _Search:
    def __init__(self, evaluate: Callable[[float], Point], direction: Array, start: Point) -> None:
        self.evaluate = evaluate
        self.direction = direction
        self.start = start
        self.calls = 0

    def trial(self, at: float) -> Point:
        self.calls += 1
        point = self.evaluate(at)
        return point._replace(slope=float(point.grad @ self.direction))

    def too_high(self, point: Point) -> bool:
        return point.loss > self.start.loss + DECREASE * point.at * self.start.slope

    def flat(self, point: Point) -> bool:
        return abs(point.slope) <= -CURVATURE * self.start.slope

    def bracket(self, length: float, budget: int) -> tuple[Point, Point | None]:
        """Two places between which a good one lies, the better first; or one good place and None."""
        before, point = self.start, self.trial(length)
        for tries in range(budget):
            if self.too_high(point) or (tries > 1 and point.loss >= before.loss):
                return _sorted(before, point)
            if self.flat(point):
                return point, None
            if point.slope >= 0:
                return _sorted(before, point)
            at = cubic_minimum(before, point, point.at + 0.01 * (point.at - before.at), point.at * 10)
            before, point = point, self.trial(at)
        return min(self.start, point, key=lambda p: p.loss), None

    def zoom(self, low: Point, high: Point, tolerance: float, budget: int) -> Point:
        """Narrows the bracket until `low` is good, or the calls or the width are used up."""
        hesitated = False
        while self.calls <= budget and abs(high.at - low.at) >= tolerance:
            left, right = sorted((low.at, high.at))
            at, hesitated = _away_from_ends(cubic_minimum(low, high, left, right), left, right, hesitated)
            point = self.trial(at)
            if self.too_high(point) or point.loss >= low.loss:
                low, high = _sorted(low, point)
                continue
            if self.flat(point):
                return point
            if point.slope * (high.at - low.at) >= 0:
                high = low
            low = point
        return low


def _sorted(a: Point, b: Point) -> tuple[Point, Point]:
    return (a, b) if a.loss <= b.loss else (b, a)


def _away_from_ends(at: float, left: float, right: float, hesitated: bool) -> tuple[float, bool]:
    """A trial place near an end of the bracket is accepted once; the second time, or beyond it, it is moved inwards."""
    margin = MARGIN * (right - left)
    if min(right - at, at - left) >= margin:
        return at, False
    if not hesitated and left < at < right:
        return at, True
    return (right - margin if abs(at - right) < abs(at - left) else left + margin), False


def cubic_minimum(a: Point, b: Point, smallest: float, largest: float) -> float:
    """The minimum, within limits, of the cubic through two places with their slopes; the middle where it has none."""
    if a.at > b.at:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.at - b.at)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (smallest + largest) / 2
    d2 = math.sqrt(square)
    divisor = b.slope - a.slope + 2 * d2
    if divisor == 0:
        return (smallest + largest) / 2
    return min(max(b.at - (b.at - a.at) * (b.slope + d2 - d1) / divisor, smallest), largest)
