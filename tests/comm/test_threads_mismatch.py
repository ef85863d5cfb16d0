"""Ranks that are threads: every disagreement is an error that names both sides."""

import pytest

from distgrad import comm
from distgrad.comm import Communicator, run_threads
from distgrad.errors import CollectiveMismatchError, CommTimeoutError, PeerLostError
from tests.comm.collectives import CALLS, DISAGREEMENTS, Collective, Disagreement


@pytest.mark.parametrize("case", DISAGREEMENTS.values(), ids=DISAGREEMENTS)
def test_every_rank_learns_both_sides(case: Disagreement) -> None:
    def rank() -> str:
        with pytest.raises(CollectiveMismatchError) as caught:
            (case.last if comm.get_rank() == 2 else case.most)(comm.get_default())
        return str(caught.value)

    for text in run_threads(3, rank):
        lines = text.splitlines()
        assert any(line.startswith("  rank 0: ") and case.most_said in line for line in lines), text
        assert any(line.startswith("  rank 2: ") and case.last_said in line for line in lines), text


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_rank_that_left_is_named(call: Collective) -> None:
    def rank() -> None:
        group: Communicator = comm.get_default()
        if group.rank == 1:
            group._fail("planted")
        else:
            with pytest.raises(PeerLostError, match="rank 1 has left: planted"):
                call(group)

    run_threads(2, rank)


def test_a_rank_that_is_stuck_is_named() -> None:
    def rank() -> None:
        if comm.get_rank() == 0:
            comm.barrier()

    with pytest.raises((CommTimeoutError, PeerLostError)):
        run_threads(2, rank, timeout=0.2)
