"""Lists on command lines."""

from argparse import ArgumentTypeError

import pytest

from distgrad.bench._arguments import counts, joined, names_of, numbers, sizes


def test_lists_are_read() -> None:
    assert sizes("64K,1M") == [65536, 1 << 20]
    assert counts("1,2,4") == [1, 2, 4]
    assert numbers("1,2.5") == [1.0, 2.5]
    assert names_of(["a", "b"])("b,a") == ["b", "a"]


def test_what_is_joined_is_read_again() -> None:
    assert numbers(joined([1.0, 2.5])) == [1.0, 2.5] and counts(joined([1, 16])) == [1, 16]


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (sizes, "1M,x", "sizes such as"),
        (counts, "1,0", "whole numbers"),
        (counts, "1,,2", "whole numbers"),
        (numbers, "1,-1", "positive numbers"),
        (numbers, "many", "positive numbers"),
        (names_of(["a"]), "a,c", "expected some of a, got c"),
    ],
)
def test_mistakes_are_named(read: object, text: str, words: str) -> None:
    with pytest.raises(ArgumentTypeError, match=words):
        read(text)  # type: ignore[operator]
