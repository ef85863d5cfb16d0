"""Lists on a command line: sizes, counts and names, separated by commas."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence

from ._table import parse_size


def sizes(text: str) -> list[int]:
    """Numbers of bytes, such as "64K,1M"."""
    try:
        return [parse_size(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f'expected sizes such as "64K,1M", got {text!r}') from None


def counts(text: str) -> list[int]:
    """Whole numbers from 1 on, such as "1,2,4"."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ArgumentTypeError(f'expected whole numbers such as "1,2,4", got {text!r}')
    return [int(part) for part in parts]


def numbers(text: str) -> list[float]:
    """Positive numbers, such as "1,2.5"."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [0.0]
    if min(values) <= 0:
        raise ArgumentTypeError(f'expected positive numbers such as "1,25", got {text!r}')
    return values


def names_of(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """A reader of some of these names."""

    def names(text: str) -> list[str]:
        wrong = [part for part in text.split(",") if part not in choices]
        if wrong:
            raise ArgumentTypeError(f"expected some of {', '.join(choices)}, got {', '.join(wrong)}")
        return text.split(",")

    return names


def joined(values: Sequence[object]) -> str:
    """The text that is read as these values."""
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
