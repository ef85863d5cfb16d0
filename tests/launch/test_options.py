"""Options of `launch -n` on jobs for real: logs, bound cores, variables for the ranks, and jobs that start again."""

import ast
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.jobs import Job, Mpi, Outcome, installed_mpis

MPIS = pytest.mark.parametrize("mpi", installed_mpis(), ids=lambda mpi: mpi.name)
CRASHED = pytest.mark.parametrize("crashed", [0, 1])
DEADLINE = 60.0  # seconds after which a job counts as hanging


def launch(mpi: Mpi, folder: Path, script: str, *options: str) -> Job:
    """`launch -n 2` with these options, of a script with this text."""
    (folder / "train.py").write_text(script)
    return Job([mpi.python, "-m", "distgrad.launch", "-n", "2", *options, "train.py"], folder)


def outcome_of(job: Job) -> Outcome:
    """How a job ended that must end by itself and leave nothing."""
    outcome = job.finish(DEADLINE)
    assert not outcome.timed_out and outcome.left == [], outcome
    return outcome


# ---- logs ----------------------------------------------------------------------------------------------------------

TALK = """
import os, subprocess, sys
rank = os.environ["RANK"]
print("printed by", rank)
print("an error of", rank, file=sys.stderr)
sys.stdout.flush()
subprocess.run(["echo", "a child of " + rank])
os.write(1, b"without Python, rank " + rank.encode() + b"\\n")
"""


def logs(folder: Path) -> list[str]:
    return [(folder / "logs" / f"rank{rank}.log").read_text() for rank in range(2)]


@MPIS
def test_each_rank_has_a_log_of_all_that_it_prints(mpi: Mpi, tmp_path: Path) -> None:
    outcome = outcome_of(launch(mpi, tmp_path, TALK, "--log-dir", "logs"))
    assert outcome.code == 0, outcome.output
    sources = ("printed by", "an error of", "a child of", "without Python, rank")
    for rank, log in enumerate(logs(tmp_path)):
        assert sorted(log.splitlines()) == sorted(f"{source} {rank}" for source in sources)
    on_screen = [line for line in outcome.output.splitlines() if line.startswith(sources)]
    assert sorted(on_screen) == sorted(f"{source} 0" for source in sources)


@MPIS
@CRASHED
def test_the_traceback_is_in_the_log_and_last_on_the_screen(mpi: Mpi, crashed: int, tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "import distgrad.distributed as dist\n"
        "dist.barrier()\n"
        "print('before', os.environ['RANK'])\n"
        f"if os.environ['RANK'] == '{crashed}':\n"
        "    raise ValueError('planted')\n"
        "dist.barrier()\n"
    )
    outcome = outcome_of(launch(mpi, tmp_path, script, "--log-dir", "logs"))
    assert outcome.code == 1
    assert outcome.last_line == f"[rank {crashed}] ValueError: planted", outcome.output
    assert outcome.output.count("ValueError: planted") == 1, outcome.output
    log = logs(tmp_path)[crashed].splitlines()
    assert log[0] == f"before {crashed}"
    assert f"[rank {crashed}] Traceback (most recent call last):" in log
    assert log[-1] == f"[rank {crashed}] ValueError: planted"


STALL = """
import os, time
import distgrad.distributed as dist
dist.barrier()
print("begins", flush=True)  # on a busy machine, ranks may have waited for each other's start
if os.environ["RANK"] == "{late}":
    time.sleep(1.5)
dist.barrier()
"""


@MPIS
@pytest.mark.parametrize("late", [0, 1])
def test_the_stall_table_is_on_the_screen_and_in_the_log_of_who_waits(mpi: Mpi, late: int, tmp_path: Path) -> None:
    """Rank 1 is the one that waits where rank 0 is late, and nothing else of it is on the screen."""
    options = ["--log-dir", "logs", "--stall-warn", "0.5"]
    outcome = outcome_of(launch(mpi, tmp_path, STALL.format(late=late), *options))
    assert outcome.code == 0, outcome.output
    first = rf"distgrad: rank {1 - late} has waited \d\.\d s for rank {late} in"
    assert len(re.findall(first, outcome.output.partition("begins")[2])) == 1, outcome.output
    assert "time.sleep(1.5)" in outcome.output
    assert [len(re.findall(first, log.partition("begins")[2])) for log in logs(tmp_path)] == [late, 1 - late]


@MPIS
def test_a_log_directory_that_cannot_be(mpi: Mpi, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    outcome = outcome_of(launch(mpi, tmp_path, TALK, "--log-dir", "logs", "--max-restarts", "2"))
    assert outcome.code == 2
    assert "expected a directory for --log-dir" in outcome.output and "Traceback" not in outcome.output
    assert "restart" not in outcome.output.replace("--max-restarts", "")


# ---- cores and variables -------------------------------------------------------------------------------------------

PLACE = """
import os
import distgrad, numpy, threadpoolctl
blas = [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
print("place", (int(os.environ["RANK"]), sorted(os.sched_getaffinity(0)), max(blas)), "\\n", end="", flush=True)
"""


def cores_of(cpus: set[int]) -> set[str]:
    """The physical cores to which these CPUs belong, as the system names them."""
    folder = Path("/sys/devices/system/cpu")
    files = {cpu: folder / f"cpu{cpu}" / "topology" / "thread_siblings_list" for cpu in cpus}
    return {file.read_text() if file.exists() else str(cpu) for cpu, file in files.items()}


@MPIS
@pytest.mark.skipif(sys.platform != "linux", reason="processes are bound to cores on Linux only")
def test_each_rank_stays_on_its_own_cores(mpi: Mpi, tmp_path: Path) -> None:
    pytest.importorskip("threadpoolctl", reason="the threads of the BLAS can be read only with threadpoolctl")
    allowed = os.sched_getaffinity(0)
    if len(cores_of(allowed)) < 2:
        pytest.skip("two ranks on cores of their own need two cores")
    outcome = outcome_of(launch(mpi, tmp_path, PLACE, "--bind", "core"))
    assert outcome.code == 0, outcome.output
    found = re.findall(r"^place (\(.*\)) $", outcome.output, re.MULTILINE)
    (_, first, first_threads), (_, second, second_threads) = sorted(map(ast.literal_eval, found))
    assert set(first) | set(second) == allowed and not set(first) & set(second)
    assert not cores_of(set(first)) & cores_of(set(second))
    assert [first_threads, second_threads] == [len(cores_of(set(first))), len(cores_of(set(second)))]
    assert "--bind core:" in outcome.output and "rank 1: " in outcome.output


@MPIS
def test_variables_reach_every_rank(mpi: Mpi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "blue")
    script = "import os\nprint(os.environ['RANK'], os.environ['GREETING'], os.environ['COLOUR'], '\\n', end='')\n"
    options = ["--env", "GREETING=good = morning", "-x", "COLOUR"]
    outcome = outcome_of(launch(mpi, tmp_path, script, *options))
    assert outcome.code == 0, outcome.output
    for rank in range(2):
        assert f"{rank} good = morning blue" in outcome.output


# ---- starting again ------------------------------------------------------------------------------------------------

TRAIN = """
import os
import distgrad as dg
from distgrad.checkpoint import CheckpointManager

dg.manual_seed(0)
model = dg.nn.parallel.DistributedDataParallel(dg.nn.Linear(4, 2))
optimizer = dg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
manager = CheckpointManager("checkpoints")
state = manager.load()
begin = 0
if state is not None:
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    begin = state["step"]
rank, life = int(os.environ["RANK"]), os.environ.get("RESTART_COUNT", "-")
print(f"rank {rank} life {life} begins at {begin}\\n", end="", flush=True)
for step in range(begin, 5):
    dg.manual_seed(100 * step + rank)
    optimizer.zero_grad()
    model(dg.randn(3, 4)).square().sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
    manager.save(step + 1, state, blocking=True)
if rank == 0:
    print("result", [value.item().hex() for p in model.parameters() for value in p.detach().flatten()], flush=True)
"""


def result_in(outcome: Outcome) -> str:
    """What rank 0 has printed at the end of the training."""
    assert outcome.code == 0, outcome.output
    (line,) = [line for line in outcome.output.splitlines() if line.startswith("result")]
    return line


@MPIS
def test_a_job_that_was_killed_goes_on_from_its_checkpoint(mpi: Mpi, tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    expected = result_in(outcome_of(launch(mpi, undisturbed, TRAIN)))
    faults = ["--max-restarts", "2", "--chaos", "kill@rank=1,step=3,restart=0"]
    outcome = outcome_of(launch(mpi, disturbed, TRAIN, *faults, "--log-dir", "logs"))
    assert result_in(outcome) == expected
    for rank, log in enumerate(logs(disturbed)):  # which has both lives
        lives = re.findall(r"rank (\d) life (\S+) begins at (\d)", log)
        assert lives[0] == (str(rank), "0", "0")
        assert len(lives) == 2 and lives[1][:2] == (str(rank), "1") and int(lives[1][2]) in (1, 2), log
    assert "killed by SIGKILL" in outcome.output


COUNT = """
import os
import distgrad.distributed as dist
dist.barrier()
if os.environ["RANK"] == "0":
    with open("lives", "a") as file:
        print(os.environ["RESTART_COUNT"], os.environ["MAX_RESTARTS"], os.environ["TORCHELASTIC_RESTART_COUNT"],
              file=file)
dist.barrier()
"""


@MPIS
def test_a_job_that_always_fails_is_started_so_often_and_ends_with_its_status(mpi: Mpi, tmp_path: Path) -> None:
    script = f"{COUNT}\nif os.environ['RANK'] == '1': raise SystemExit(7)\ndist.barrier()\n"
    outcome = outcome_of(launch(mpi, tmp_path, script, "--max-restarts", "1"))
    assert outcome.code == 7, outcome.output
    assert (tmp_path / "lives").read_text() == "0 1 0\n1 1 1\n"


@MPIS
def test_a_usage_error_is_not_tried_again(mpi: Mpi, tmp_path: Path) -> None:
    """argparse in the script ends with status 2, on all ranks, and would do so for ever."""
    script = f"{COUNT}\nimport argparse\nargparse.ArgumentParser().parse_args(['--unknown'])\n"
    outcome = outcome_of(launch(mpi, tmp_path, script, "--max-restarts", "2"))
    assert outcome.code == 2, outcome.output
    assert (tmp_path / "lives").read_text() == "0 2 0\n"


@MPIS
def test_ctrl_c_is_not_tried_again(mpi: Mpi, tmp_path: Path) -> None:
    script = f"{COUNT}\nimport time\nprint('running', flush=True)\ntime.sleep(60)\n"
    job = launch(mpi, tmp_path, script, "--max-restarts", "2")
    job.await_output("running")
    os.killpg(job.process.pid, signal.SIGINT)
    outcome = outcome_of(job)
    assert outcome.code == 130, outcome.output
    assert (tmp_path / "lives").read_text() == "0 2 0\n"
