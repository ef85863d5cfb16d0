"""`launch --elastic`: ranks die, the others go on, and the bits are those of an undisturbed run."""

import random
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from distgrad.checkpoint import CheckpointManager
from tests.jobs import Mpi, Outcome, installed_mpis, run_job
from tests.launch.elastic_soak import DEADLINE, Plan, command, draw, run, undisturbed

ELASTIC = [mpi for mpi in installed_mpis() if mpi.name == "openmpi"]
needs_openmpi = pytest.mark.skipif(not ELASTIC, reason="needs Open MPI: DISTGRAD_TEST_OPENMPI names its environment")

RESTARTED = [mpi for mpi in installed_mpis() if mpi.name == "mpich"]
needs_mpich = pytest.mark.skipif(not RESTARTED, reason="needs MPICH")

expected = cache(undisturbed)

PLANS = {
    "nobody": (4, ""),
    "each way to die": (
        6,
        "kill@rank=2,step=3; segv@rank=0,step=6,phase=forward; exit@rank=5,step=9,code=3; exc@rank=3,step=14; "
        "leave@rank=1,step=20,phase=optimizer",
    ),
    "two at once": (4, "kill@rank=0,step=7,phase=forward; exit@rank=3,step=7,phase=forward,code=0"),
    "all but one at once": (3, "kill@rank=0,step=7; kill@rank=1,step=7"),
    "the first step": (2, "oom@rank=1,step=1,phase=forward"),
    "one is at its end too early": (3, "leave@rank=1,step=8,code=0"),
    "rank 0 after the last step": (3, "kill@rank=0,step=30,phase=optimizer"),
}


@needs_openmpi
@pytest.mark.parametrize("name", PLANS)
def test_the_bits_of_an_undisturbed_run(name: str) -> None:
    ranks, chaos = PLANS[name]
    result = run(Plan("cnn", ranks, chaos, ()), ELASTIC[0], expected("cnn"))
    assert not result.problem, result.problem
    assert bool(result.repairs) == bool(chaos)


def problems(plans: Sequence[Plan], mpi: Mpi) -> list[str]:
    results = [run(plan, mpi, expected(plan.model, plan.zero)) for plan in plans]
    return [result.problem for result in results if result.problem]


@needs_openmpi
def test_random_deaths() -> None:
    dice = random.Random(5)
    plans = [draw(dice, ELASTIC[0], outside) for outside in (True, False, True)]
    assert not (found := problems(plans, ELASTIC[0])), "\n\n".join(found)


@needs_openmpi
def test_spares_take_the_places_of_the_dead() -> None:
    chaos = "kill@rank=1,step=4; exc@rank=3,step=9,phase=forward; kill@rank=0,step=9"
    outcome = run_job(command(Plan("cnn", 3, chaos, (), spares=2), ELASTIC[0]), DEADLINE)
    assert outcome.code == 0 and expected("cnn") in outcome.output.splitlines(), outcome.output
    lines = [line for line in outcome.output.splitlines() if line.startswith("distgrad: ")]
    assert re.search(r"rank 1 died, .*; a spare takes its place and 3 ranks go on;", lines[0]), lines
    assert lines[-1].count(" 2 ranks go on;") == 1, lines  # of 5, 3 have died


@needs_openmpi
@pytest.mark.parametrize("bug", ["sound", "no_agreement"])
def test_a_sum_that_one_survivor_has_and_the_other_has_not(bug: str) -> None:
    """Only the agreement keeps them together."""
    script = str(Path(__file__).parent / "elastic_split.py")
    job = [ELASTIC[0].python, "-m", "distgrad.launch", "--elastic", "--timeout", "5", "-n", "3", script, bug]
    outcome = run_job(job, 60.0)
    same = outcome.code == 0 and expected("mlp") in outcome.output.splitlines()
    assert same == (bug == "sound"), outcome.output
    assert "rank 1 died" in outcome.output or bug != "sound"


@needs_openmpi
def test_a_rank_that_is_stopped_before_it_agrees() -> None:
    script = str(Path(__file__).parent / "elastic_split.py")
    job = [ELASTIC[0].python, "-m", "distgrad.launch", "--elastic", "--timeout", "2", "-n", "3", script, "stopped"]
    outcome = run_job(job, 60.0)
    assert not outcome.timed_out and outcome.left == [] and outcome.code != 0, outcome.output
    assert "gave up waiting in an agreement of all ranks" in outcome.last_line


def outcome_of(chaos: str, ranks: int = 3, mpis: Sequence[Mpi] = ELASTIC) -> tuple[int, str]:
    outcome = run_job(command(Plan("mlp", ranks, chaos, ()), mpis[0]), DEADLINE)
    assert not outcome.timed_out and outcome.left == [], outcome.output
    return outcome.code, outcome.output


@needs_openmpi
def test_one_line_says_who_died() -> None:
    code, output = outcome_of("exc@rank=1,step=3")
    lines = [line for line in output.splitlines() if line.startswith("distgrad: ")]
    assert code == 0 and len(lines) == 1, output
    assert re.fullmatch(
        r"distgrad: rank 1 died, noticed at \d\d:\d\d:\d\d\.\d{3} in step 2 of epoch 0; 2 ranks go on; it took \d+ ms "
        r"to repair the group and \d+ ms to do its work",
        lines[0],
    )
    assert "[rank 1] distgrad.errors.ChaosError: planted by --chaos" in output


@needs_openmpi
def test_an_error_of_all_ranks_ends_the_job() -> None:
    code, output = outcome_of("exc@rank=*,step=3")
    assert code == 1
    assert output.count("Traceback") == 1, output
    assert re.match(r"\[rank \d\] distgrad.errors.ChaosError", output.splitlines()[-1])


@needs_openmpi
def test_a_rank_that_hangs_ends_the_job() -> None:
    script = ["examples/same_bits.py", "--steps", "10"]
    options = ["--elastic", "--timeout", "2", "-n", "3", "--chaos", "stop@rank=1,step=3"]
    outcome = run_job([ELASTIC[0].python, "-m", "distgrad.launch", *options, *script], 60.0)
    assert not outcome.timed_out and outcome.left == [] and outcome.code != 0, outcome.output
    assert "gave up waiting in" in outcome.last_line


@needs_openmpi
def test_a_death_before_the_ranks_have_met_ends_the_job() -> None:
    code, output = outcome_of("kill@rank=1,phase=init")
    assert code in (1, 137), output  # 1 where the kernel has not told yet how it ended
    assert "rank 1 " in output.splitlines()[-1]


# ---- MPICH: the job starts again  -----------------------------------------------------------------------------------


@needs_mpich
def test_a_job_that_starts_again_goes_on_where_it_was() -> None:
    chaos = "kill@rank=0,step=7,phase=optimizer; exc@rank=1,step=9,restart=1"
    code, output = outcome_of(chaos, 2, RESTARTED)
    lines = [line for line in output.splitlines() if line.startswith("distgrad: ")]
    assert code == 0 and expected("mlp") in output.splitlines(), output
    assert len(lines) == 2 and "Traceback" in output
    assert re.fullmatch(r"distgrad\.launch: fingerprint\(model\) = [0-9a-f]{64}", output.splitlines()[-1])
    for line, rank, step in zip(lines, (0, 1), ("6 steps of epoch 0", "4 steps of epoch 1"), strict=True):
        noticed = rf"distgrad: rank {rank} died, noticed at \d\d:\d\d:\d\d\.\d{{3}}; "
        assert re.fullmatch(rf"{noticed}the job was started again and goes on after {step}; it took \d+ ms", line)


@needs_mpich
def test_an_error_that_comes_again_ends_the_job() -> None:
    code, output = outcome_of("exc@rank=*,step=1; exc@rank=*,step=1,restart=1", 2, RESTARTED)
    assert code == 1
    assert output.count("Traceback") >= 2, output
    assert re.match(r"\[rank \d\] distgrad.errors.ChaosError", output.splitlines()[-1])


@needs_mpich
@pytest.mark.slow
@pytest.mark.skipif("'slow' not in config.option.markexpr", reason="takes minutes: pytest -m slow tests/launch")
def test_random_deaths_of_a_job_that_starts_again() -> None:
    dice = random.Random(6)
    plans = [draw(dice, RESTARTED[0], outside) for outside in (True, False) for _ in range(15)]
    assert not (found := problems(plans, RESTARTED[0])), "\n\n".join(found)


# ---- state in other places -------------------------------------------------------------------------------------------

STATE = str(Path(__file__).parent / "elastic_state.py")


def state_job(mpi: Mpi, *arguments: str, chaos: str = "", ranks: int = 3, options: Sequence[str] = ()) -> Outcome:
    """A job with elastic_state.py."""
    faults = ["--chaos", chaos] if chaos else []
    launcher = [mpi.python, "-m", "distgrad.launch", "--elastic", "-n", str(ranks), *options, *faults]
    outcome = run_job([*launcher, STATE, *arguments], DEADLINE)
    assert not outcome.timed_out and outcome.left == [], outcome.output
    return outcome


@cache
def undisturbed_state(*arguments: str) -> str:
    return run_job([sys.executable, STATE, *arguments], DEADLINE).last_line


@needs_mpich
def test_sharded_optimizer_state_goes_on(tmp_path: Path) -> None:
    """What each rank has alone comes back to it; two die at once in the step, where the third may have made it."""
    chaos = "exit@rank=1,step=5,phase=optimizer,code=3; exit@rank=2,step=5,phase=optimizer,code=3"
    outcome = state_job(RESTARTED[0], "--zero", "--save", str(tmp_path), chaos=chaos)
    assert outcome.code == 0 and undisturbed_state("--zero") in outcome.output.splitlines(), outcome.output
    assert "goes on after 4 steps of epoch 0" in outcome.output


TWO_NODES = ("--env", "DISTGRAD_TOPOLOGY=2x2")


@needs_openmpi
@pytest.mark.parametrize(
    ("ranks", "chaos", "options"),
    [
        (3, "kill@rank=1,step=5,phase=optimizer; kill@rank=0,step=8,phase=forward", ()),
        (2, "segv@rank=0,step=1,phase=optimizer", ()),
        (4, "exc@rank=0,step=5; exit@rank=2,step=5; kill@rank=3,step=7,phase=optimizer", ()),  # two, then one more
        (4, "kill@rank=0,step=5,phase=optimizer; kill@rank=1,step=5,phase=optimizer", TWO_NODES),
        (4, "kill@rank=2,step=5; kill@rank=3,step=5", TWO_NODES),
    ],
)
def test_sharded_optimizer_state_goes_on_in_place(ranks: int, chaos: str, options: Sequence[str]) -> None:
    outcome = state_job(ELASTIC[0], "--zero", chaos=chaos, ranks=ranks, options=options)
    assert outcome.code == 0 and undisturbed_state("--zero") in outcome.output.splitlines(), outcome.output


@needs_openmpi
def test_a_whole_node_dies() -> None:
    chaos = "kill@rank=0,step=7; kill@rank=1,step=7"
    outcome = run_job(command(Plan("cnn", 4, chaos, ()), ELASTIC[0], TWO_NODES), DEADLINE)
    assert outcome.code == 0 and expected("cnn") in outcome.output.splitlines(), outcome.output
    assert sum(" died, noticed at " in line for line in outcome.output.splitlines()) in (1, 2)


@needs_openmpi
def test_all_copies_of_sharded_state_are_lost(tmp_path: Path) -> None:
    """It is said last, and the newest checkpoint leads to the same end."""
    chaos, arguments = "exc@rank=0,step=5; kill@rank=2,step=5", ("--zero", "--copies", "2")
    outcome = state_job(ELASTIC[0], *arguments, chaos=chaos, ranks=4)
    assert outcome.code == 1 and "sha256" not in outcome.output
    assert "CommError: ZeroRedundancyOptimizer: ranks 0, 2 have died together" in outcome.last_line
    options = ("--max-restarts", "1")
    again = state_job(ELASTIC[0], *arguments, "--save", str(tmp_path), chaos=chaos, ranks=4, options=options)
    assert again.code == 0 and undisturbed_state("--zero") in again.output.splitlines(), again.output
    assert "have died together" in again.output


@pytest.mark.parametrize(
    ("mpi", "moment"),
    [
        *((mpi, "part") for mpi in RESTARTED),
        *((mpi, moment) for mpi in ELASTIC for moment in ("part", "manifest")),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_death_while_a_checkpoint_is_saved(mpi: Mpi, moment: str, tmp_path: Path) -> None:
    """The job goes on; the newest complete checkpoint is whole, and leads to the same end."""
    outcome = state_job(mpi, "--save", str(tmp_path), "--die", moment, "--at", "7")
    assert outcome.code == 0 and undisturbed_state() in outcome.output.splitlines(), outcome.output
    assert outcome.output.count(" died, noticed at ") == 1
    manager = CheckpointManager(tmp_path)
    assert manager.latest() == 11
    for newest in sorted(tmp_path.glob("step-*"))[-1:]:  # as if the job had not come so far
        (newest / "manifest.json").unlink()
    assert manager.latest() in (7, 8, 9, 10) and manager.load() is not None
    again = run_job([sys.executable, STATE, "--save", str(tmp_path)], DEADLINE)
    assert again.last_line == undisturbed_state()
