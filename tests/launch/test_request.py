"""The command line: what is read, and what a mistake is answered with."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distgrad.errors import LaunchError
from distgrad.launch import _env
from distgrad.launch._hosts import Host
from distgrad.launch._request import Request, parse
from tests.jobs import ROOT, clean_environment

SCRIPT = str(Path(__file__).parent / "faults.py")


def test_everything_after_the_script_is_the_scripts() -> None:
    request = parse(["-n", "4", "--tag-output", SCRIPT, "--lr", "0.1", "-n", "7", "--", "--help"])
    assert (request.nproc, request.tag_output, request.script) == (4, True, SCRIPT)
    assert request.arguments == ["--lr", "0.1", "-n", "7", "--", "--help"]


def test_options_of_the_job() -> None:
    request = parse(["-n", "8", "--hosts", "a:4,b:4", "--timeout", "60", "--stall-warn", "2.5", "-m", "package.train"])
    assert (request.hosts, request.timeout, request.stall_warn) == ((Host("a", 4), Host("b", 4)), 60.0, 2.5)
    assert request.is_module and request.script == "package.train"


@pytest.mark.parametrize(
    ("argv", "starts"),
    [
        ([SCRIPT], False),
        (["-n", "1", SCRIPT], False),
        (["-n", "2", SCRIPT], True),
        (["-n", "1", "--elastic", "--spares", "1", SCRIPT], True),
        (["--elastic", "--spares", "1", "--inbox", "here", SCRIPT], False),
        (["-n", "1", "--hosts", "b", SCRIPT], True),
    ],
)
def test_one_process_needs_no_mpirun(argv: list[str], starts: bool) -> None:
    assert parse(argv).starts_a_job == starts


MISTAKES = {
    "zero": (["-n", "0", SCRIPT], r"expected a whole number of ranks, 1 or more, or `auto`, got '0'"),
    "negative": (["-n", "-4", SCRIPT], r"expected a whole number of ranks, 1 or more, or `auto`, got '-4'"),
    "fraction": (["-n", "1.5", SCRIPT], r"expected a whole number of ranks, 1 or more, or `auto`, got '1\.5'"),
    "word": (["-n", "four", SCRIPT], r"expected a whole number of ranks, 1 or more, or `auto`, got 'four'"),
    "no number": (["-n"], r"-n.*expected one argument"),
    "no script": (["-n", "4"], r"expected a script to run, got none; write `python -m distgrad\.launch"),
    "missing script": (["nowhere.py"], r"expected a script, but 'nowhere\.py' does not exist in "),
    "number for script": (["4", SCRIPT], r"'4' does not exist.*did you mean `-n N`"),
    "directory": ([str(ROOT / "tests")], r"got the directory .* no __main__\.py"),
    "unknown option": (["--fast", SCRIPT], r"unrecognized arguments: --fast"),
    "abbreviation": (["--tag", SCRIPT], r"unrecognized arguments: --tag"),
    "timeout zero": (["--timeout", "0", SCRIPT], r"expected a positive number of seconds, got '0'"),
    "timeout word": (["--timeout", "long", SCRIPT], r"expected a positive number of seconds, got 'long'"),
    "stall infinite": (["--stall-warn", "inf", SCRIPT], r"expected a positive number of seconds, got 'inf'"),
    "hosts without numbers": (["--hosts", "a:2,b", SCRIPT], r"expected -n N with --hosts .*\('b'\).* or --hosts b:N"),
    "elastic on hosts": (
        ["--elastic", "--hosts", "a:2,b:2", SCRIPT],
        r"expected --elastic on one machine, got --hosts",
    ),
    "spares alone": (["-n", "2", "--spares", "1", SCRIPT], r"expected --spares with --elastic, got it alone"),
    "spares of nothing": (["--elastic", "--spares", "1", SCRIPT], r"expected --spares with -n N, got no -n"),
    "spares word": (["-n", "2", "--elastic", "--spares", "x", SCRIPT], r"expected a whole number of spare ranks"),
    "hosts and hostfile": (["--hosts", "a", "--hostfile", "b", SCRIPT], r"expected --hosts or --hostfile, got both"),
    "too few places": (["-n", "9", "--hosts", "a:4,b:4", SCRIPT], r"expected at most -n 8 on 2 hosts .*, got -n 9"),
    "host without a name": (["--hosts", "a:4,:4", SCRIPT], r"expected HOST or HOST:N .*, got ':4' in --hosts 'a:4,:4'"),
    "host with a word": (["--hosts", "a:four", SCRIPT], r"expected HOST or HOST:N .*, got 'a:four'"),
    "host without places": (["--hosts", "a:0", SCRIPT], r"expected HOST or HOST:N .*, got 'a:0'"),
    "bind word": (["-n", "2", "--bind", "cores", SCRIPT], r"--bind: invalid choice: 'cores'.*'core', 'socket'"),
    "bind alone": (["--bind", "core", SCRIPT], r"expected -n N with --bind core, got no -n.*DISTGRAD_BIND=core"),
    "env without a name": (["-x", "=3", SCRIPT], r"expected --env NAME or --env NAME=VALUE, got '=3'"),
    "env not set": (["-x", "NOT_SET_HERE", SCRIPT], r"expected --env NOT_SET_HERE to be set.*NOT_SET_HERE=VALUE"),
    "restarts": (["--max-restarts", "-1", SCRIPT], r"expected a whole number of restarts, 0 or more, got '-1'"),
    "log file": (["--log-dir", SCRIPT, SCRIPT], r"expected a directory for --log-dir, got the file .*faults\.py"),
    "two numbers": (["-n", "2", "--nproc-per-node", "2", SCRIPT], r"expected -n N or --nproc-per-node N, got both"),
    "nodes": (["--nnodes", "2", SCRIPT], r"expected 1 \(name several hosts with --hosts a:4,b:4\), got '2'"),
    "missing hostfile": (["-n", "2", "--hostfile", "nowhere", SCRIPT], r"expected a host file, but 'nowhere' does not"),
}


@pytest.mark.parametrize(("argv", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        parse(argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-n", "0", SCRIPT], r"got '0'"),
        (["nowhere.py"], r"does not exist"),
        (["-m", "nowhere.at.all"], r"no module named 'nowhere\.at\.all'"),
    ],
)
def test_a_mistake_ends_with_status_2_and_no_traceback(argv: list[str], message: str) -> None:
    command = [sys.executable, "-m", "distgrad.launch", *argv]
    result = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert re.search(rf"^distgrad\.launch: error: .*{message}", result.stderr)
    assert "Traceback" not in result.stderr


def test_help_shows_an_example() -> None:
    command = [sys.executable, "-m", "distgrad.launch", "--help"]
    result = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert "mpirun -n 4 python -m distgrad.launch train.py" in result.stdout
    assert "report-dir" not in result.stdout


SCHEDULERS = ("SLURM_JOB_ID", "PBS_NODEFILE", "LSB_DJOB_HOSTFILE", "LSB_MCPU_HOSTS", "PE_HOSTFILE")
NODES = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "4(x2)"}


def parse_in(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], *argv: str) -> Request:
    """What these arguments mean where a scheduler has set these variables."""
    for name in SCHEDULERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return parse([*argv, SCRIPT])


@pytest.mark.parametrize(
    ("argv", "environ", "places"),
    [
        (["--hosts", "a:2,b:1"], {}, (3, "a:2 b:1")),
        (["-n", "5", "--hosts", "a,b"], {}, (5, "a b")),
        (["-n", "2", "--hosts", "a:4,b:4"], {}, (2, "a:4 b:4")),
        (["--nproc-per-node", "3", "--standalone"], {}, (3, "")),
        (["--nproc_per_node", "3", "--nnodes", "1"], {}, (3, "")),
        (["--nproc-per-node", "3", "--hosts", "a,b"], {}, (6, "a:3 b:3")),
        (["--nproc-per-node", "3"], NODES, (6, "n1:3 n2:3")),
        (["-n", "auto"], NODES, (8, "n1:4 n2:4")),
        (["-n", "6"], NODES, (6, "n1:4 n2:4")),
        (["-n", "auto"], {**NODES, "SLURM_JOB_NODELIST": "n1"}, (4, "")),  # one node is here
        ([], NODES, (None, "")),
        (["-n", "1"], NODES, (1, "n1:4 n2:4")),
    ],
)
def test_places(
    argv: list[str], environ: dict[str, str], places: tuple[int | None, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = parse_in(monkeypatch, environ, *argv)
    assert (request.nproc, " ".join(map(str, request.hosts))) == places


def test_auto_is_one_rank_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_in(monkeypatch, {}, "-n", "auto").nproc == len(os.sched_getaffinity(0))


def test_variables_for_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "x=y")
    assert parse(["-x", "FROM_HERE", "--env", "LR=a=b", "--env", "EMPTY=", SCRIPT]).env == (
        ("FROM_HERE", "x=y"),
        ("LR", "a=b"),
        ("EMPTY", ""),
    )


def test_one_process_in_an_allocation_for_several_is_mentioned(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('ran')\n")
    for options, mentioned in (([], True), (["-n", "1"], False)):
        command = [sys.executable, "-m", "distgrad.launch", *options, str(script)]
        environment = {**clean_environment(), **NODES, "SLURM_JOB_NODELIST": "n1"}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout) == (0, "ran\n")
        assert ("this Slurm job has room for 4 ranks on 1 nodes; write -n auto" in result.stderr) == mentioned


def test_auto_starts_no_more_ranks_than_the_quota_has_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "PBS_NODEFILE", "LSB_DJOB_HOSTFILE", "LSB_MCPU_HOSTS", "PE_HOSTFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_env, "cpu_quota", lambda: 1)
    assert parse(["-n", "auto", SCRIPT]).nproc == 1
    monkeypatch.setattr(_env, "cpu_quota", lambda: sys.maxsize)
    assert parse(["-n", "auto", SCRIPT]).nproc == len(os.sched_getaffinity(0))
