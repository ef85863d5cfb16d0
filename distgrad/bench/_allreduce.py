"""Times all-reduces, all contenders in turn, and says what the times mean."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..comm import Communicator
from ._bandwidth import METHOD, Bandwidth
from ._contenders import Contender
from ._errors import BenchError
from ._statistics import paired_ratio, quantile, summarise

SAMPLE_SECONDS = 4e-3  # a sample repeats the call for about that long
MOST_REPEATS = 500


class Timing(NamedTuple):
    """The samples of one contender at one size: seconds a call, of the slowest rank."""

    name: str
    seconds: list[float]


def algorithm_bandwidth(nbytes: int, seconds: float) -> float:
    """Bytes of the buffer per second: nccl-tests' algbw."""
    return nbytes / seconds


def bus_bandwidth(nbytes: int, seconds: float, ranks: int) -> float:
    """What every link of an ideal ring would carry, in bytes per second: nccl-tests' busbw.

    An all-reduce of S bytes has to bring 2 (n - 1) / n S through each rank's link, so this number can be compared with
    the speed of the hardware whatever n is (github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md).
    """
    return algorithm_bandwidth(nbytes, seconds) * 2 * (ranks - 1) / ranks


def memory_share(nbytes: int, seconds: float, ranks: int, bandwidth: float) -> float:
    """How near the all-reduce is to what memory allows: the least traffic it can have, over time and bandwidth.

    Ranks on one node must at least read each of their buffers and write one result, (n + 1) S bytes. Results in every
    rank's own buffer, as ours are, take 2 n S; buffers that fit the caches can exceed 1.

    Args:
        nbytes: of the buffer.
        seconds: of one all-reduce.
        ranks: on the node.
        bandwidth: bytes per second of all ranks of the node together, see `Bandwidth`.
    """
    return (ranks + 1) * nbytes / seconds / bandwidth


def measure(
    group: Communicator, contenders: Sequence[Contender], elements: int, rounds: int, bandwidth: Bandwidth
) -> list[Timing]:
    """Time the contenders in turn, in the opposite order every other round. A collective call.

    Raises:
        BenchError: a contender gives a wrong result.
    """
    repeats = {}
    for contender in contenders:
        contender.prepare(elements)
        if not slowest(group, 0.0 if contender.check() else 1.0) == 0.0:
            raise BenchError(f"{contender.name}: wrong result for {elements} elements on {group.size} ranks")
        contender.seconds(1)
        once = slowest(group, contender.seconds(1))
        repeats[contender.name] = min(max(round(SAMPLE_SECONDS / max(once, 1e-7)), 1), MOST_REPEATS)
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds):
        for contender in contenders if turn % 2 == 0 else reversed(contenders):
            n = repeats[contender.name]
            samples[contender.name].append(slowest(group, contender.seconds(n)) / n)
        if turn % 5 == 0:
            bandwidth.measure()
    return [Timing(name, seconds) for name, seconds in samples.items()]


def slowest(group: Communicator, seconds: float) -> float:
    """The largest of the values that the ranks pass. A collective call."""
    values: list[float] = group.all_gather_object(seconds)
    return max(values)


def run(
    group: Communicator,
    contenders: Sequence[Contender],
    sizes: Sequence[int],
    dtype: "np.dtype[Any]",
    rounds: int,
    ranks_per_node: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Measure all sizes. A collective call.

    Args:
        group: the ranks.
        contenders: what is compared.
        sizes: of the buffer, in bytes.
        dtype: of its elements.
        rounds: samples of each contender at each size.
        ranks_per_node: whose memory bandwidth is shared.
        progress: told what is being measured.

    Returns:
        What goes into the file, without the description of the machine.
    """
    bandwidth = Bandwidth(lambda seconds: slowest(group, seconds), group.barrier, ranks_per_node)
    measured = []
    for nbytes in sizes:
        elements = max(nbytes // dtype.itemsize, 1)
        progress(f"{elements * dtype.itemsize} bytes")
        measured.append((elements * dtype.itemsize, measure(group, contenders, elements, rounds, bandwidth)))
    memory = summarise(bandwidth.samples)
    return {
        "ranks": group.size,
        "ranks_per_node": ranks_per_node,
        "memory": {"bytes_per_second": memory.as_json(), "method": METHOD},
        "rows": [
            row
            for nbytes, timings in measured
            for row in rows_of(nbytes, timings, group.size, ranks_per_node, memory.median)
        ],
    }


def rows_of(
    nbytes: int, timings: Sequence[Timing], ranks: int, ranks_per_node: int, bandwidth: float
) -> list[dict[str, Any]]:
    """A row of the result for each contender at one size; `speedup` is over the first contender named MPI..."""
    baseline = next((timing for timing in timings if timing.name.startswith("MPI")), None)
    rows = []
    for timing in timings:
        time = summarise(timing.seconds)
        ordered = sorted(timing.seconds)
        row: dict[str, Any] = {
            "bytes": nbytes,
            "name": timing.name,
            "seconds": time.as_json(),
            "quartiles": [quantile(ordered, 0.25), quantile(ordered, 0.75)],
            "algbw": algorithm_bandwidth(nbytes, time.median),
            "busbw": bus_bandwidth(nbytes, time.median, ranks),
            "memory_share": memory_share(nbytes, time.median, ranks_per_node, bandwidth),
        }
        if baseline is not None:
            row["speedup"] = paired_ratio(baseline.seconds, timing.seconds).as_json()
        rows.append(row)
    return rows
