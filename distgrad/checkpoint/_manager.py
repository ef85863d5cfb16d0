"""Checkpoints while training goes on: every rank writes a part, in the background, and the manifest comes last."""

import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .._tensor import Tensor
from .._version import __version__
from ..comm import Communicator, get_default
from ..errors import CheckpointError
from ._atomic import atomic_write
from ._checkpoint import load, save
from ._location import MapLocation

MANIFEST = "manifest.json"
_POLL = 0.01  # seconds between two looks for the parts of other ranks
_NAME = re.compile(r"step-(\d+)")


class _Leaf(NamedTuple):
    """A tensor in a nested state: its number, in the order of the state."""

    number: int
    tensor: Tensor


class CheckpointManager:
    """A directory of checkpoints, of which the newest complete one is found again after whatever has happened.

    Making one is a collective call. All ranks save the same state, each a part of it, into a directory that all can
    write. `save` copies this rank's part and returns; a thread writes it. A checkpoint counts when its manifest is
    there, which is written when all parts are on the disk; so a job that is killed at any moment leaves the one before.
    A checkpoint may be loaded with any number of ranks.

    Args:
        directory: is made where it does not exist.
        keep: how many complete checkpoints are kept; None keeps all.
        timeout: seconds that the first rank waits for the parts of the others, before it gives a checkpoint up.
        process_group: the ranks; all by default.

    Example:
        >>> manager = CheckpointManager("checkpoints", keep=3)
        >>> state = manager.load()                       # None in a fresh directory
        >>> if state is not None:
        ...     model.load_state_dict(state["model"])
        >>> manager.save(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep: int | None = 3,
        timeout: float = 600.0,
        process_group: Communicator | None = None,
    ) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"CheckpointManager: expected to keep 1 or more checkpoints, got keep={keep}")
        self.directory = Path(directory)
        self.keep = keep
        self.timeout = timeout
        group = get_default() if process_group is None else process_group
        self._group = group
        self._rank, self._ranks = group.rank, group.size
        self._run = group.broadcast_object(secrets.token_hex(4))  # tells parts from those of a run that broke off
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    # ---- saving ------------------------------------------------------------------------------------------------

    def save(self, step: int, state: Any, blocking: bool = False) -> None:
        """Begins to save the state after a step; the state may change as soon as this returns.

        Waits for the checkpoint before, if that is still being written.

        Args:
            step: the number of the checkpoint; later ones are newer.
            state: nested dicts and lists of tensors and plain values, the same on every rank.
            blocking: return when the checkpoint is complete.

        Raises:
            CheckpointError: this one, if `blocking`, or the one before could not be written.
        """
        self.wait()
        self._rank, self._ranks = self._group.rank, self._group.size  # of an elastic group, they change
        leaves: list[_Leaf] = []
        skeleton = _without_tensors(state, leaves)
        mine = {str(leaf.number): leaf.tensor.detach().cpu().clone() for leaf in self._share(leaves)}
        part = {"tensors": mine, "state": skeleton if self._rank == 0 else None}
        self._thread = threading.Thread(target=self._write, args=(step, part), name="distgrad-checkpoint")
        self._thread.start()  # no daemon: a program that ends waits for its last checkpoint
        if blocking:
            self.wait()

    def wait(self) -> None:
        """Returns when this rank has nothing more to write.

        Raises:
            CheckpointError: the last checkpoint could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise CheckpointError(f"the last checkpoint in {str(self.directory)!r} was not written: {error}") from error

    def _share(self, leaves: list[_Leaf]) -> Iterator[_Leaf]:
        """The tensors that this rank writes: each goes to the rank that has least, the same on all ranks."""
        loads = [0] * self._ranks
        for leaf in sorted(leaves, key=lambda leaf: (-leaf.tensor.nbytes, leaf.number)):
            rank = loads.index(min(loads))
            loads[rank] += leaf.tensor.nbytes + 1
            if rank == self._rank:
                yield leaf

    def _write(self, step: int, part: dict[str, Any]) -> None:
        try:
            folder = self._folder(step)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST).unlink(missing_ok=True)
            save(part, folder / self._part(self._rank))
            if self._rank == 0:
                self._complete(folder, step)
        except Exception as error:  # shown by the next call, in the thread that trains
            self._error = error

    def _complete(self, folder: Path, step: int) -> None:
        names = [self._part(rank) for rank in range(self._ranks)]
        deadline = time.monotonic() + self.timeout
        while missing := [name for name in names if not (folder / name).exists()]:
            if self._group.size != len(names):
                return  # a rank has died while it wrote; the checkpoint before stays the newest
            if time.monotonic() > deadline:
                raise CheckpointError(
                    f"expected all parts of {str(folder)!r} within {self.timeout:g} s, got none of "
                    f"{', '.join(missing)}; every rank has to save, into a directory that all ranks share"
                )
            time.sleep(_POLL)
        sizes = {name: (folder / name).stat().st_size for name in names}
        with atomic_write(folder / MANIFEST) as file:
            file.write(json.dumps({"step": step, "distgrad": __version__, "parts": sizes}, indent=1).encode())
        for path in set(folder.glob("part-*")) - {folder / name for name in names}:
            path.unlink()
        if self.keep is not None:
            for old in self.steps()[: -self.keep]:
                shutil.rmtree(self._folder(old), ignore_errors=True)

    # ---- loading -----------------------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """The numbers of the complete checkpoints, the newest last."""
        found = (_NAME.fullmatch(path.parent.name) for path in self.directory.glob(f"step-*/{MANIFEST}"))
        return sorted(int(match[1]) for match in found if match)

    def latest(self) -> int | None:
        """The number of the newest complete checkpoint; None where there is none."""
        return max(self.steps(), default=None)

    def load(self, step: int | None = None, map_location: MapLocation = None) -> Any:
        """The state of a checkpoint, whatever number of ranks wrote it.

        Args:
            step: which; the newest complete one by default.
            map_location: as in `distgrad.load`.

        Returns:
            the state; None where no step is given and there is no checkpoint.

        Raises:
            CheckpointError: there is no such checkpoint, or a part of it is missing or damaged.
        """
        chosen = self.latest() if step is None else step
        if chosen is None:
            return None
        folder = self._folder(chosen)
        if chosen not in self.steps():
            known = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(f"expected a complete checkpoint {str(folder)!r}, got those of steps: {known}")
        manifest = json.loads((folder / MANIFEST).read_text())
        skeleton: Any = None
        tensors: dict[int, Tensor] = {}
        for number, (name, size) in enumerate(manifest["parts"].items()):
            part = self._load_part(folder / name, size, map_location)
            tensors.update((int(key), tensor) for key, tensor in part["tensors"].items())
            if number == 0:
                skeleton = part["state"]
        return _with_tensors(skeleton, tensors)

    def _load_part(self, path: Path, size: int, map_location: MapLocation) -> Any:
        found = path.stat().st_size if path.exists() else 0
        if found != size:
            raise CheckpointError(
                f"expected {size:,} bytes in {str(path)!r}, as its manifest says, got {found:,}; load another "
                f"checkpoint, of steps {self.steps()}"
            )
        return load(path, map_location)

    def _folder(self, step: int) -> Path:
        return self.directory / f"step-{step:010d}"

    def _part(self, rank: int) -> str:
        return f"part-{rank:05d}-of-{self._ranks:05d}-{self._run}.dg"


_TENSOR = "distgrad.tensor"  # the key of the dict that stands for a tensor in a skeleton


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    """Nested dicts, lists and tuples with `function` of everything else."""
    if isinstance(value, dict) and _TENSOR not in value:
        return {key: _map(item, function) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map(item, function) for item in value)
    return function(value)


def _without_tensors(state: Any, leaves: list[_Leaf]) -> Any:
    def stand_in(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        leaves.append(_Leaf(len(leaves), value))
        return {_TENSOR: len(leaves) - 1}

    return _map(state, stand_in)


def _with_tensors(skeleton: Any, tensors: dict[int, Tensor]) -> Any:
    return _map(skeleton, lambda v: tensors[v[_TENSOR]] if isinstance(v, dict) and _TENSOR in v else v)
