"""Tables of plain text."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns side by side, each as wide as its longest entry.

    Args:
        head: the names of the columns.
        rows: the entries, as many in each row as there are columns.
        left: how many columns, from the first, are aligned to the left; numbers are aligned to the right.
    """
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines)


def size_text(nbytes: float) -> str:
    """A number of bytes as people say it: 25 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.4g} GiB"


def time_text(seconds: float) -> str:
    """A time with a unit in which it has one to three digits before the point."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def ranks_text(ranks: int) -> str:
    """1 rank, 2 ranks."""
    return "1 rank" if ranks == 1 else f"{ranks} ranks"


def parse_size(text: str) -> int:
    """A number of bytes from "4K", "25M", "1G" or "4096".

    Raises:
        ValueError: the text is none of these.
    """
    number, factor = text.strip().upper().removesuffix("IB").removesuffix("B"), 1
    for suffix, power in (("K", 1), ("M", 2), ("G", 3)):
        if number.endswith(suffix):
            number, factor = number.removesuffix(suffix), 1024**power
    value = float(number) * factor
    if value < 1:
        raise ValueError(f"expected a size of 1 byte or more, got {text!r}")
    return round(value)
