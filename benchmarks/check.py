"""Has a workload become slower? Compares a result of `benchmarks/steps.py` with the last recorded one.

    python benchmarks/check.py results/steps.json            with benchmarks/recorded/steps.json
    python benchmarks/check.py new.json old.json --tolerance 0.05

Times of two days cannot be compared, but ratios of pairs can: distgrad's time over that of a fixed NumPy program (the
yardstick), and over torch's where both results have it. A workload counts as slower where a ratio has grown by more
than the tolerance and the confidence intervals of old and new lie apart, in all ratios that both results have.
Exit status: 0 nothing is slower, 1 something is, 2 the two cannot be compared.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distgrad.bench import BenchError, _files
from distgrad.bench._table import table

RECORDED = Path(__file__).resolve().parent / "recorded" / "steps.json"
REFERENCES = ("yardstick", "torch")


class Change(NamedTuple):
    """How a ratio has changed.

    Args:
        workload: by name.
        reference: what distgrad's time is divided by.
        factor: the new ratio over the old one; above 1 is slower.
        apart: whether the confidence intervals do not touch.
    """

    workload: str
    reference: str
    factor: float
    apart: bool


def incomparable(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """Why two results say nothing about each other; None if they do."""
    for name in ("ranks", "threads"):
        if old[name] != new[name]:
            return f"expected the same {name}, got {old[name]} then and {new[name]} now"
    if old["machine"]["cpu"] != new["machine"]["cpu"]:
        return f"expected the same processor, got {old['machine']['cpu']} then and {new['machine']['cpu']} now"
    libraries = [result["machine"].get("onednn") for result in (old, new)]
    if libraries[0] != libraries[1]:
        return f"expected the same oneDNN, got {libraries[0]} then and {libraries[1]} now"
    return None


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """All ratios that both results have."""
    before = {(row["workload"], row["side"]): row["ratio"] for row in old["rows"]}
    found = []
    for row in new["rows"]:
        key = (row["workload"], row["side"])
        if row["side"] in REFERENCES and key in before:
            was, now = before[key], row["ratio"]
            apart = now["low"] > was["high"] or now["high"] < was["low"]
            found.append(Change(*key, now["median"] / was["median"], apart))
    return found


def slower(found: Sequence[Change], tolerance: float) -> list[str]:
    """The workloads that have become slower, by every ratio there is of them."""
    return [
        workload
        for workload in dict.fromkeys(change.workload for change in found)
        if all(c.factor > 1 + tolerance and c.apart for c in found if c.workload == workload)
    ]


def main(argv: Sequence[str]) -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("new", type=Path)
    parser.add_argument("old", type=Path, nargs="?", default=RECORDED)
    parser.add_argument("--tolerance", type=float, default=0.1, help="a growth that is no regression")
    args = parser.parse_args(argv)
    try:
        old, new = _files.read(args.old, "steps"), _files.read(args.new, "steps")
    except BenchError as error:
        print(f"check: error: {error}", file=sys.stderr)
        return 2
    problem = incomparable(old, new)
    found = changes(old, new)
    if problem or not found:
        print(f"check: cannot compare: {problem or 'no workload and reference are in both'}", file=sys.stderr)
        return 2
    rows = [[c.workload, c.reference, f"{c.factor:.2f}", "yes" if c.apart else "no"] for c in found]
    print(table(["workload", "over", "now / then", "intervals apart"], rows, left=2))
    worse = slower(found, args.tolerance)
    print(f"slower than recorded on {old['machine']['time']}: {', '.join(worse) or 'none'}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
