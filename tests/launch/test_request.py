"""The command line: what is read, and what a mistake is answered with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from distgrad.errors import LaunchError
from distgrad.launch._request import parse
from tests.jobs import ROOT, clean_environment

SCRIPT = str(Path(__file__).parent / "faults.py")


def test_everything_after_the_script_is_the_scripts() -> None:
    request = parse(["-n", "4", "--tag-output", SCRIPT, "--lr", "0.1", "-n", "7", "--", "--help"])
    assert (request.nproc, request.tag_output, request.script) == (4, True, SCRIPT)
    assert request.arguments == ["--lr", "0.1", "-n", "7", "--", "--help"]


def test_options_of_the_job() -> None:
    request = parse(["-n", "8", "--hosts", "a:4,b:4", "--timeout", "60", "--stall-warn", "2.5", "-m", "package.train"])
    assert (request.hosts, request.timeout, request.stall_warn) == ("a:4,b:4", 60.0, 2.5)
    assert request.is_module and request.script == "package.train"


@pytest.mark.parametrize(
    ("argv", "starts"),
    [
        ([SCRIPT], False),
        (["-n", "1", SCRIPT], False),
        (["-n", "2", SCRIPT], True),
        (["-n", "1", "--hosts", "b", SCRIPT], True),
    ],
)
def test_one_process_needs_no_mpirun(argv: list[str], starts: bool) -> None:
    assert parse(argv).starts_a_job == starts


MISTAKES = {
    "zero": (["-n", "0", SCRIPT], r"expected a whole number of ranks, 1 or more, got '0'"),
    "negative": (["-n", "-4", SCRIPT], r"expected a whole number of ranks, 1 or more, got '-4'"),
    "fraction": (["-n", "1.5", SCRIPT], r"expected a whole number of ranks, 1 or more, got '1\.5'"),
    "word": (["-n", "four", SCRIPT], r"expected a whole number of ranks, 1 or more, got 'four'"),
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
    "hosts alone": (["--hosts", "a,b", SCRIPT], r"expected -n N with --hosts"),
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
