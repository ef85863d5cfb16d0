"""A program that is started again goes on after its last step: with the bits of one that ran through.

A rank dies here by an error that leaves the program; what it has made is thrown away. tests/launch/test_elastic.py does
it with processes.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import distgrad
from distgrad import _survivors, nn, optim
from distgrad._snapshot import Snapshot
from distgrad._survivors import Survivors
from distgrad.data import _resume
from distgrad.errors import StateDictError
from distgrad.nn import functional as F
from distgrad.nn.parallel import DistributedDataParallel
from distgrad.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((22, 6)).astype(np.float32), rng.integers(0, 3, 22)
IN_EPOCH = 6  # steps: 22 samples by 4


class Died(Exception):
    """The rank has."""


class Job:
    """Starts of one program, one after the other, that share a snapshot."""

    def __init__(self) -> None:
        self.file = Snapshot.create(1)
        self.died_at: list[int] = []

    def start(self, program: Callable[["Job"], Any], *deaths: int) -> Any:
        """Runs the program until it ends, with deaths after so many calls of `mortal`, each in another start."""
        for self.left in (*deaths, -1):
            self.file.drop_incomplete()
            _resume._here.clear()
            _survivors._here[:] = [Survivors(self.file, 0, "rank 0 died" if self.died_at else "", 1.0)]
            try:
                return program(self)
            except Died:
                self.died_at.append(self.file.newest())
        raise AssertionError("the last start dies never")

    def mortal(self) -> None:
        """A moment at which the rank may die."""
        self.left -= 1
        if self.left == 0:
            raise Died


@pytest.fixture
def job() -> Iterator[Job]:
    new = Job()
    yield new
    new.file.close()
    _survivors._here.clear()
    _resume._here.clear()


class Training:
    """What a program has, made alike in each start."""

    def __init__(self, dropout: float = 0.3, **loader: Any) -> None:
        distgrad.manual_seed(3)
        random.seed(4)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 3))
        self.loader = loader_of()
        self.model = DistributedDataParallel(self.net, logical_shards=4)
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.01)
        self.scheduler = optim.lr_scheduler.StepLR(self.optimizer, 1, gamma=0.7)

    def work(self, step: Any, job: Job) -> None:
        for x, y in step:
            job.mortal()
            F.cross_entropy(self.model(x), y).backward()
        job.mortal()
        self.optimizer.step()
        job.mortal()
        self.optimizer.zero_grad()

    def fingerprint(self) -> str:
        states = self.model, self.optimizer, self.scheduler
        return distgrad.fingerprint(*states, distgrad.rand(2), random.random(), self.loader.state_dict())


def loader_of() -> DataLoader[Any]:
    return DataLoader(TensorDataset(distgrad.tensor(X), distgrad.tensor(Y)), 4, shuffle=True, logical_shards=4)


def epochs(job: Job) -> str:
    """Epochs, with a schedule of epochs, and gradients that are cleared at the beginning of the next step."""
    training = Training()
    for _ in range(3):
        for step in training.loader.steps():
            training.optimizer.zero_grad()
            training.work(step, job)
            distgrad.rand(random.randint(1, 3))
        training.scheduler.step()
        job.mortal()
    return training.fingerprint()


def until(job: Job) -> str:
    """So many steps; a schedule of steps; two more after it was asked for fewer."""
    training = Training()
    for step in training.loader.steps(until=14):
        training.work(step, job)
        training.scheduler.step()
        job.mortal()
    job.mortal()
    return training.fingerprint()


def two_loops(job: Job) -> str:
    """Two models in turn, of which the second is made when the first has been trained for an epoch."""
    first = Training()
    for step in first.loader.steps():
        first.work(step, job)
    second = Training(dropout=0.1)
    for _ in range(2):
        for step in first.loader.steps():
            first.work(step, job)
        for step in second.loader.steps():
            second.work(step, job)
    return first.fingerprint() + second.fingerprint()


@pytest.mark.parametrize("program", [epochs, until, two_loops])
def test_the_bits_of_a_run_without_a_death(program: Callable[[Job], str], job: Job) -> None:
    _survivors._here.clear()
    job.left = -1
    expected = program(job)
    calls = -1 - job.left
    dice = random.Random(1)
    for _ in range(3):
        deaths = [dice.randint(1, calls // 3) for _ in range(3)]
        other = Job()
        assert other.start(program, *deaths) == expected, deaths
        assert other.died_at == sorted(other.died_at)
        other.file.close()


@pytest.mark.filterwarnings("ignore:Detected call of")  # of a schedule whose optimizer has lost its steps
@pytest.mark.parametrize("lost", ["sequence", "buffers", "streams"])
def test_each_part_of_the_state_is_needed(lost: str, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bugs are seen."""
    job.left = -1
    expected = epochs(job)
    if lost == "streams":
        monkeypatch.setattr(_resume, "_set_streams", lambda streams: None)
    elif lost == "buffers":
        forget = distgrad.parallel._logical.LogicalReducer.load_state_dict
        monkeypatch.setattr(
            distgrad.parallel._logical.LogicalReducer,
            "load_state_dict",
            lambda self, state: forget(self, {**state, "buffers": [b.data for b in self._module().buffers()]}),
        )
    else:
        monkeypatch.setattr(_resume.Resumption, "_restore", lambda self, snapped, complete: None)
    assert job.start(epochs, 40) != expected


def test_a_death_costs_one_step_at_most(job: Job) -> None:
    counts: list[int] = []

    def program(job: Job) -> None:
        training = Training()
        for step in training.loader.steps(until=10):
            counts.append(IN_EPOCH * step.epoch + step.number)
            training.work(step, job)

    job.start(program, 20, 5)
    again = [step for step, after in itertools.pairwise(counts) if after <= step]
    assert counts[-1] == 9 and sorted(set(counts)) == list(range(10)) and len(counts) == 10 + len(again) <= 12


def test_epochs_that_were_done_have_no_steps_and_the_weights_of_the_snapshot(job: Job) -> None:
    seen: list[tuple[int, int, float]] = []

    def program(job: Job) -> None:
        training = Training()
        for epoch in range(3):
            steps = 0
            for step in training.loader.steps():
                training.work(step, job)
                steps += 1
            seen.append((epoch, steps, float(training.net[0].weight.sum())))

    in_an_epoch = IN_EPOCH * 6
    job.start(program, 2 * in_an_epoch + 7)
    assert [entry[:2] for entry in seen[:5]] == [(0, 6), (1, 6), (0, 0), (1, 0), (2, 5)]
    assert seen[2][2] == seen[3][2] != seen[0][2]


def test_a_checkpoint_of_the_program_counts_where_it_is_newer(job: Job) -> None:
    saved: dict[str, Any] = {}

    def program(job: Job) -> str:
        training = Training(dropout=0.0)
        parts = {"model": training.model, "optimizer": training.optimizer, "scheduler": training.scheduler}
        first = 0
        if saved:
            first = saved["epoch"]
            training.loader.load_state_dict(saved["loader"])
            for name, part in parts.items():
                part.load_state_dict(saved[name])
        for epoch in range(first, 3):
            for step in training.loader.steps():
                training.work(step, job)
            training.scheduler.step()  # after the last snapshot
            if job.left > 0:
                state = {name: distgrad.checkpoint._manager._map(p.state_dict(), copied) for name, p in parts.items()}
                saved.update(state, epoch=epoch + 1, loader=training.loader.state_dict())
            job.mortal()
        return distgrad.fingerprint(*parts.values())

    job.left = -1
    expected = program(job)
    assert job.start(program, 6 * 6 + 1) == expected
    assert saved["epoch"] == 1 and job.died_at == [6]


def copied(value: Any) -> Any:
    return value.clone() if isinstance(value, distgrad.Tensor) else value


def test_a_program_that_makes_other_objects_is_told(job: Job) -> None:
    def program(job: Job) -> None:
        training = Training()
        more = None if job.died_at else optim.SGD([nn.Parameter(distgrad.zeros(2))], lr=0.1)
        for step in training.loader.steps():
            training.work(step, job)
        assert more is None

    with pytest.raises(StateDictError, match=r"expected the program to make the same.*got no optimizer 2; make"):
        job.start(program, 20)


def test_one_line_says_what_happened(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.start(until, 1, 20)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "distgrad: rank 0 died, noticed at " in lines[0] and "goes on from the beginning; it took " in lines[0]
    assert "; the job was started again and goes on after 2 steps of epoch 0; it took " in lines[1]


def test_outside_of_such_a_job_nothing_is_kept() -> None:
    assert _resume.resumption() is None
    training = Training()
    assert _survivors.survivors() is None and training.loader is not None


@pytest.mark.parametrize(("asked", "made"), [((0,), 0), ((4,), 4), ((6,), 6), ((7, 14, 14, 13), 14), ((6, 12), 12)])
def test_so_many_steps(asked: tuple[int, ...], made: int) -> None:
    training = Training()
    job = Job()
    job.left = -1
    found = []
    for count in asked:
        for step in training.loader.steps(until=count):
            training.work(step, job)
            found.append(IN_EPOCH * step.epoch + step.number)
    job.file.close()
    assert found == list(range(made))
