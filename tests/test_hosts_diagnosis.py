"""What the ranks of one host learn about those of another, between which there is TCP alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import Hosts, problem
from tests.jobs import Mpi, installed_mpis, run_job

DEADLINE = 90.0

STALLS = """
import time
from distgrad import comm
group = comm.get_default()
group.barrier()
if group.rank == 3:
    time.sleep(3)
group.barrier()
if group.rank == 0:
    print("finished")
"""

DISAGREES = """
import numpy as np
from distgrad import comm
group = comm.get_default()
group.barrier()
group.all_reduce(np.zeros(3 if group.rank < 2 else 4))
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    reason = problem()
    if reason:
        pytest.skip(reason)
    made = Hosts(tmp_path)
    yield made
    made.close()


each_mpi = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)


@each_mpi
def test_a_stall_on_the_other_host(hosts: Hosts, mpi: Mpi, tmp_path: Path) -> None:
    program = tmp_path / "stall.py"
    program.write_text(STALLS)
    outcome = run_job(hosts.job(mpi, 2, str(program)), DEADLINE)
    assert outcome.code == 0 and "finished" in outcome.output, outcome.output
    assert outcome.output.count("has waited") == 1, outcome.output
    assert "rank 3: is in no call; last was call #" in outcome.output
    assert "in <module>: time.sleep(3)" in outcome.output, outcome.output


@each_mpi
def test_hosts_that_disagree(hosts: Hosts, mpi: Mpi, tmp_path: Path) -> None:
    program = tmp_path / "disagree.py"
    program.write_text(DISAGREES)
    outcome = run_job(hosts.job(mpi, 2, str(program)), DEADLINE)
    assert outcome.code != 0 and not outcome.timed_out
    assert "rank 0: all_reduce(SUM, 3 float64 = 24 bytes) at disagree.py:6 in <module>" in outcome.output
    assert "rank 3: all_reduce(SUM, 4 float64 = 32 bytes) at disagree.py:6 in <module>" in outcome.output
