"""Runs of a short training of four ranks with a random fault each: all end by themselves, soon, with the right message.

    python -m tests.launch.soak --runs 200 --seed 1 [--openmpi]

Kills come from --chaos and from outside: at a random moment, so also in start-up, at exit and while a checkpoint is
written. tests/launch/test_soak.py runs a few of them.
"""

import argparse
import os
import random
import re
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.jobs import Job, Mpi, installed_mpis

SCRIPT = str(Path(__file__).parent / "training_chaos.py")
RANKS = 4
STEPS = 12
DEADLINE = 60.0  # seconds after which a job counts as hanging
LIMIT = 5.0  # seconds from the fault to the end
TIMEOUT = 2.0  # seconds that ranks wait for each other; on a busy machine, start-up alone may need one
STALL = 1.2  # seconds


class Case(NamedTuple):
    """One fault, and what the end must say."""

    chaos: str | None  # None: SIGKILL from outside after `moment` seconds
    moment: float
    rank: int
    code: int | None
    message: str  # regular expression, found anywhere in the output
    patience: float  # seconds that the fault itself takes


ENDED = r"rank {rank} \(process \d+\) ended first, without a word: "
RAISED = r"\[rank {rank}\] .*{name}: planted"

KINDS: dict[str, tuple[int, str, float]] = {
    "kill": (137, ENDED + "killed by SIGKILL", 0),
    "segv": (139, ENDED + "killed by SIGSEGV", 0),
    "term": (143, ENDED + "killed by SIGTERM", 0),
    "exit,code=0": (1, ENDED + "with status 0", 0),
    "exit,code=5": (5, ENDED + "with status 5", 0),
    "leave,code=4": (4, r"\[rank {rank}\] exited with status 4", 0),
    "exc": (1, r"\[rank {rank}\] .*ChaosError: planted", 0),
    "oom": (1, r"\[rank {rank}\] MemoryError: planted", 0),
    "interrupt": (130, r"\[rank {rank}\] KeyboardInterrupt", 0),
    f"stall,seconds={STALL:g}": (0, "", STALL),
    "stall,seconds=60": (1, r"CommTimeoutError[\s\S]*rank {rank}: is in no call", TIMEOUT),
    "stop": (1, r"rank {rank}: .*stopped", TIMEOUT),
}
PHASES = ("forward", "backward", "optimizer", "init", "start", "end")


def draw(dice: random.Random) -> Case:
    """A random fault. A third are kills from outside."""
    if dice.random() < 1 / 3:
        return Case(None, dice.uniform(0.0, 3.0), dice.randrange(RANKS), None, "", 0)
    kind = dice.choice(list(KINDS))
    phase = dice.choice(PHASES)
    if phase == "init" and kind.startswith(("stall", "stop", "leave")):
        phase = "start"  # in MPI_Init nobody can say who is missing; and no code of the user's runs there
    if phase == "end" and kind == "stall,seconds=60":
        phase = "optimizer"  # at the end a rank may take its time
    rank = dice.randrange(RANKS)
    step = f",step={dice.randint(1, STEPS)}" if phase in PHASES[:3] else ""
    code, message, patience = KINDS[kind]
    name, comma, value = kind.partition(",")
    text = f"{name}@rank={rank},phase={phase}{step}{comma}{value}"
    return Case(text, 0.0, rank, code, message.format(rank=rank, name=""), patience)


class Result(NamedTuple):
    """How a run went."""

    case: Case
    seconds: float  # from the fault to the end
    problem: str  # empty: all is well


def run(case: Case, mpi: Mpi) -> Result:
    """Run one case to its end."""
    # A short timeout only where it must end the job: on a busy machine start-up may take long.
    options = ["--timeout", str(TIMEOUT if case.patience else 30 * TIMEOUT), "--stall-warn", "0.5"]
    options += ["--chaos", case.chaos] if case.chaos else []
    job = Job([mpi.python, "-m", "distgrad.launch", "-n", str(RANKS), *options, SCRIPT, str(STEPS)])
    if case.chaos is None:
        return _kill_from_outside(case, job)
    mark = f"--chaos: rank {case.rank}:"
    end = time.monotonic() + DEADLINE
    while mark not in job.output() and job.process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    struck = time.time()
    outcome = job.finish(DEADLINE)
    seconds = outcome.ended - struck
    problem = ""
    if outcome.timed_out or seconds > LIMIT + case.patience:
        problem = f"ended after {seconds:.1f} s"
    elif outcome.left:
        problem = f"left {outcome.left}"
    elif mark not in outcome.output:
        problem = "the fault did not strike"
    elif outcome.code != case.code:
        problem = f"expected status {case.code}, got {outcome.code}"
    elif not re.search(case.message, outcome.output):
        problem = f"expected the message {case.message!r}"
    return Result(case, seconds, f"{problem}\n{outcome.output}" if problem else "")


def _kill_from_outside(case: Case, job: Job) -> Result:
    time.sleep(case.moment)
    pid = _process_of(job, case.rank)
    if pid is not None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pid = None
    struck = time.time()
    outcome = job.finish(DEADLINE)
    seconds = outcome.ended - struck
    problem = ""
    if outcome.timed_out or (pid is not None and seconds > LIMIT):
        problem = f"ended after {seconds:.1f} s"
    elif outcome.left:
        problem = f"left {outcome.left}"
    elif pid is None and outcome.code != 0:
        problem = f"expected status 0, for the rank was not up or gone, got {outcome.code}"
    elif pid is not None and outcome.code == 0 and outcome.output.count("done") < RANKS:
        problem = "expected a failure, got status 0"
    elif outcome.code != 0 and not re.search(ENDED.format(rank=case.rank) + "killed by SIGKILL", outcome.output):
        problem = f"expected the end of rank {case.rank} to be told"
    return Result(case, seconds if pid is not None else 0.0, f"{problem}\n{outcome.output}" if problem else "")


def _process_of(job: Job, rank: int) -> int | None:
    names = {f"PMI_RANK={rank}".encode(), f"OMPI_COMM_WORLD_RANK={rank}".encode()}
    for pid in job.descendants():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if names & set(environment) and SCRIPT.encode() in command:
            return pid
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--openmpi", action="store_true")
    given = parser.parse_args()
    wanted = "openmpi" if given.openmpi else "mpich"
    mpi = next(mpi for mpi in installed_mpis() if mpi.name == wanted)
    dice = random.Random(given.seed)
    results = []
    for number in range(given.runs):
        result = run(draw(dice), mpi)
        results.append(result)
        if result.problem:
            print(f"run {number}: {result.case}\n{result.problem}\n", flush=True)
    _summarise(results)
    return int(any(result.problem for result in results))


def _summarise(results: list[Result]) -> None:
    bad = sum(bool(result.problem) for result in results)
    print(f"{len(results)} runs, {bad} with a problem")
    for name, group in (
        ("struck by --chaos", [r.seconds for r in results if r.case.chaos and not r.case.patience]),
        ("stalls and stops, with their own time and --timeout 2", [r.seconds for r in results if r.case.patience]),
        ("SIGKILL from outside", [r.seconds for r in results if not r.case.chaos and r.seconds]),
    ):
        if len(group) > 1:
            cuts = statistics.quantiles(group, n=20)
            print(f"{name}: {len(group)} runs, seconds to the end: median {statistics.median(group):.2f}, "
                  f"p95 {cuts[18]:.2f}, longest {max(group):.2f}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
