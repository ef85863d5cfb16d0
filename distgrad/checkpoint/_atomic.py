"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` only when the block has ended without an error.

    What was at `path` stays whole until then, whatever happens to the process or to the machine: the bytes are on the
    disk before the name is moved. A pipe or device is written to directly.

    Args:
        path: its directory must exist; of a symbolic link, the target is replaced.

    Raises:
        FileNotFoundError: the directory does not exist.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with open(target, "wb") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        file = open(temporary, "xb")  # noqa: SIM115 - closed below, before it gets its name
    except FileNotFoundError:
        raise FileNotFoundError(
            f"cannot save {os.fspath(path)!r}: the directory {str(target.parent)!r} does not exist"
        ) from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Brings the new name to the disk as well."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
