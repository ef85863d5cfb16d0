"""A stall of 3 s in the data set of one rank: one table, with that rank's stack, and the run goes on to its end."""

from pathlib import Path

import pytest

from tests.jobs import Mpi, installed_mpis, run_job

SCRIPT = """
import time
import distgrad as dg
import distgrad.distributed as dist
from distgrad.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 16 * dist.get_world_size()

    def __getitem__(self, index):
        if index == 9 * dist.get_world_size() + dist.get_world_size() - 1:  # which only the last rank loads
            time.sleep(3)
        return dg.ones(3)

class EveryNth(dg.utils.data.Sampler):
    def __iter__(self):
        return iter(range(dist.get_rank(), 16 * dist.get_world_size(), dist.get_world_size()))

    def __len__(self):
        return 16

model = dg.DistributedDataParallel(dg.nn.Linear(3, 2))
dist.barrier()
if dist.get_rank() == 0:
    print("begins", flush=True)  # on a busy machine, ranks may have waited for each other's start
optimizer = dg.optim.SGD(model.parameters(), lr=0.1)
for batch in DataLoader(Slow(), batch_size=2, sampler=EveryNth(None)):
    optimizer.zero_grad()
    model(batch).sum().backward()
    optimizer.step()
if dist.get_rank() == 0:
    print("finished")
"""

CASES = [
    pytest.param(mpi, ranks, settings, id=f"{mpi.name}-{ranks}-{'-'.join(settings.values())}")
    for mpi in installed_mpis()
    for ranks, settings in [
        (2, {"DISTGRAD_BACKEND": "shm"}),  # one waits
        (3, {"DISTGRAD_BACKEND": "mpi"}),  # several wait, and one table is printed
        (4, {"DISTGRAD_TOPOLOGY": "2x2", "DISTGRAD_BACKEND": "mpi"}),
        (4, {"DISTGRAD_TOPOLOGY": "2x2", "DISTGRAD_BACKEND": "hierarchical"}),
    ]
]


@pytest.mark.parametrize(("mpi", "ranks", "settings"), CASES)
def test_a_stall_in_the_data_set(mpi: Mpi, ranks: int, settings: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    outcome = run_job(mpi.job(ranks, "-m", "distgrad.launch", str(script)), 60, environment=settings)
    assert outcome.code == 0 and "finished" in outcome.output and not outcome.left, outcome
    assert outcome.output.partition("begins")[2].count("has waited") == 1, outcome.output
    late = f"rank {ranks - 1}: is in no call; last was "
    (line,) = [line for line in outcome.output.splitlines() if late in line]
    assert "is sleeping, in" in line
    assert "in __getitem__: time.sleep(3)" in outcome.output, outcome.output
    assert outcome.output.partition("begins")[2].count("waits in call #") == ranks - 1, outcome.output


def test_the_same_without_a_table(tmp_path: Path) -> None:
    """The planted opposite: with a longer patience nothing is printed."""
    if not installed_mpis():
        pytest.skip("no mpirun beside this Python; install distgrad[mpich]")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    job = installed_mpis()[0].job(2, "-m", "distgrad.launch", "--stall-warn", "30", str(script))
    outcome = run_job(job, 60)
    assert outcome.code == 0 and "finished" in outcome.output and "has waited" not in outcome.output, outcome
