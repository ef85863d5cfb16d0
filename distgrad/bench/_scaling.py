"""Weak and strong scaling: steps with communication, and in turn the same processes without."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..comm import Communicator
from ._statistics import Summary, summarise
from ._trainer import Trainer
from ._workloads import WORKLOADS

WARM_UP = 3  # steps


class Plan(NamedTuple):
    """What to measure.

    Args:
        workloads: by name.
        modes: "weak" (every rank has a batch of its own) and "strong" (the ranks share one).
        seconds: for each workload and mode, about.
        rounds: samples of each side; each is a block of steps.
        device: "cpu" or "cuda".
        bucket_mb: of DistributedDataParallel; None for its default.
        overlap: whether it reduces during backward.
        single: whether rank 0 is also timed while the others sleep.
    """

    workloads: Sequence[str]
    modes: Sequence[str]
    seconds: float
    rounds: int
    device: str = "cpu"
    bucket_mb: float | None = None
    overlap: bool = False
    single: bool = False


def measure(group: Communicator, ranks_per_node: int, plan: Plan, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run the plan on these ranks. A collective call.

    Returns:
        {"runs": [...], "skipped": {...}}, the same on every rank.
    """
    runs: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for name in plan.workloads:
        for mode in plan.modes:
            batch = WORKLOADS[name].batch
            if mode == "strong":
                if batch % group.size:
                    skipped[f"{name}, strong, {group.size} ranks"] = (
                        f"a batch of {batch} cannot be cut into equal parts"
                    )
                    continue
                batch //= group.size
            if group.size == 1 and mode != plan.modes[0]:
                runs.append({**runs[-1], "mode": mode})  # one rank is the start of both
                continue
            progress(f"{name}, {mode}")
            run = measure_one(group, name, batch, plan)
            runs.append({"ranks": group.size, "ranks_per_node": ranks_per_node, "mode": mode, **run})
    return {"runs": runs, "skipped": skipped}


def measure_one(group: Communicator, name: str, batch: int, plan: Plan) -> dict[str, Any]:
    """One workload: blocks of steps with communication and without, in turn. A collective call.

    Returns:
        Seconds a step: "with" of the slowest rank for each round, "without" of every rank for each round, "single" of
        rank 0 by itself.
    """
    joint = Trainer(name, batch, plan.device, group, group.rank, plan.bucket_mb, plan.overlap)
    alone = Trainer(name, batch, plan.device, None, group.rank)
    joint.seconds(WARM_UP)
    alone.seconds(WARM_UP)
    step = max(group.all_gather_object(joint.seconds(2) / 2 + alone.seconds(2) / 2))
    steps = max(round(plan.seconds / plan.rounds / 2 / step), 1)
    with_it: list[float] = []
    without: list[list[float]] = []
    single: list[float] = []
    communicating = 0.0
    for turn in range(plan.rounds):
        for side in (joint, alone) if turn % 2 == 0 else (alone, joint):
            group.barrier()
            before = group.statistics.seconds
            seconds = side.seconds(steps) / steps
            communicating += (group.statistics.seconds - before) / steps
            everyone = group.all_gather_object(seconds)
            if side is joint:
                with_it.append(max(everyone))
            else:
                without.append(everyone)
        if plan.single:
            group.barrier()
            single.append(group.broadcast_object(alone.seconds(steps) / steps if group.rank == 0 else None))
    return {
        "workload": name,
        "batch": batch,
        "bucket_mb": plan.bucket_mb,
        "overlap": plan.overlap,
        "device": plan.device,
        "steps": steps,
        "with": with_it,
        "without": without,
        "single": single,
        "communicating": max(group.all_gather_object(communicating / plan.rounds)),
        "loss": joint.loss,
    }


def efficiency(with_it: Sequence[float], without: Sequence[Sequence[float]]) -> Summary:
    """Samples per second with communication over those of the same processes without.

    Alone, each rank goes on at its own speed, so what the processes do together is the sum of their speeds; with
    communication all have the speed of the slowest in each step. Waiting for it counts as a loss.
    """
    together = [sum(1 / seconds for seconds in everyone) / len(everyone) for everyone in without]
    return summarise([1 / seconds / speed for seconds, speed in zip(with_it, together, strict=True)])


def scaling(one: Summary, many: Summary, growth: float) -> Summary:
    """Time of the smallest job over that of a larger one, times `growth`; from runs that cannot be paired.

    Args:
        one: seconds a step of the smallest job.
        many: seconds a step of the larger one.
        growth: 1 in weak scaling; in strong scaling the ratio of the ranks, inverted.
    """
    samples = min(one.samples, many.samples)
    return Summary(
        growth * one.median / many.median, growth * one.low / many.high, growth * one.high / many.low, samples
    )
