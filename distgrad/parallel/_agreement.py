"""Making the models of all ranks one: they must be built alike, and they start from the values of rank 0."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .._typing import Array
from ..backend import backend_of
from ..comm import Communicator
from ..errors import CollectiveMismatchError
from ..nn import Module

PACKED_BYTES = 25 << 20  # what is broadcast at once
_ALIGNMENT = 16  # bytes; enough for every dtype
_SHOWN = 8  # differences that an error lists


class Entry(NamedTuple):
    """What ranks must agree on about one parameter or buffer."""

    kind: str
    name: str
    form: str  # dtype, shape and whether it is trained


def check_models_agree(communicator: Communicator, module: Module) -> None:
    """Compares names, dtypes and shapes of all parameters and buffers. A collective call.

    Raises:
        CollectiveMismatchError: on every rank, naming what differs on which rank.
    """
    models = communicator.all_gather_object(describe(module))
    problems = list(differences(models))
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = "\n  ".join(problems[:_SHOWN] + more)
        raise CollectiveMismatchError(
            f"DistributedDataParallel: expected the same model on each of {communicator.size} ranks, got:\n  {lines}\n"
            "Build it from the same settings on every rank, and in the same order"
        )


def describe(module: Module) -> list[Entry]:
    """What this rank has to agree with the others on."""
    parameters = [
        Entry("parameter", name, f"{p.dtype} {list(p.shape)}{'' if p.requires_grad else ', frozen'}")
        for name, p in module.named_parameters()
    ]
    return parameters + [Entry("buffer", name, f"{b.dtype} {list(b.shape)}") for name, b in module.named_buffers()]


def differences(models: list[list[Entry]]) -> Iterator[str]:
    """One line for each entry that is not the same on all ranks, compared with the first that has it."""
    forms = [{(entry.kind, entry.name): entry.form for entry in model} for model in models]
    for kind, name in dict.fromkeys(key for form in forms for key in form):
        found = [form.get((kind, name), "missing") for form in forms]
        if len(set(found)) > 1:
            first_with = {text: rank for rank, text in reversed(list(enumerate(found)))}
            yield f"{kind} {name!r}: " + "; ".join(f"{t} on rank {r}" for t, r in sorted(first_with.items(), key=_rank))
    if all(form == forms[0] for form in forms):
        for rank, model in enumerate(models):
            place = next((i for i, (a, b) in enumerate(zip(models[0], model, strict=True)) if a != b), None)
            if place is not None:
                yield f"place {place}: {models[0][place].name!r} on rank 0; {model[place].name!r} on rank {rank}"


def _rank(item: tuple[str, int]) -> int:
    return item[1]


def broadcast_arrays(communicator: Communicator, arrays: Iterable[Array], root: int = 0) -> None:
    """Copies the values of one rank into the arrays of all ranks, many at once. A collective call.

    Args:
        communicator: the ranks.
        arrays: of any shapes and dtypes, the same on every rank.
        root: whose values.
    """
    for group in _groups(arrays):
        starts, size = [], 0
        for array in group:
            starts.append(size)
            size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        packed = backend_of(group[0]).xp.zeros(size, "uint8")
        views = [
            packed[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
            for start, array in zip(starts, group, strict=True)
        ]
        if communicator.rank == root:
            _copy_all(group, views)
        communicator.broadcast(packed, root)
        if communicator.rank != root:
            _copy_all(views, group)


def _copy_all(sources: list[Array], targets: list[Array]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target[...] = source


def _groups(arrays: Iterable[Array]) -> Iterator[list[Array]]:
    """The arrays that have elements, in groups of one device and of about `PACKED_BYTES`."""
    group: list[Array] = []
    size = 0
    for array in arrays:
        if array.size == 0:
            continue
        if group and (size + array.nbytes > PACKED_BYTES or _place(array) != _place(group[0])):
            yield group
            group, size = [], 0
        group.append(array)
        size += array.nbytes
    if group:
        yield group


def _place(array: Array) -> Any:
    return backend_of(array).device_of(array)
