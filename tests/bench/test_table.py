"""Text of tables, sizes and times."""

import pytest

from distgrad.bench._table import parse_size, ranks_text, size_text, table, time_text


def test_columns_are_as_wide_as_their_longest_entry() -> None:
    assert table(["by", "ms"], [["shm", "1.5"], ["a", "10.25"]]).splitlines() == [
        "by      ms",
        "---  -----",
        "shm    1.5",
        "a    10.25",
    ]


@pytest.mark.parametrize(
    ("text", "nbytes"), [("4K", 4096), ("25M", 26214400), ("1g", 1 << 30), ("100", 100), ("1.5KiB", 1536)]
)
def test_sizes_are_read(text: str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["0", "-1K", "many"])
def test_nonsense_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def test_sizes_and_times_have_fitting_units() -> None:
    assert [size_text(n) for n in (100, 4096, 25 << 20, 1 << 31)] == ["100 B", "4 KiB", "25 MiB", "2 GiB"]
    assert [time_text(t) for t in (1.5e-6, 0.0123, 2.0)] == ["1.5 us", "12.3 ms", "2 s"]
    assert (ranks_text(1), ranks_text(4)) == ("1 rank", "4 ranks")
