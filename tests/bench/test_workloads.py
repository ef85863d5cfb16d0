"""The workloads have the sizes that they say, and train."""

import pytest

from distgrad.bench._trainer import Trainer, build
from distgrad.bench._workloads import WORKLOADS

PARAMETERS = {"tiny": 1185, "mlp": 669706, "cnn": 25578, "resnet": 272474, "gpt": 3323392, "lstm": 444544}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_has_its_size_and_learns(name: str) -> None:
    program = build(name, 2, "cpu", 0)
    assert sum(p.numel() for p in program.model.parameters()) == PARAMETERS[name]
    trainer = Trainer(name, 2)
    trainer.seconds(1)
    before = trainer.loss
    seconds = trainer.seconds(2)
    assert trainer.loss < before and seconds > 0


def test_the_seed_decides() -> None:
    def loss_of(seed: int) -> float:
        trainer = Trainer("tiny", 4, seed=seed)
        trainer.seconds(1)
        return trainer.loss

    assert loss_of(1) == loss_of(1) != loss_of(2)
