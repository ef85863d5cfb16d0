"""Which cores each rank stays on, for machines that are not here."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from distgrad._binding import Cpu, choose, parse_list, read_cpus, short_list


def machine(sockets: int, domains: int, cores: int, threads: int = 1) -> list[Cpu]:
    """`cores` in each of `domains` a socket, numbered as Linux does: all first hyperthreads before all second ones."""
    found = []
    for thread in range(threads):
        for socket in range(sockets):
            for domain in range(domains):
                for core in range(cores):
                    here = (socket, domain * cores + core)
                    found.append(Cpu(len(found), here, socket, socket * domains + domain))
        assert thread < 2
    return found


def places(policy: str, cpus: Sequence[Cpu], ranks: int) -> list[str]:
    chosen = [choose(policy, cpus, rank, ranks) for rank in range(ranks)]
    return [short_list(place.cpus) if place else "anywhere" for place in chosen]


@pytest.mark.parametrize(
    ("policy", "shape", "ranks", "expected"),
    [
        ("none", (1, 1, 4), 2, ["anywhere"] * 2),
        ("core", (1, 1, 4), 2, ["0-1", "2-3"]),
        ("core", (1, 1, 4), 3, ["0", "1", "2-3"]),
        ("core", (1, 1, 2), 4, ["0", "0", "1", "1"]),  # more ranks than cores
        ("core", (1, 1, 2, 2), 2, ["0,2", "1,3"]),  # with both hyperthreads
        ("socket", (2, 2, 2), 2, ["0-3", "4-7"]),
        ("socket", (2, 2, 2), 4, ["0-3", "0-3", "4-7", "4-7"]),
        ("socket", (2, 2, 2), 1, ["0-7"]),
        ("numa", (2, 2, 2), 2, ["0-3", "4-7"]),
        ("numa", (2, 2, 2), 4, ["0-1", "2-3", "4-5", "6-7"]),
        ("auto", (2, 2, 2), 8, [str(core) for core in range(8)]),
        ("auto", (2, 1, 4), 3, ["0-1", "2-3", "4-7"]),  # no rank has cores of two domains
        ("auto", (1, 1, 2), 4, ["anywhere"] * 4),
    ],
)
def test_places(policy: str, shape: tuple[int, ...], ranks: int, expected: list[str]) -> None:
    assert places(policy, machine(*shape), ranks) == expected


@pytest.mark.parametrize("ranks", range(1, 17))
@pytest.mark.parametrize("policy", ["core", "auto"])
def test_every_core_is_used_and_none_twice(policy: str, ranks: int) -> None:
    cpus = machine(2, 2, 4, 2)
    chosen = [choose(policy, cpus, rank, ranks) for rank in range(ranks)]
    numbers = [number for place in chosen if place for number in place.cpus]
    assert sorted(numbers) == list(range(32))
    assert sum(place.cores for place in chosen if place) == 16


def test_cores_that_the_job_may_not_use_are_left_out() -> None:
    cpus = [cpu for cpu in machine(2, 1, 4) if cpu.number in (1, 2, 5, 6)]
    assert places("core", cpus, 2) == ["1-2", "5-6"]


def test_reading(tmp_path: Path) -> None:
    for number in range(4):
        topology = tmp_path / "cpu" / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{number // 2}\n")
        (topology / "core_id").write_text("7\n" if number % 2 else "-1\n")
    for domain, text in enumerate(("0,2\n", "1,3\n")):
        (tmp_path / "node" / f"node{domain}").mkdir(parents=True)
        (tmp_path / "node" / f"node{domain}" / "cpulist").write_text(text)
    assert read_cpus({1, 2}, str(tmp_path)) == [Cpu(1, (0, 7), 0, 1), Cpu(2, (1, -1), 1, 0)]


def test_where_nothing_is_said_each_cpu_is_a_core(tmp_path: Path) -> None:
    assert read_cpus([3, 5], str(tmp_path)) == [Cpu(3, (0, 3), 0, 0), Cpu(5, (0, 5), 0, 0)]


@pytest.mark.parametrize("text", ["0-3", "0,2,4-6", "7", ""])
def test_short_lists(text: str) -> None:
    assert short_list(parse_list(text)) == text
