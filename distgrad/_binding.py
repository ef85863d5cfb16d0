"""Which cores each rank of a node is to stay on: arithmetic on what the system says about its cores.

`_environment` applies it before NumPy loads, because a BLAS creates its threads where the process may then run.
"""

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

POLICIES = ("none", "core", "socket", "numa", "auto")

_Item = TypeVar("_Item")


class Cpu(NamedTuple):
    """One logical CPU of this node and where it sits."""

    number: int
    core: tuple[int, int]  # socket and core; hyperthreads of one core have the same
    socket: int
    numa: int


class Binding(NamedTuple):
    """Where one rank stays."""

    policy: str
    cpus: frozenset[int]
    cores: int  # physical cores in `cpus`


def choose(policy: str, cpus: Sequence[Cpu], local_rank: int, local_size: int) -> Binding | None:
    """The place of one rank among those of its node; None where it may run anywhere.

    Args:
        policy: "core" gives each rank its own cores, "socket" and "numa" its part of the sockets or memory domains,
            shared by the ranks that get the same; "auto" its own cores within one memory domain where that is
            possible, and nothing where there are more ranks than cores.
        cpus: what the ranks of the node may use together.
    """
    cores = len({cpu.core for cpu in cpus})
    if policy == "none" or not cpus or (policy == "auto" and cores < local_size):
        return None
    if policy == "auto":
        domain = [[cpu for cpu in cpus if cpu.numa == numa] for numa in sorted({cpu.numa for cpu in cpus})]
        ranks = [_share(range(len(domain)), rank, local_size) for rank in range(local_size)]
        mine = ranks[local_rank]
        cpus = [cpu for index in mine for cpu in domain[index]]
        together = [rank for rank in range(local_size) if ranks[rank] == mine]
        local_rank, local_size = together.index(local_rank), len(together)
    place = {"socket": _by_socket, "numa": _by_numa}.get(policy, _by_core)
    wanted = _share(sorted({place(cpu) for cpu in cpus}), local_rank, local_size)
    chosen = [cpu for cpu in cpus if place(cpu) in wanted]
    return Binding(policy, frozenset(cpu.number for cpu in chosen), len({cpu.core for cpu in chosen}))


def _by_core(cpu: Cpu) -> tuple[int, ...]:
    return (cpu.numa, *cpu.core)


def _by_socket(cpu: Cpu) -> tuple[int, ...]:
    return (cpu.socket,)


def _by_numa(cpu: Cpu) -> tuple[int, ...]:
    return (cpu.numa,)


def _share(items: Sequence[_Item], rank: int, size: int) -> Sequence[_Item]:
    """This rank's part of the items in one piece; where there are fewer items than ranks, neighbours share one."""
    first, last = rank * len(items) // size, (rank + 1) * len(items) // size
    return items[first : max(last, first + 1)]


def read_cpus(allowed: Iterable[int], root: str = "/sys/devices/system") -> list[Cpu]:
    """The logical CPUs of these numbers; where the system says nothing, each is a core of one socket."""
    numa = {number: domain for domain, numbers in _domains(f"{root}/node") for number in numbers}
    found = []
    for number in sorted(allowed):
        topology = f"{root}/cpu/cpu{number}/topology"
        socket = max(0, _number(f"{topology}/physical_package_id", 0))
        found.append(Cpu(number, (socket, _number(f"{topology}/core_id", number)), socket, numa.get(number, 0)))
    return found


def _domains(folder: str) -> list[tuple[int, list[int]]]:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = [int(name[4:]) for name in names if re.fullmatch(r"node\d+", name)]
    return [(domain, parse_list(_read(f"{folder}/node{domain}/cpulist"))) for domain in found]


def _number(file: str, default: int) -> int:
    text = _read(file)
    return int(text) if re.fullmatch(r"-?\d+", text) else default


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def parse_list(text: str) -> list[int]:
    """Numbers from Linux's short form: "0-2,8" is [0, 1, 2, 8]."""
    ranges = [part.partition("-") for part in text.split(",") if part]
    return [number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)]


def short_list(numbers: Iterable[int]) -> str:
    """The reverse of `parse_list`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
