"""Compiled steps in real processes: every rank ends with the bits of eager steps, dropout included."""

import pytest

import distgrad as dg
from distgrad import comm, optim
from distgrad.parallel import DistributedDataParallel
from tests.replay.test_distributed import clipped_step
from tests.replay.twins import CALLS, Twins, batch, mlp, world

pytestmark = pytest.mark.mpi


def test_steps_are_equal() -> None:
    rank = comm.get_default().rank

    def make() -> object:
        w = world(lambda: DistributedDataParallel(mlp(0.3, norm=True)), lambda p: optim.Adam(p, lr=0.01))
        dg.manual_seed(rank)
        return w

    twins = Twins(make, clipped_step)
    for i in range(CALLS):
        twins.call(*batch(10 * i + rank))
    assert twins.compiled.replays == CALLS - 3, twins.compiled.explain()
    digest = [t._data.tobytes() for t in twins.other.model.state_dict().values()]
    everyone = comm.get_default().all_gather_object(digest)
    assert everyone == [digest] * len(everyone)
