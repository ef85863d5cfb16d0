"""Hosts and how many ranks fit on each: from the command line, a file, or what a batch scheduler has granted."""

import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from .._environment import expand_tasks
from ..errors import LaunchError


class Host(NamedTuple):
    """One host; `slots` is the number of ranks that it has room for, None where nobody has said."""

    name: str
    slots: int | None

    def __str__(self) -> str:
        return self.name if self.slots is None else f"{self.name}:{self.slots}"


class Allocation(NamedTuple):
    """What a scheduler has granted to the job around this process."""

    scheduler: str
    hosts: tuple[Host, ...]

    @property
    def slots(self) -> int:
        """How many ranks it has room for."""
        return sum(host.slots or 1 for host in self.hosts)


def parse_hosts(text: str) -> tuple[Host, ...]:
    """Hosts from `a:4,b:4`.

    Raises:
        LaunchError: a name or a number is missing.
    """
    return tuple(_parse_host(part, f"--hosts {text!r}") for part in text.split(","))


def _parse_host(text: str, where: str) -> Host:
    matched = re.fullmatch(r"\s*([^\s:=]+)(?::(\d+))?\s*", text)
    if matched is None or matched[2] == "0":
        raise LaunchError(f"expected HOST or HOST:N with N ranks, got {text!r} in {where}")
    return Host(matched[1], int(matched[2]) if matched[2] else None)


def read_hostfile(file: str) -> tuple[Host, ...]:
    """Hosts from a file of lines `host`, `host:4` (MPICH) or `host slots=4` (Open MPI); a host may come repeatedly.

    Raises:
        LaunchError: there is no such file, it is empty, or a line is none of these.
    """
    if not Path(file).is_file():
        raise LaunchError(f"expected a host file, but {file!r} does not exist")
    lines = [line.partition("#")[0].strip() for line in Path(file).read_text().splitlines()]
    hosts = [_parse_line(line, f"line {number} of {file!r}") for number, line in enumerate(lines, 1) if line]
    if not hosts:
        raise LaunchError(f"expected hosts in {file!r}, got none; write one a line: `host slots=4` or `host:4`")
    return merge(hosts)


def _parse_line(line: str, where: str) -> Host:
    name, *options = line.split()
    host = _parse_host(name, where)
    for option in options:
        matched = re.fullmatch(r"(slots|max[-_]slots)=(\d+)", option)
        if matched is None:
            raise LaunchError(f"expected `host`, `host:4` or `host slots=4`, got {line!r} in {where}")
        if matched[1] == "slots":
            host = host._replace(slots=int(matched[2]))
    return host


def merge(hosts: Iterable[Host]) -> tuple[Host, ...]:
    """Each host once, in the order of their first mention; one that comes repeatedly has a place for each time."""
    slots: dict[str, int] = {}
    for host in hosts:
        slots[host.name] = slots.get(host.name, 0) + (1 if host.slots is None else host.slots)
    return tuple(Host(name, count) for name, count in slots.items())


def read_allocation(environ: Mapping[str, str]) -> Allocation | None:
    """The allocation that these environment variables describe: of Slurm, PBS, LSF or Grid Engine, else None."""
    if "SLURM_JOB_ID" in environ:
        return Allocation("Slurm", _slurm_hosts(environ))
    for name, scheduler in (("PBS_NODEFILE", "PBS"), ("LSB_DJOB_HOSTFILE", "LSF")):  # a line for each rank
        if name in environ:
            return Allocation(scheduler, merge(Host(line, 1) for line in _lines(environ[name])))
    if "LSB_MCPU_HOSTS" in environ:  # "a 4 b 4"
        words = environ["LSB_MCPU_HOSTS"].split()
        return Allocation("LSF", merge(map(_host_of_words, zip(words[::2], words[1::2], strict=False))))
    if "PE_HOSTFILE" in environ:  # "a 4 queue processors"
        return Allocation("Grid Engine", merge(_host_of_words(line.split()) for line in _lines(environ["PE_HOSTFILE"])))
    return None


def _host_of_words(words: Iterable[str]) -> Host:
    name, count, *_ = words
    return Host(name, int(count))


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().split("\n")[:-1]
    except OSError:
        return []  # as in a container that does not see the scheduler's files


def _slurm_hosts(environ: Mapping[str, str]) -> tuple[Host, ...]:
    names = expand_nodes(environ.get("SLURM_JOB_NODELIST", ""))
    tasks = expand_tasks(environ.get("SLURM_TASKS_PER_NODE", ""))
    tasks += [1] * len(names)  # where nothing is said
    return tuple(map(Host, names, tasks))


def expand_nodes(text: str) -> list[str]:
    """Nodes from Slurm's short form: "a[01-03,7],b" is a01, a02, a03, a7, b, as `scontrol show hostnames` has it."""
    names: list[str] = []
    for item in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        parts = re.split(r"\[([^\]]*)\]", item)  # text and ranges in turn
        choices = [_expand_range(part) if index % 2 else [part] for index, part in enumerate(parts)]
        names += ["".join(choice) for choice in itertools.product(*choices)]
    return names


def _expand_range(text: str) -> list[str]:
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += [str(n).zfill(len(first)) for n in range(int(first), int(last or first) + 1)]
    return numbers
