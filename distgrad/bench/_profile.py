"""What the model has to know, measured: steps of one rank, memory, and all-reduces of two ranks."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import cuda
from .._typing import Array
from ..comm import Communicator, ReduceOp
from ._allreduce import slowest
from ._bandwidth import Bandwidth
from ._errors import BenchError
from ._model import Fits, Record
from ._statistics import summarise
from ._trainer import build
from ._workloads import WORKLOADS, train_step

FOOTPRINTS = tuple(1 << power for power in range(16, 27))  # 64 KiB to 64 MiB
ALPHA_BYTES = 4096
OTHER_BYTES = 8 << 20  # of other memory that a step uses between the writing of gradients and their reduction
PAIRS = 15  # of steps with and without an all-reduce
TURNS = 5  # in which all ranks take steps, and one alone
RECORDED_STEPS = 5  # steps whose gradients' times are taken; their median counts


def measure(
    group: Communicator, workloads: Sequence[str], seconds: float, device: str, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Everything that a job of this size can tell. A collective call; jobs of one and of two ranks are needed.

    Args:
        group: the ranks.
        workloads: whose steps are recorded.
        seconds: for the steps of each workload.
        device: "cpu" or "cuda".
        progress: told what is being measured.
    """
    progress("memory")
    bandwidth = Bandwidth(lambda value: slowest(group, value), group.barrier, group.size)
    for _ in range(7):
        bandwidth.measure()
    found: dict[str, Any] = {"bandwidth": {str(group.size): summarise(bandwidth.samples).median}, "records": {}}
    if group.size == 2:
        progress("all-reduce")
        found["all_reduce"] = measure_all_reduce(group)
    for name in workloads:
        progress(name)
        found["records"][name] = record(group, name, seconds, device)
    return found


def measure_all_reduce(group: Communicator) -> dict[str, Any]:
    """What all-reduces of two ranks cost, as `Fits` holds it. A collective call."""
    alpha = meeting_seconds(group)
    points = []
    for footprint in FOOTPRINTS:
        seconds = reducing_seconds(group, footprint)
        points.append([footprint, max(seconds - alpha, 0.0) / footprint])
    shared = _on_one_core(group, lambda: meeting_seconds(group))
    return {"alpha": alpha, "alpha_shared": shared, "alpha_beside": seconds_beside(group), "beta": points}


def meeting_seconds(group: Communicator) -> float:
    """Seconds of a mean of a few bytes over the ranks; the median of a few blocks."""
    buffer: Array = group.empty(ALPHA_BYTES // 4, np.float32)
    buffer[...] = 0
    samples = []
    for _ in range(9):
        group.barrier()
        started = time.perf_counter()
        for _ in range(100):
            group.all_reduce(buffer, ReduceOp.AVG)
        samples.append(slowest(group, time.perf_counter() - started) / 100)
    return summarise(samples).median


def reducing_seconds(group: Communicator, nbytes: int) -> float:
    """Seconds by which a mean over the ranks lengthens a step.

    As in training, each rank has written its buffer before, has used other memory since, and reads the result: moving
    bytes from one core's caches to another's is what an all-reduce of a few MiB consists of.
    """
    buffer: Array = group.empty(nbytes // 4, np.float32)
    other = np.zeros(OTHER_BYTES // 4, np.float32)

    def step(reduce: bool) -> float:
        buffer[...] = 1
        np.add(other, 1, out=other)
        group.barrier()
        started = time.perf_counter()
        if reduce:
            group.all_reduce(buffer, ReduceOp.AVG)
        np.add.reduce(buffer)
        return slowest(group, time.perf_counter() - started)

    return _difference(step)


def seconds_beside(group: Communicator) -> float:
    """Seconds by which a mean of a few bytes in the background lengthens what each rank computes meanwhile."""
    buffer: Array = group.empty(ALPHA_BYTES // 4, np.float32)
    buffer[...] = 0
    factor = np.ones((192, 192), np.float32)
    product = np.empty_like(factor)

    def step(reduce: bool) -> float:
        group.barrier()
        started = time.perf_counter()
        work = group.start_all_reduce(buffer, ReduceOp.AVG) if reduce else None
        for _ in range(60):  # some 10 ms
            np.matmul(factor, factor, out=product)
        if work is not None:
            work.wait()
        return slowest(group, time.perf_counter() - started)

    return _difference(step)


def _difference(step: Callable[[bool], float]) -> float:
    """The median of ``step(True) - step(False)``, taken in turn; not below 0."""
    samples = [step(True) - step(False) for _ in range(PAIRS)]
    return max(summarise(samples).median, 0.0)


def _on_one_core(group: Communicator, call: Callable[[], float]) -> float:
    """The result of a call during which all ranks keep to one core, where the system lets them. A collective call."""
    if sys.platform != "linux":
        return call()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {group.broadcast_object(min(allowed))})
    try:
        return call()
    finally:
        os.sched_setaffinity(0, allowed)


def record(group: Communicator, name: str, seconds: float, device: str) -> dict[str, Any]:
    """Steps of a workload without communication, on all ranks at once. A collective call.

    Returns:
        What `Record` holds, with the seconds of every step of every rank; "single" are those of rank 0 while the others
        waited, in turn with them.
    """
    program = build(name, WORKLOADS[name].batch, device, group.rank)
    parameters = list(program.model.parameters())
    optimizer = program.optimizer(parameters)

    def synchronised() -> float:
        if device == "cuda":
            cuda.synchronize()
        return time.perf_counter()

    def step() -> None:
        train_step(program, program.model, optimizer)

    for _ in range(3):
        step()
    phases = [_phases(program, parameters, optimizer, synchronised) for _ in range(RECORDED_STEPS)]
    steps, single = _in_turn(group, step, synchronised, seconds)
    typical = sorted(phases, key=lambda phase: sum(phase[:3]))[len(phases) // 2]
    forward, backward, update, ready = typical
    scale = summarise(steps).median / (forward + backward + update)  # the hooks took time, too
    return {
        "forward": scale * forward,
        "backward": scale * backward,
        "optimizer": scale * update,
        "ready": [[shape, scale * moment] for shape, moment in ready],
        "steps": [value for values in group.all_gather_object(thinned(steps)) for value in values],
        "single": group.broadcast_object(thinned(single)),
        "broadcasts": buffer_bytes(program.model),
        "on_gpu": device == "cuda",
    }


def _in_turn(
    group: Communicator, step: Callable[[], None], now: Callable[[], float], seconds: float
) -> tuple[list[float], list[float]]:
    """Seconds of this rank's steps while all take steps, and on rank 0 while the others wait. A collective call."""

    def timed(duration: float) -> list[float]:
        taken: list[float] = []
        end = now() + duration
        while now() < end or not taken:
            started = now()
            step()
            taken.append(now() - started)
        return taken

    steps: list[float] = []
    single: list[float] = []
    for _ in range(TURNS):
        group.barrier()
        steps += timed(seconds / TURNS)
        group.barrier()
        if group.size > 1 and group.rank == 0:
            single += timed(seconds / TURNS / 2)
    return steps, single


def thinned(samples: Sequence[float]) -> list[float]:
    """A thousand of the samples at most, evenly spread over the time in which they were taken."""
    return list(samples[:: -(-len(samples) // 1000) or 1])


def buffer_bytes(model: Any) -> int:
    """Bytes of running means and their like, which follow rank 0 in every step."""
    return sum(int(b._data.nbytes) for b in model.buffers())


Ready = list[tuple[list[int], float]]


def _phases(
    program: Any, parameters: Sequence[Any], optimizer: Any, now: Callable[[], float]
) -> tuple[float, float, float, Ready]:
    """Seconds of forward, backward and optimizer in one step, and when each gradient was there."""
    arrived: Ready = []
    begun = now()

    def on_gradient(parameter: Any) -> None:
        arrived.append((list(parameter.shape), now() - after_forward))

    optimizer.zero_grad()
    loss = program.loss(program.model)
    after_forward = now()
    handles = [p.register_post_accumulate_grad_hook(on_gradient) for p in parameters]
    try:
        loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    after_backward = now()
    optimizer.step()
    return after_forward - begun, after_backward - after_forward, now() - after_backward, arrived


def fits_of(profile: dict[str, Any]) -> Fits:
    """The fits in a profile.

    Raises:
        BenchError: it lacks what a job of one rank, or of two, has to measure.
    """
    bandwidth = {int(ranks): float(value) for ranks, value in profile["bandwidth"].items()}
    if not {1, 2} <= set(bandwidth) or "all_reduce" not in profile:
        raise BenchError(f"expected profiles of jobs of 1 and of 2 ranks, got those of {sorted(bandwidth)}")
    fit = profile["all_reduce"]
    return Fits(
        cores=profile["machine"]["cores"],
        bandwidth=bandwidth,
        alpha=fit["alpha"],
        alpha_shared=fit["alpha_shared"],
        alpha_beside=fit["alpha_beside"],
        beta=tuple((int(footprint), float(seconds)) for footprint, seconds in fit["beta"]),
    )


def record_of(profile: dict[str, Any], name: str) -> Record:
    """The record of a workload in a profile.

    Raises:
        BenchError: there is none.
    """
    found = profile["records"].get(name)
    if found is None:
        raise BenchError(f"expected a record of {name!r} in the profile, got those of {sorted(profile['records'])}")
    return Record(
        forward=found["forward"],
        backward=found["backward"],
        optimizer=found["optimizer"],
        ready=tuple((tuple(shape), float(moment)) for shape, moment in found["ready"]),
        steps={int(ranks): tuple(values) for ranks, values in found["steps"].items()},
        broadcasts=found["broadcasts"],
        on_gpu=found["on_gpu"],
    )


def merge(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One profile from those of jobs of one and of two ranks. Phases and gradients are those of the smallest job.

    A machine's speed drifts between jobs: steps of a larger job are expressed in the unit of the smallest one's, by
    what one of its ranks took alone.

    Args:
        parts: each with "ranks", "machine", and what `measure` returns.
    """
    merged: dict[str, Any] = {"machine": parts[0]["machine"], "bandwidth": {}, "records": {}}
    for part in sorted(parts, key=lambda part: int(part["ranks"])):
        merged["bandwidth"].update(part["bandwidth"])
        if "all_reduce" in part:
            merged["all_reduce"] = part["all_reduce"]
        for name, found in part["records"].items():
            ranks = str(part["ranks"])
            if name in merged["records"]:
                record = merged["records"][name]["steps"]
                unit = summarise(next(iter(record.values()))).median / summarise(found["single"]).median
                record[ranks] = [unit * seconds for seconds in found["steps"]]
            else:
                merged["records"][name] = {**found, "steps": {ranks: found["steps"]}}
    return merged
