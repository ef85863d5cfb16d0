"""Every example runs at toy size, alone and on ranks, and says what it promises."""

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import distgrad
from tests.jobs import ROOT, Job, Mpi, installed_mpis

EXAMPLES = ROOT / "examples"
Alone = Callable[[str], tuple[str, Path]]

# The arguments with which each example is over in seconds, and what its last lines must hold.
TOY = {
    "linear_regression.py": ((), r"explained variance 0\.5[01]\d"),
    "digits.py": (("--epochs", "2", "--save", "here.pt", "--losses"), r"test accuracy +(9\d|100)\.\d+ %"),
    "char_gpt.py": (
        (
            *("--steps", "3", "--width", "32", "--depth", "1", "--context", "16"),
            *("--batch", "4", "--characters", "5000", "--write", "5"),
        ),
        r"loss [45]\.\d+ -> [345]\.\d+",
    ),
    "same_bits.py": (("--steps", "3"), r"sha256 [0-9a-f]{64}"),
}


def run(command: list[str], directory: Path, seconds: float = 120) -> str:
    outcome = Job(command, directory).finish(seconds)
    assert outcome.code == 0, outcome.output
    assert not outcome.left
    return outcome.output


def arguments(name: str) -> list[str]:
    return [str(EXAMPLES / name), *TOY[name][0]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """Runs an example as a plain script, once: what it prints, and where it ran."""

    @cache
    def run_alone(name: str) -> tuple[str, Path]:
        directory = tmp_path_factory.mktemp("alone")
        return run([sys.executable, *arguments(name)], directory), directory

    return run_alone


def test_no_example_is_forgotten() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(TOY)


@pytest.mark.parametrize("name", TOY)
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 150


@pytest.mark.parametrize("name", TOY)
def test_runs_as_a_plain_script(name: str, alone: Alone) -> None:
    output, _ = alone(name)
    assert re.search(TOY[name][1], output), output


@pytest.mark.parametrize("name", TOY)
@pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)
def test_runs_on_two_ranks(mpi: Mpi, name: str, alone: Alone, tmp_path: Path) -> None:
    """With the losses that it has alone, where it prints those."""
    output = run(mpi.job(2, "-m", "distgrad.launch", *arguments(name)), tmp_path)
    assert losses(output) == pytest.approx(losses(alone(name)[0]), rel=1e-5)
    assert re.search(TOY[name][1], output), output
    assert output.count("step/s") > 0 or name in ("linear_regression.py", "same_bits.py")  # the bar


def losses(output: str) -> list[float]:
    return [float(value) for value in re.findall(r"loss ([\d.e+-]+)\n", output)]


SLOW = (
    pytest.mark.slow,
    pytest.mark.skipif("'slow' not in config.option.markexpr", reason="takes a minute: pytest -m slow tests/examples"),
)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=SLOW), 4])
@pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)
def test_digits_has_the_same_losses_on_any_number_of_ranks(mpi: Mpi, ranks: int, tmp_path: Path) -> None:
    """Over 50 steps."""
    script = [str(EXAMPLES / "digits.py"), "--epochs", "5", "--losses"]
    reference = losses(run([sys.executable, *script], tmp_path))
    assert len(reference) == 55
    found = losses(run(mpi.job(ranks, "-m", "distgrad.launch", *script), tmp_path))
    assert found[:50] == pytest.approx(reference[:50], rel=1e-5)


def share(output: str) -> float:
    match = re.search(r"in communication +([\d.]+) %", output)
    assert match, output
    return float(match[1])


def test_digits_measures_its_communication(alone: Alone, tmp_path: Path) -> None:
    undisturbed = share(alone("digits.py")[0])
    assert undisturbed < 2
    for mpi in installed_mpis()[:1]:
        job = mpi.job(2, "-m", "distgrad.launch", *arguments("digits.py"), "--delay", "0.05")
        assert share(run(job, tmp_path)) > undisturbed + 10  # rank 0 waits for the one that sleeps


def test_digits_writes_the_checkpoint_that_it_names(alone: Alone) -> None:
    output, directory = alone("digits.py")
    assert "checkpoint        here.pt" in output
    state = distgrad.load(directory / "here.pt")
    assert state["features.0.weight"].shape == (16, 1, 3, 3)
    assert not any(key.startswith("module.") for key in state)


@pytest.mark.parametrize("model", ["mlp", "cnn", "gpt"])
def test_same_bits_on_any_number_of_ranks(model: str, tmp_path: Path) -> None:
    """On four, and on two that stop and go on as three."""
    command = [str(EXAMPLES / "same_bits.py"), "--steps", "12", "--model", model]
    expected = run([sys.executable, *command], tmp_path).splitlines()[-1]
    assert re.fullmatch(r"sha256 [0-9a-f]{64}", expected)
    for mpi in installed_mpis():
        run(mpi.job(2, "-m", "distgrad.launch", *command, "--stop-after", "5"), tmp_path)
        for ranks, extra in ((4, ()), (3, ("--resume",))):
            job = mpi.job(ranks, "-m", "distgrad.launch", *command, *extra)
            assert run(job, tmp_path).splitlines()[-1] == expected, (mpi.name, ranks, extra)


def test_another_seed_gives_other_bits(alone: Alone, tmp_path: Path) -> None:
    other = run([sys.executable, *arguments("same_bits.py"), "--seed", "1"], tmp_path)
    assert other.splitlines()[-1] != alone("same_bits.py")[0].splitlines()[-1]
