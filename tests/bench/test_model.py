"""The model of a step, against cases that can be computed by hand."""

import math
from dataclasses import replace

import pytest

from distgrad.bench import _model
from distgrad.bench._model import LINK, MEMORY, Cluster, Fits, Record, Terms, buckets_of, link_seconds, play, predict

MIB = 1 << 20

# Three gradients of 1 MiB, ready 10, 20 and 30 ms after the start of backward.
RECORD = Record(
    forward=0.020,
    backward=0.030,
    optimizer=0.010,
    ready=(((MIB // 4,), 0.010), ((MIB // 4,), 0.020), ((MIB // 4,), 0.030)),
    steps={1: (0.060,) * 5, 2: (0.060,) * 5},
)
# An all-reduce of two ranks: 1 ms and 4 ms per MiB. Two ranks have twice the bandwidth of one.
FITS = Fits(
    cores=4,
    bandwidth={1: 10e9, 2: 20e9},
    alpha=0.001,
    alpha_shared=0.002,
    alpha_beside=0.003,
    beta=((1024, 0.004 / MIB),),
)


def test_buckets_wait_for_the_link_in_their_order() -> None:
    """By hand: a 0-2-5 (memory, link), b 1-3-8: the link is free at 5; c ready at 10."""
    stages = [(MEMORY, 2.0), (LINK, 3.0)]
    assert play([(0.0, stages)]) == 5
    assert play([(0.0, stages), (1.0, [(MEMORY, 1.0), (LINK, 3.0)])]) == 8
    assert play([(0.0, stages), (1.0, stages), (10.0, [(LINK, 1.0)])]) == 11
    assert play([]) == 0


def test_a_resource_serves_one_at_a_time() -> None:
    """Three that are ready together take three times as long, and not once."""
    assert play([(0.0, [(LINK, 2.0)])] * 3) == 6


def test_one_rank_is_the_recorded_step() -> None:
    prediction = predict(RECORD, FITS, Cluster())
    assert prediction.step == pytest.approx(0.060) and prediction.efficiency == pytest.approx(1)
    assert prediction.binding == ""


def test_two_ranks_reduce_everything_after_backward() -> None:
    """60 ms, then 1 ms and 3 MiB at 4 ms."""
    prediction = predict(RECORD, FITS, Cluster(1, 2))
    assert prediction.step == pytest.approx(0.060 + 0.001 + 0.012)
    assert prediction.binding == "memory"
    assert prediction.costs["memory"] == pytest.approx(0.012)
    assert prediction.costs["latency"] == pytest.approx(0.001)
    assert prediction.efficiency == pytest.approx(60 / 73)


def test_overlap_hides_all_but_the_last_bucket() -> None:
    """Buckets of 1 MiB take 5 ms and come every 10: only the last is seen. Padding and headers are below 1 %."""
    prediction = predict(RECORD, FITS, Cluster(1, 2, bucket_bytes=MIB, overlap=True))
    assert prediction.step == pytest.approx(0.065, rel=0.01)


def test_overlap_hides_nothing_where_backward_needs_all_cores() -> None:
    """Each of the 3 buckets waits for its turn, besides: on 4 ranks, twice as long."""
    on_two = replace(FITS, cores=2)
    buckets = Cluster(1, 2, bucket_bytes=MIB, overlap=True)
    assert predict(RECORD, on_two, buckets).step == pytest.approx(0.075 + 3 * 0.003, rel=0.01)
    taking_turns = predict(RECORD, on_two, replace(buckets, ranks_per_node=4))
    assert taking_turns.step == pytest.approx(0.120 + 3 * (2 * 0.002 + 0.008 + 2 * 0.003), rel=0.01)


def test_more_ranks_than_cores_take_turns() -> None:
    """Four on two cores: compute and bytes take twice as long, meetings are those of a shared core."""
    prediction = predict(RECORD, replace(FITS, cores=2), Cluster(1, 4))
    assert prediction.step == pytest.approx(0.120 + 2 * 0.002 + 2 * 0.012)
    assert prediction.binding == "cores"


def test_all_wait_for_the_slowest() -> None:
    """Steps of 50 or 70 ms, equally often: the slower of two takes 65 on average, the slowest of many 70."""
    uneven = replace(RECORD, steps={1: (0.050, 0.070), 2: (0.050, 0.070)})
    lone = replace(FITS, alpha=0.0, beta=((1, 0.0),))
    assert predict(uneven, lone, Cluster(1, 2)).step == pytest.approx(0.065)
    many = predict(uneven, lone, Cluster(64, 2, link=1e30, latency=0.0))
    assert many.step == pytest.approx(0.070) and many.binding == "stragglers"


def test_link_chooses_the_better_algorithm() -> None:
    """8 nodes, 1 s a message: a byte goes by doubling (3 messages), a gigabyte by halves (6 messages, 7/4 of it)."""
    cluster = Cluster(8, 1, link=1e9, latency=1.0)
    assert link_seconds(1, cluster, Terms()) == pytest.approx(3)
    assert link_seconds(10**10, cluster, Terms()) == pytest.approx(6 + 17.5)
    assert link_seconds(10**10, cluster, Terms(latency=False)) == pytest.approx(17.5)
    assert link_seconds(10**10, cluster, Terms(link=False)) == pytest.approx(3)


def test_a_slow_link_binds_and_half_as_many_bytes_take_half_as_long() -> None:
    slow = Cluster(2, 1, link=1e8, latency=0.0)
    prediction = predict(RECORD, FITS, slow)
    assert prediction.binding == "link"
    assert prediction.costs["link"] == pytest.approx(3 * MIB / 1e8)
    half = predict(RECORD, FITS, replace(slow, wire=2))
    assert half.costs["link"] == pytest.approx(1.5 * MIB / 1e8)
    assert half.costs["memory"] > 0  # to cast there and back


def test_latency_binds_where_buckets_are_small_and_nodes_are_many() -> None:
    prediction = predict(RECORD, FITS, Cluster(256, 1, link=1e12, latency=1e-3))
    assert prediction.binding == "latency"
    assert prediction.costs["latency"] == pytest.approx(8e-3, rel=0.01)


def test_buffers_follow_rank_zero_twice_a_step() -> None:
    """2 KiB of them: two more calls."""
    lone = replace(FITS, beta=((1, 0.0),))
    plain = predict(RECORD, lone, Cluster(1, 2)).step
    assert predict(replace(RECORD, broadcasts=2048), lone, Cluster(1, 2)).step == pytest.approx(plain + 0.002)


def test_buckets_are_cut_as_the_arena_cuts_them() -> None:
    """The first holds 1 MiB at most, the others the size asked for; each ends with its last gradient."""
    times = [ready for ready, _ in buckets_of(RECORD, 25 * MIB)]
    assert times == [0.010, 0.030]
    assert [ready for ready, _ in buckets_of(RECORD, MIB)] == [0.010, 0.020, 0.030]
    assert buckets_of(RECORD, None) == [(0.030, 3 * MIB)]


def test_beta_is_interpolated_between_footprints() -> None:
    fits = replace(FITS, beta=((1024, 1.0), (4096, 3.0)))
    assert [fits.seconds_a_byte(n) for n in (1, 1024, 2048, 4096, 10**9)] == pytest.approx([1, 1, 2, 3, 3])


def test_hand_computed_cases_notice_a_broken_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: resources that serve everybody at once, and a tree without its logarithm."""
    monkeypatch.setattr(_model, "play", lambda buckets: max(r + sum(s for _, s in stages) for r, stages in buckets))
    with pytest.raises(AssertionError):
        assert _model.play([(0.0, [(LINK, 2.0)])] * 3) == 6
    monkeypatch.setattr(math, "log2", lambda n: n - 1)
    with pytest.raises(AssertionError):
        test_link_chooses_the_better_algorithm()
