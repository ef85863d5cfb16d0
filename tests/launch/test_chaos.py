"""`--chaos`: what is read, and where faults strike a training of one process."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import distgrad
from distgrad import nn, optim
from distgrad.autograd import _mode, _pass
from distgrad.errors import ChaosError, LaunchError
from distgrad.launch._chaos import Fault, of_rank, read
from distgrad.launch._injector import Injector
from distgrad.optim import _optimizer
from distgrad.parallel import ZeroRedundancyOptimizer
from tests.jobs import clean_environment


def test_the_faults_of_a_plan() -> None:
    plan = "kill@rank=2,step=17; stall@rank=1, step=5,seconds=3;nan@rank=0,step=9;exit@rank=*,phase=end,code=3;"
    assert read(plan) == (
        Fault("kill", 2, None, 17, "backward", 0, 0.0),
        Fault("stall", 1, None, 5, "backward", 0, 3.0),
        Fault("nan", 0, None, 9, "backward", 0, 0.0),
        Fault("exit", None, None, 0, "end", 0, 3.0),
    )
    assert read("leave@rank=1,step=2,phase=forward,restart=1") == (Fault("leave", 1, None, 2, "forward", 1, 1.0),)


def test_random_is_the_same_on_all_ranks_and_covers_its_range() -> None:
    plan = "kill@rank=random,step=random(1,4),seed={}"
    faults = [read(plan.format(seed)) for seed in range(60)]
    assert faults == [read(plan.format(seed)) for seed in range(60)]
    assert {fault.step for (fault,) in faults} == {1, 2, 3, 4}
    struck = [[rank for rank in range(3) if of_rank(plan, rank, 3)] for plan in faults]
    assert all(len(ranks) == 1 for ranks in struck) and {ranks[0] for ranks in struck} == {0, 1, 2}


MISTAKES = {
    "nothing": (" ; ", r'expected faults such as "kill@rank=2,step=17"'),
    "kind": ("explode@rank=1,step=1", r"expected a kind of fault \(kill, .*\) before the @.*'explode@rank=1,step=1'"),
    "no keys": ("kill", r"expected key=value after the @"),
    "no value": ("kill@rank=", r"expected key=value after the @ in --chaos, got 'rank='"),
    "twice": ("kill@rank=1,rank=2,step=1", r"expected each key once in --chaos, got 'rank' twice"),
    "unknown key": ("kill@rank=1,step=1,seconds=3", r"expected the keys rank, .* of kill in --chaos, got 'seconds'"),
    "no rank": ("kill@step=1", r"expected rank=\.\.\. \(a number, \* or random\)"),
    "negative rank": ("kill@rank=-1,step=1", r"expected a whole number for rank in --chaos, got '-1'"),
    "no step": ("kill@rank=1", r"expected step=\.\.\. .* with phase backward"),
    "step of no phase": ("kill@rank=1,step=1,phase=end", r"expected no step with phase end"),
    "step zero": ("kill@rank=1,step=0", r"expected a step from 1 on"),
    "phase": ("kill@rank=1,step=1,phase=lunch", r"expected a phase of forward, .* got 'lunch'"),
    "no seed": ("kill@rank=random,step=1", r"expected seed=N with random .* so that all ranks draw the same"),
    "empty range": ("kill@rank=1,step=random(5,2),seed=1", r"low <= high"),
    "no seconds": ("stall@rank=1,step=1", r"expected seconds=\.\.\. in --chaos"),
    "seconds": ("stall@rank=1,step=1,seconds=soon", r"expected a positive number for seconds"),
    "code": ("exit@rank=1,step=1,code=-3", r"expected a whole number for code"),
    "nan elsewhere": ("nan@rank=1,step=1,phase=optimizer", r"expected phase=backward, or no phase, for nan"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        read(text)


def test_a_rank_that_the_job_lacks() -> None:
    with pytest.raises(LaunchError, match=r"expected ranks 0 to 1 in --chaos, got rank=2; start more ranks"):
        of_rank(read("kill@rank=2,step=17"), 0, 2)


def test_a_fault_strikes_in_its_start_of_the_job_alone() -> None:
    plan = read("kill@rank=0,step=1;exc@rank=0,step=1,restart=1")
    assert [[fault.kind for fault in of_rank(plan, 0, 1, restart)] for restart in range(3)] == [["kill"], ["exc"], []]


# ---- striking --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def clean_hooks() -> Iterator[None]:
    yield
    for hooks in (_pass._pass_hooks, _optimizer._every_pre_hook, _optimizer._every_post_hook):
        hooks.clear()
    for observer in _mode.mode.observers:
        _mode.remove_observer(observer)


class Training:
    """A tiny training under faults, with a record of how far it came."""

    def __init__(self, plan: str) -> None:
        Injector(of_rank(read(plan), 0, 1), 0).install()
        self.model = nn.Linear(2, 1)
        self.optimizer: optim.Optimizer = optim.SGD(self.model.parameters(), lr=0.1)
        self.record: list[str] = []

    def run(self, steps: int) -> None:
        for step in range(1, steps + 1):
            self.optimizer.zero_grad()
            loss = self.model(distgrad.ones(1, 2)).sum()
            self.record.append(f"forward {step}")
            loss.backward()
            self.record.append(f"backward {step}")
            self.optimizer.step()
            self.record.append(f"update {step}")


@pytest.mark.parametrize(
    ("phase", "last"), [("forward", "update 2"), ("backward", "forward 3"), ("optimizer", "backward 3")]
)
def test_where_in_a_step(phase: str, last: str, capsys: pytest.CaptureFixture[str]) -> None:
    training = Training(f"exc@rank=0,step=3,phase={phase}")
    with pytest.raises(ChaosError, match=f"planted by --chaos: exc in phase {phase} of step 3"):
        training.run(5)
    assert training.record[-1] == last
    assert capsys.readouterr().err == f"distgrad.launch: --chaos: rank 0: exc in phase {phase} of step 3\n"


def test_a_step_of_an_optimizer_that_wraps_another_counts_once() -> None:
    training = Training("exc@rank=0,step=3,phase=optimizer")
    training.optimizer = ZeroRedundancyOptimizer(training.model.parameters(), optim.SGD, lr=0.1)
    with pytest.raises(ChaosError, match="exc in phase optimizer of step 3"):
        training.run(5)
    assert training.record[-1] == "backward 3"


@pytest.mark.parametrize(
    ("kind", "error"), [("oom", MemoryError), ("interrupt", KeyboardInterrupt), ("leave", SystemExit)]
)
def test_kinds_that_raise(kind: str, error: type[BaseException]) -> None:
    training = Training(f"{kind}@rank=0,step=1")
    with pytest.raises(error):
        training.run(1)


def test_a_nan_in_one_gradient_of_one_step() -> None:
    training = Training("nan@rank=0,step=2")
    training.run(1)
    assert bool(distgrad.isfinite(training.model.weight).all())
    training.optimizer.zero_grad()
    training.model(distgrad.ones(1, 2)).sum().backward()
    grads = [p.grad for p in training.model.parameters()]
    assert sum(int(distgrad.isnan(grad).sum()) for grad in grads if grad is not None) == 1
    training.optimizer.zero_grad()
    training.model(distgrad.ones(1, 2)).sum().backward()
    assert not any(bool(distgrad.isnan(p.grad).any()) for p in training.model.parameters() if p.grad is not None)


def test_stalls_and_slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    now = iter(range(100))
    monkeypatch.setattr("distgrad.launch._injector.sleep", naps.append)
    monkeypatch.setattr("distgrad.launch._injector.monotonic", lambda: float(next(now)))
    Training("stall@rank=0,step=1,seconds=2.5;slow@rank=0,step=2,factor=3").run(3)
    assert naps == [2.5, 2.0, 2.0]


def test_a_slow_step_of_several_backward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a rank slept before the first is not slept again before the second."""
    now = [0.0]

    def work(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("distgrad.launch._injector.sleep", work)
    monkeypatch.setattr("distgrad.launch._injector.monotonic", lambda: now[0])
    training = Training("slow@rank=0,step=1,factor=3")
    for _ in range(3):
        work(1.0)
        training.model(distgrad.ones(1, 2)).sum().backward()
    assert now[0] == 9.0


def test_nothing_is_installed_for_other_ranks() -> None:
    Injector(of_rank(read("exc@rank=1,step=1"), 0, 2), 0).install()
    assert not _pass._pass_hooks and not _optimizer._every_pre_hook and not _mode.mode.observers


@pytest.mark.parametrize(
    ("plan", "code", "output"),
    [
        ("exit@rank=0,phase=start,code=5", 5, ""),
        ("exit@rank=0,phase=end,code=5", 5, "ran\n"),
        ("exit@rank=0,step=1,code=5", 0, "ran\n"),
    ],
)
def test_a_script_that_runs_alone(plan: str, code: int, output: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('ran', flush=True)\n")
    command = [sys.executable, "-m", "distgrad.launch", "--chaos", plan, str(script)]
    result = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (code, output)
