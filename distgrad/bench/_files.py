"""Results in files: JSON that says what it is, and plots."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._errors import BenchError


def write(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write a result; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"distgrad.bench": kind, **content}, indent=1) + "\n")


def read(path: Path, kind: str) -> dict[str, Any]:
    """The result that a file holds.

    Raises:
        BenchError: there is no such file, or it holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"expected a file of `python -m distgrad.bench {kind}`, got {str(path)!r}: {error}") from error
    found = content.get("distgrad.bench") if isinstance(content, dict) else None
    if found != kind:
        raise BenchError(f"expected {str(path)!r} to be a result of {kind!r}, got one of {found!r}")
    result: dict[str, Any] = content
    return result


def publish(
    args: argparse.Namespace, kind: str, content: dict[str, Any], text: str, draw: Callable[[Any], None]
) -> None:
    """Write a result to `--json`, print it in words, and plot it to `--png`, unless with `--no-plot`."""
    write(args.json, kind, content)
    print(text, f"written: {args.json}", sep="\n\n", flush=True)
    if not args.no_plot:
        png = args.png or args.json.with_suffix(".png")
        plot(png, draw)
        print(f"plot: {png}", flush=True)


def plot(path: Path, draw: Callable[[Any], None], width: float = 10.0, height: float = 4.5) -> None:
    """Draw a figure and save it; what it shows should be in a file already.

    Args:
        path: a file whose ending says the format, such as .png.
        draw: fills the empty matplotlib figure that it is given.
        width: in inches.
        height: in inches.

    Raises:
        BenchError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BenchError(
            f"the plot needs matplotlib ({error}); install it with `pip install 'distgrad[bench]'`, or give --no-plot"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
