"""Blocks that rank 0 runs alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import distgrad as dg
from distgrad import comm
from distgrad.comm import Communicator, run_threads
from distgrad.errors import CommError
from tests.comm.collectives import CALLS


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_collective_raises_inside(call: Callable[[Communicator], None]) -> None:
    group = comm.get_default()
    with comm.rank_zero(), pytest.raises(CommError, match=r"rank_zero\(\)` at test_rank_zero.py:\d+ in test_every"):
        call(group)
    call(group)  # nothing was entered, so the group goes on


def test_the_message_names_the_call() -> None:
    with comm.rank_zero(), pytest.raises(CommError) as caught:
        comm.all_reduce(np.zeros(3))
    assert "got all_reduce(SUM, 3 float64 = 24 bytes) at test_rank_zero.py:" in str(caught.value)


def test_a_collective_in_the_background_raises() -> None:
    with comm.rank_zero(), pytest.raises(CommError, match="in the background"):
        comm.all_reduce(np.zeros(3), async_op=True)


def test_the_inner_block_is_named_and_the_outer_one_goes_on() -> None:
    with comm.rank_zero():
        with comm.rank_zero():
            pass
        with pytest.raises(CommError):
            comm.barrier()
    comm.barrier()


def test_the_block_ends_with_an_error() -> None:
    with pytest.raises(ValueError, match="planted"), comm.rank_zero():
        raise ValueError("planted")
    comm.barrier()


def test_only_rank_zero_is_here_and_the_others_refuse_too() -> None:
    def rank() -> tuple[bool, bool]:
        with comm.rank_zero() as here, pytest.raises(CommError):
            comm.barrier()
        comm.barrier()
        return here, comm.is_rank_zero()

    assert run_threads(3, rank) == [(True, True), (False, False), (False, False)]


def test_a_block_of_one_rank_does_not_concern_another() -> None:
    """Threads are ranks here: rank 1 makes collectives of a group of its own while rank 0 is in a block."""

    def rank() -> None:
        alone = comm.get_default().split(comm.get_rank())
        assert alone is not None
        with pytest.raises(CommError, match="rank_zero") if comm.is_rank_zero() else no_error():
            if comm.is_rank_zero():
                with comm.rank_zero():
                    comm.send(np.ones(1), 1)  # messages are allowed
                    comm.recv(np.ones(1), 1)
                    alone.barrier()
            else:
                comm.recv(np.ones(1), 0)
                alone.barrier()
                comm.send(np.ones(1), 0)

    run_threads(2, rank)


def test_what_needs_no_other_rank_is_allowed(tmp_path: Path) -> None:
    def rank() -> float:
        model = dg.DistributedDataParallel(dg.nn.Sequential(dg.nn.Linear(3, 2), dg.nn.BatchNorm1d(2)))
        value = 0.0
        with dg.rank_zero() as here:
            if here:
                model.eval()
                with dg.no_grad():
                    value = float(model(dg.ones(4, 3)).sum().item())
                dg.save(model.state_dict(), tmp_path / "model.bin")
                model.train()
        model(dg.ones(4, 3)).sum().backward()  # all ranks go on together
        return value

    run_threads(2, rank)
    assert (tmp_path / "model.bin").exists()


class no_error:
    """A context in which nothing is expected to be raised."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass
