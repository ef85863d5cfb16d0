"""A model of a step of data-parallel training, for numbers of ranks that are not there to be measured.

Compute comes from a recorded step, communication from fits; what is left is to play out which bucket is ready when and
which resource is free when. All ranks are alike, so the life of one is played, with the compute time that the slowest
of them is expected to have.
"""

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..arena import FIRST_BUCKET_BYTES, plan
from ._statistics import expected_maximum

MEMORY, LINK = "memory", "link"


@dataclass(frozen=True)
class Record:
    """One step of one rank, without communication.

    Args:
        forward: seconds from the start of the step to that of backward, zero_grad included.
        backward: seconds.
        optimizer: seconds.
        ready: for each parameter in the order in which gradients came: its shape, and when after the start of backward
            its gradient was there.
        steps: seconds of a whole step, many of them, by how many processes of the node took steps at once.
        broadcasts: bytes of buffers that follow rank 0 in every step; 0 for none.
        on_gpu: whether backward runs on a GPU, beside which there is always time to communicate.
    """

    forward: float
    backward: float
    optimizer: float
    ready: tuple[tuple[tuple[int, ...], float], ...]
    steps: dict[int, tuple[float, ...]]
    broadcasts: int = 0
    on_gpu: bool = False


@dataclass(frozen=True)
class Fits:
    """What micro-benchmarks on one and two ranks say about a node.

    Args:
        cores: that the ranks of a node share.
        bandwidth: of memory in bytes per second, by how many ranks use it at once (1 and 2).
        alpha: seconds that an all-reduce of two ranks takes beside the bytes.
        alpha_shared: the same where the two ranks share one core.
        alpha_beside: seconds by which it lengthens what two ranks compute meanwhile, each on one core.
        beta: pairs of footprint and seconds a byte: two ranks reduce buffers of which they have this many bytes.
    """

    cores: int
    bandwidth: dict[int, float]
    alpha: float
    alpha_shared: float
    alpha_beside: float
    beta: tuple[tuple[int, float], ...]

    def seconds_a_byte(self, footprint: float) -> float:
        """`beta`, interpolated between the footprints on a logarithmic scale."""
        points = sorted(self.beta)
        if footprint <= points[0][0]:
            return points[0][1]
        for (low, at_low), (high, at_high) in itertools.pairwise(points):
            if footprint <= high:
                share = math.log(footprint / low) / math.log(high / low)
                return at_low + share * (at_high - at_low)
        return points[-1][1]


@dataclass(frozen=True)
class Cluster:
    """Where the step is to run, and how.

    Args:
        nodes: how many.
        ranks_per_node: ranks on each.
        link: bytes per second of a node's link, in each direction.
        latency: seconds of the smallest message between nodes.
        bucket_bytes: gradients that are reduced at once.
        wire: bytes of an element when it is communicated; 2 for float16 and bfloat16.
        overlap: whether buckets are reduced as soon as they are ready; else all at once after backward.
    """

    nodes: int = 1
    ranks_per_node: int = 1
    link: float = 12.5e9
    latency: float = 5e-6
    bucket_bytes: int = 25 << 20
    wire: int = 4
    overlap: bool = False

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class Terms:
    """What a prediction reckons with; switching one off shows how much it costs."""

    cores: bool = True  # ranks of a node slow each other down
    stragglers: bool = True  # all wait for the slowest
    latency: bool = True  # what a collective takes beside the bytes
    memory: bool = True  # bytes inside nodes
    link: bool = True  # bytes between nodes


@dataclass(frozen=True)
class Prediction:
    """A step that was played out.

    Args:
        step: seconds.
        compute: seconds of it without communication.
        communication: seconds in which something was being communicated.
        efficiency: of weak scaling: a step of one rank alone over this one.
        binding: the term without which the step would be shortest, and the seconds that it costs; "" for none.
        costs: of each term.
    """

    step: float
    compute: float
    communication: float
    efficiency: float
    binding: str
    costs: dict[str, float]


Stage = tuple[str, float]  # the resource that it needs, and for how many seconds


def play(buckets: Sequence[tuple[float, Sequence[Stage]]]) -> float:
    """When the last bucket is done; discrete events on resources that serve one bucket at a time, in bucket order.

    Args:
        buckets: when each is ready, and the stages that it then goes through, one after the other.
    """
    free: dict[str, float] = {}
    events = [(ready, number, 0) for number, (ready, _) in enumerate(buckets)]
    heapq.heapify(events)
    end = 0.0
    while events:
        now, number, position = heapq.heappop(events)
        stages = buckets[number][1]
        if position == len(stages):
            end = max(end, now)
            continue
        resource, seconds = stages[position]
        done = max(now, free.get(resource, 0.0)) + seconds
        free[resource] = done
        heapq.heappush(events, (done, number, position + 1))
    return end


def buckets_of(record: Record, bucket_bytes: int | None) -> list[tuple[float, int]]:
    """When each bucket is complete, and its bytes in float32, as DistributedDataParallel cuts them.

    Args:
        record: whose gradients they are.
        bucket_bytes: the size of a bucket, about; None for all in one.
    """
    shapes = [shape for shape, _ in record.ready]
    if bucket_bytes is None:
        return [(max(time for _, time in record.ready), 4 * sum(math.prod(shape) for shape in shapes))]
    first = min(FIRST_BUCKET_BYTES, bucket_bytes)
    layout = plan(shapes, 4, headers=True, first_bucket_bytes=first, bucket_bytes=bucket_bytes)
    times = [time for _, time in record.ready]
    found, latest = [], 0.0
    for bucket in layout.buckets:
        latest = max([latest, *times[bucket.first : bucket.last]])  # in the order of their index
        found.append((latest, 4 * (bucket.stop - bucket.start)))
    return found


def predict(record: Record, fits: Fits, cluster: Cluster) -> Prediction:
    """The step of a cluster, and which term binds it."""
    step, compute, busy = _play_step(record, fits, cluster, Terms())
    alone, _, _ = _play_step(record, fits, Cluster(), Terms())
    costs = {}
    for name in ("cores", "stragglers", "latency", "memory", "link"):
        without, _, _ = _play_step(record, fits, cluster, replace(Terms(), **{name: False}))
        costs[name] = step - without
    worst = max(costs, key=lambda name: costs[name])
    binding = worst if costs[worst] > 1e-3 * step else ""
    return Prediction(step, compute, busy, alone / step, binding, costs)


def _play_step(record: Record, fits: Fits, cluster: Cluster, terms: Terms) -> tuple[float, float, float]:
    """Seconds of the step, of its compute, and of communication."""
    slowdown = compute_factor(record, fits, cluster, terms)
    forward, backward, optimizer = (slowdown * t for t in (record.forward, record.backward, record.optimizer))
    compute = forward + backward + optimizer
    if cluster.ranks == 1:
        return compute, compute, 0.0
    pieces = buckets_of(record, cluster.bucket_bytes if cluster.overlap else None)
    footprint = sum(nbytes for _, nbytes in pieces)
    staged = [
        (slowdown * ready, all_reduce_stages(nbytes, footprint, fits, cluster, terms)) for ready, nbytes in pieces
    ]
    busy = sum(seconds for _, stages in staged for _, seconds in stages)
    spare = record.on_gpu or cluster.ranks_per_node < fits.cores
    if cluster.overlap and spare:
        end = max(backward, play(staged))
    else:  # the core that would communicate is one that backward needs
        end = backward + busy
        if cluster.overlap and terms.latency:  # and each bucket waits for its turn on it
            end += len(pieces) * fits.alpha_beside * max(1.0, cluster.ranks_per_node / fits.cores)
    follow = _broadcast_seconds(record, fits, cluster, terms)
    return forward + end + optimizer + follow, compute, busy + follow


def compute_factor(record: Record, fits: Fits, cluster: Cluster, terms: Terms) -> float:
    """By how much the compute of the slowest of all ranks exceeds that of one rank alone."""
    typical = _median(record.steps[1])
    at_once = cluster.ranks_per_node
    seen = max(n for n in record.steps if n <= max(at_once, 1))
    factor = 1.0
    if terms.cores:
        factor = _median(record.steps[seen]) / typical
        factor *= max(1.0, at_once / max(fits.cores, seen))
    if terms.stragglers and cluster.ranks > 1:
        samples = record.steps[seen]
        factor *= expected_maximum(samples, cluster.ranks) / (sum(samples) / len(samples))
    return factor


def all_reduce_stages(nbytes: int, footprint: int, fits: Fits, cluster: Cluster, terms: Terms) -> list[Stage]:
    """What an all-reduce of a bucket needs: memory of the node, then the link, as `_hierarchical` does it.

    Inside a node: the fit of two ranks, scaled to the number of ranks. Between nodes: the ranks of a node exchange
    their slices at the same time, so that a node's link carries what one all-reduce of all bytes would.
    """
    wire = nbytes * cluster.wire // 4
    inside = 0.0
    local = cluster.ranks_per_node
    if local > 1:
        if terms.latency:
            inside += _meeting(fits, local)
        if terms.memory:
            inside += wire * fits.seconds_a_byte(footprint * cluster.wire / 4) * _traffic(fits, local)
    if cluster.wire < 4 and terms.memory:  # cast there and back: read and write, each once
        inside += 2 * (nbytes + wire) / (fits.bandwidth[1] * _speedup(fits, local) / local)
    if cluster.nodes == 1:
        return [(MEMORY, inside)]
    return [(MEMORY, inside), (LINK, link_seconds(wire, cluster, terms))]


def link_seconds(nbytes: int, cluster: Cluster, terms: Terms) -> float:
    """An all-reduce between nodes: the better of two algorithms.

    Recursive doubling sends everything log2(p) times; Rabenseifner's sends 2 (p - 1) / p of it in 2 log2(p) messages
    (Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH, 2005).
    """
    hops = math.ceil(math.log2(cluster.nodes))
    latency = cluster.latency if terms.latency else 0.0
    transfer = nbytes / cluster.link if terms.link else 0.0
    doubling = hops * (latency + transfer)
    halving = 2 * hops * latency + 2 * (cluster.nodes - 1) / cluster.nodes * transfer
    return min(doubling, halving)


def _meeting(fits: Fits, ranks: int) -> float:
    """Seconds beside the bytes. Ranks that share cores take turns."""
    if ranks <= fits.cores:
        return fits.alpha * math.log2(ranks)
    return max(fits.alpha, fits.alpha_shared) * ranks / 2


def _traffic(fits: Fits, ranks: int) -> float:
    """How much longer the bytes of an all-reduce take on this many ranks than on two.

    The owner of a slice reads it from all ranks and writes it to all: 2 x ranks x bytes together.
    """
    return (ranks / 2) * (_speedup(fits, 2) / _speedup(fits, ranks))


def _speedup(fits: Fits, ranks: int) -> float:
    """The bandwidth of this many ranks over that of one: a power law through what one and two ranks have."""
    exponent = max(0.0, math.log2(fits.bandwidth[2] / fits.bandwidth[1]))
    return float(min(ranks, fits.cores) ** exponent)


def _broadcast_seconds(record: Record, fits: Fits, cluster: Cluster, terms: Terms) -> float:
    """What it takes for buffers to follow rank 0, before and after each step."""
    if not record.broadcasts:
        return 0.0
    stages = all_reduce_stages(record.broadcasts, record.broadcasts, fits, replace(cluster, wire=4), terms)
    return 2 * sum(seconds for _, seconds in stages)


def _median(samples: Sequence[float]) -> float:
    ordered = sorted(samples)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
