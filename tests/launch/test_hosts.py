"""Hosts and places, as people and schedulers write them."""

from pathlib import Path

import pytest

from distgrad.errors import LaunchError
from distgrad.launch._hosts import Allocation, Host, expand_nodes, parse_hosts, read_allocation, read_hostfile
from tests.jobs import ROOT


def test_hosts_of_the_command_line() -> None:
    assert parse_hosts("a:4, b,c.example:1") == (Host("a", 4), Host("b", None), Host("c.example", 1))


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a slots=4\nb slots=2 max_slots=8\n", "a:4 b:2"),  # Open MPI
        ("# comment\na:4\n\nb:2  # here too\n", "a:4 b:2"),  # MPICH
        ("a\na\nb\n", "a:2 b:1"),  # PBS
    ],
)
def test_hostfiles_of_each_kind(text: str, hosts: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(text)
    assert " ".join(map(str, read_hostfile(str(file)))) == hosts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# none\n", r"expected hosts in .*, got none"),
        ("a slots=4\nb 4\n", r"expected `host`, `host:4` or `host slots=4`, got 'b 4' in line 2 of "),
        ("a:x\n", r"got 'a:x' in line 1 of "),
        ("a slots=many\n", r"got 'a slots=many' in line 1 of "),
    ],
)
def test_what_no_hostfile_has(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(text)
    with pytest.raises(LaunchError, match=message):
        read_hostfile(str(file))


def test_the_example_is_a_hostfile() -> None:
    assert read_hostfile(str(ROOT / "launch" / "hostfile.example")) == (Host("node1", 4), Host("node2", 4))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", "n1"),
        ("n[1-3]", "n1 n2 n3"),
        ("n[08-11],login", "n08 n09 n10 n11 login"),
        ("a[1,3-4],b[01-02]-ib", "a1 a3 a4 b01-ib b02-ib"),
        ("r[1-2]n[3,5]", "r1n3 r1n5 r2n3 r2n5"),
        ("a,b", "a b"),
        ("", ""),
    ],
)
def test_nodes_in_slurms_short_form(text: str, names: str) -> None:
    assert expand_nodes(text) == names.split()


def write(folder: Path, text: str) -> str:
    file = folder / "nodes"
    file.write_text(text)
    return str(file)


def test_allocations(tmp_path: Path) -> None:
    wanted = (Host("a1", 2), Host("a2", 1))
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a[1-2]", "SLURM_TASKS_PER_NODE": "2,1"}
    assert read_allocation(slurm) == Allocation("Slurm", wanted)
    lines = write(tmp_path, "a1\na1\na2\n")
    assert read_allocation({"PBS_NODEFILE": lines}) == Allocation("PBS", wanted)
    assert read_allocation({"LSB_DJOB_HOSTFILE": lines}) == Allocation("LSF", wanted)
    assert read_allocation({"LSB_MCPU_HOSTS": "a1 2 a2 1"}) == Allocation("LSF", wanted)
    engine = write(tmp_path, "a1 2 all.q@a1 UNDEFINED\na2 1 all.q@a2 UNDEFINED\n")
    assert read_allocation({"PE_HOSTFILE": engine}) == Allocation("Grid Engine", wanted)
    assert read_allocation({"PATH": "/bin"}) is None


def test_an_allocation_with_gaps() -> None:
    assert read_allocation({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a,b"}) == Allocation(
        "Slurm", (Host("a", 1), Host("b", 1))
    )
    assert read_allocation({"PBS_NODEFILE": "/nowhere"}) == Allocation("PBS", ())
