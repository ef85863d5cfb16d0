"""A few random faults in the normal suite, 200 where slow tests are asked for (`-m slow`)."""

import random

import pytest

from tests.jobs import installed_mpis
from tests.launch.soak import draw, run


def problems(seed: int, runs: int) -> list[str]:
    dice = random.Random(seed)
    results = [run(draw(dice), mpi) for mpi in installed_mpis()[:1] for _ in range(runs)]
    return [f"{result.case}\n{result.problem}" for result in results if result.problem]


def test_a_few_random_faults() -> None:
    found = problems(seed=3, runs=6)
    assert not found, "\n\n".join(found)


@pytest.mark.slow
@pytest.mark.skipif("'slow' not in config.option.markexpr", reason="takes 10 minutes: pytest -m slow tests/launch")
def test_two_hundred_random_faults() -> None:
    found = problems(seed=1, runs=200)
    assert not found, "\n\n".join(found)
