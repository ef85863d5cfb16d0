"""Jobs on two hosts, between which there is TCP alone. Without launcher options the hierarchical backend is chosen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import Hosts, problem
from tests.jobs import Mpi, installed_mpis, run_job

DEADLINE = 90.0

TRAINS = """
import platform
import numpy as np
from distgrad import comm
from distgrad.comm import Topology
from tests.parallel.training import train

group = comm.get_default()
assert Topology.discover(group).nodes == ((0, 1), (2, 3)), Topology.discover(group)
buffer = group.empty(3_000_001, np.float32)
buffer[:] = group.rank
group.all_reduce(buffer)
assert (buffer == 6).all()
names = group.all_gather_object(platform.node())
bits = train()
if group.rank == 0:
    print("names", *names)
    print("bits", group.name, bits)
"""

RAISES = """
from distgrad import comm
group = comm.get_default()
group.barrier()
if group.rank == 3:
    raise RuntimeError("planted on the second host")
group.barrier()
"""


@pytest.fixture(scope="module")
def possible() -> None:
    """Skips where there can be no hosts."""
    reason = problem()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def hosts(possible: None, tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path)
    yield made
    made.close()


each_mpi = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)


@each_mpi
def test_training_on_two_hosts(hosts: Hosts, mpi: Mpi, tmp_path: Path) -> None:
    """The bits are those of a training on one host."""
    program = tmp_path / "train.py"
    program.write_text(TRAINS)
    outcome = run_job(hosts.job(mpi, 2, str(program)), DEADLINE)
    assert outcome.code == 0 and not outcome.timed_out, outcome.output
    assert outcome.left == []
    lines = dict(line.split(" ", 1) for line in outcome.output.splitlines() if line.startswith(("names", "bits")))
    first, second = hosts.names
    assert lines["names"].split() == [first, first, second, second]
    backend, bits = lines["bits"].split()
    assert backend == "hierarchical"

    program.write_text(TRAINS.replace("((0, 1), (2, 3))", "((0, 1, 2, 3),)"))
    alone = run_job(mpi.job(4, str(program)), DEADLINE)
    assert f"bits shm {bits}" in alone.output


@each_mpi
def test_an_error_on_the_second_host_ends_the_job(hosts: Hosts, mpi: Mpi, tmp_path: Path) -> None:
    program = tmp_path / "raise.py"
    program.write_text(RAISES)
    outcome = run_job(hosts.job(mpi, 2, str(program)), DEADLINE)
    assert outcome.code != 0 and not outcome.timed_out
    assert "planted on the second host" in outcome.output


def test_nothing_remains_of_the_hosts(hosts: Hosts) -> None:
    made = {Path("/run/netns") / name for name in hosts.names}
    assert all(path.exists() for path in made)
    hosts.close()
    assert not any(path.exists() for path in made)


def test_the_wire_is_all_that_a_host_has(hosts: Hosts) -> None:
    for name in hosts.names:
        outcome = run_job(["ip", "netns", "exec", name, "ls", "/sys/class/net"], 10.0)
        assert set(outcome.output.split()) == {"lo", "wire"}
