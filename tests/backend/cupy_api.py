"""What CuPy 14.2 has: names, kinds and arguments, as the stand-in `fake_cupy` lets them through.

`cupy_api.txt` holds one line for each name, ``name|kind|arguments|dtypes``: for a ufunc the arguments are the numbers
of inputs and outputs, and `dtypes` the characters of the types that its first input can have. It was written from CuPy
14.2.0 by `describe`, which a test compares with CuPy where that is installed (no GPU is needed); the arguments of
methods, which Python cannot ask for, were read in CuPy's source.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("cupy_api.txt")


class Entry(NamedTuple):
    """One name. `arguments` ends with ``*`` where any number may follow."""

    kind: str
    arguments: tuple[str, ...]
    dtypes: str = ""


def read() -> dict[str, Entry]:
    """The names by which the stand-in goes."""
    entries = {}
    for line in FILE.read_text().splitlines():
        name, kind, arguments, dtypes = line.split("|")
        entries[name] = Entry(kind, tuple(arguments.split(",")) if arguments else (), dtypes)
    return entries


def describe(cupy: Any, special: Any) -> Iterator[tuple[str, Entry | None]]:
    """The same of the modules as they are; None for the arguments of what cannot be asked."""
    for prefix, module in (("", cupy), ("linalg.", cupy.linalg), ("special.", special)):
        for name in sorted(n for n in dir(module) if not n.startswith("_")):
            yield prefix + name, _entry(getattr(module, name), cupy)
    yield "lib.stride_tricks.as_strided", _entry(cupy.lib.stride_tricks.as_strided, cupy)
    for name in sorted(dir(cupy.ndarray)):
        yield f"ndarray.{name}", None


def _entry(value: Any, cupy: Any) -> Entry | None:
    if isinstance(value, cupy.ufunc):
        return Entry("ufunc", (str(value.nin), str(value.nout)), "".join(dict.fromkeys(t[0] for t in value.types)))
    if isinstance(value, (type, ModuleType)) or not callable(value):
        return Entry("other", ())
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    return Entry("function", tuple("*" if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) else p.name for p in parameters))
