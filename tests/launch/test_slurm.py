"""launch/slurm.sbatch on a Slurm that starts the ranks for real (tests/launch/slurm.py), on two nodes of two ranks.

What is tested: the batch script, what distgrad reads from Slurm's variables, and how mpirun starts ranks by way of
srun. What is not: Slurm itself, whose behaviour the stub takes from its manual.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.jobs import ROOT, Mpi, Outcome, installed_mpis, run_job
from tests.launch import slurm

SCRIPT = ROOT / "launch" / "slurm.sbatch"
RENDEZVOUS = str(Path(__file__).with_name("rendezvous.py"))

PROBLEM = slurm.can_run()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))
MPIS = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)
MPICH = [mpi for mpi in installed_mpis() if mpi.name == "mpich"]  # srun's own PMI is that of its Hydra
ONLY_MPICH = pytest.mark.parametrize("mpi", MPICH, ids=lambda mpi: mpi.name)


def submit(
    mpi: Mpi, folder: Path, *arguments: str, bug: str = "", script: Path = SCRIPT, **variables: str
) -> tuple[Outcome, dict[str, Any]]:
    """Run the batch script; returns how it ended and what the ranks have written."""
    slurm.install(folder / "bin", mpi.python, bug)
    path = os.pathsep.join([str(folder / "bin"), str(Path(mpi.python).parent), os.environ["PATH"]])
    command = ["sbatch", "--ntasks-per-node=2", str(script), *(arguments or (RENDEZVOUS, str(folder / "found.json")))]
    command[0] = str(folder / "bin" / "sbatch")
    outcome = run_job(command, 60, folder, {"PATH": path, **variables})
    found = folder / "found.json"
    return outcome, json.loads(found.read_text()) if found.exists() else {}


def check(outcome: Outcome, found: dict[str, Any]) -> None:
    """Four ranks in blocks on two nodes, who all find rank 0 under its name."""
    assert outcome.code == 0, outcome.output
    ranks = found["ranks"]
    assert [rank["RANK"] for rank in ranks] == ["0", "1", "2", "3"]
    assert [rank["host"] for rank in ranks] == ["node1", "node1", "node2", "node2"]
    assert [rank["LOCAL_RANK"] for rank in ranks] == ["0", "1", "0", "1"]
    assert all((rank["WORLD_SIZE"], rank["LOCAL_WORLD_SIZE"]) == ("4", "2") for rank in ranks)
    assert {tuple(rank["master"]) for rank in ranks} == {("node1", ranks[0]["master"][1])}
    assert all(rank["sum"] == 10 for rank in ranks)
    assert [rank["met"] for rank in ranks] == [[1, 2, 3], [0], [0], [0]]


@ONLY_MPICH
def test_srun(mpi: Mpi, tmp_path: Path) -> None:
    outcome, found = submit(mpi, tmp_path, MPI_TYPE="pmi2")
    check(outcome, found)
    assert [rank["slurm"] for rank in found["ranks"]] == [[*"000"], [*"110"], [*"201"], [*"311"]]


@MPIS
def test_mpirun(mpi: Mpi, tmp_path: Path) -> None:
    check(*submit(mpi, tmp_path, LAUNCHER="mpirun"))


@MPIS
def test_n_auto(mpi: Mpi, tmp_path: Path) -> None:
    """Without a host by name, the launcher takes them from Slurm's variables."""
    script = tmp_path / "auto.sbatch"
    lines = re.findall(r"^#SBATCH .*\n", SCRIPT.read_text(), re.MULTILINE)
    script.write_text(f'{"".join(lines)}exec python -m distgrad.launch -n auto "$@"\n')
    check(*submit(mpi, tmp_path, script=script))


# What is wrong on a node or in a script, and how the job is started.
BUGS = {
    "ranks": "srun",
    "local ranks": "srun",
    "ports": "srun",
    "address": "srun",
    "hosts reversed": "mpirun",
}


@ONLY_MPICH
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(mpi: Mpi, bug: str, tmp_path: Path) -> None:
    outcome, found = submit(mpi, tmp_path, bug=bug, MPI_TYPE="pmi2", LAUNCHER=BUGS[bug])
    assert not outcome.timed_out
    with pytest.raises(AssertionError):
        check(outcome, found)


@ONLY_MPICH
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("$SLURM_NTASKS_PER_NODE", "1"),
        ('-n "$SLURM_NTASKS"', "-n 2"),
        ('show hostnames "$SLURM_JOB_NODELIST"', 'show hostnames "node[1-1]"'),
    ],
)
def test_a_bug_in_the_script_is_found(mpi: Mpi, before: str, after: str, tmp_path: Path) -> None:
    script = tmp_path / "wrong.sbatch"
    text = SCRIPT.read_text()
    assert before in text
    script.write_text(text.replace(before, after))
    with pytest.raises(AssertionError):
        check(*submit(mpi, tmp_path, script=script, LAUNCHER="mpirun"))


@MPIS
def test_srun_without_a_pmi_says_how_to_mend_it(mpi: Mpi, tmp_path: Path) -> None:
    if mpi.name != "mpich":
        pytest.skip("the stub's srun starts its tasks through MPICH's mpirun")
    outcome, _ = submit(mpi, tmp_path, MPI_TYPE="pmix")
    assert outcome.code != 0 and not outcome.timed_out
    assert "srun offers its tasks no PMI" in outcome.output and "`srun --mpi=pmi2` (MPICH" in outcome.output
    assert "Traceback" not in outcome.output


@ONLY_MPICH
def test_a_script_that_is_not_there(mpi: Mpi, tmp_path: Path) -> None:
    outcome, _ = submit(mpi, tmp_path, "nowhere.py", LAUNCHER="mpirun")
    assert outcome.code == 2 and "expected a script, but 'nowhere.py' does not exist" in outcome.output


@ONLY_MPICH
def test_a_launcher_that_is_none(mpi: Mpi, tmp_path: Path) -> None:
    outcome, _ = submit(mpi, tmp_path, LAUNCHER="torchrun")
    assert outcome.code == 2 and "expected LAUNCHER to be srun or mpirun, got torchrun" in outcome.output


def test_the_stubs_command_line() -> None:
    assert slurm._split(["--mpi=pmi2", "-N", "2", "--kill-on-bad-exit=1", "python", "-n", "x"]) == (
        {"mpi": "pmi2", "N": "2", "kill-on-bad-exit": "1"},
        ["python", "-n", "x"],
    )
