"""Every kind of collective as a call, and pairs of calls in which ranks disagree about one thing."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from distgrad.comm import Communicator, ReduceOp

Collective: TypeAlias = Callable[[Communicator], object]


def _root(group: Communicator, value: np.ndarray, root: int = 0) -> np.ndarray | None:
    return value if group.rank == root else None


def _objects(group: Communicator, root: int = 0) -> list[str] | None:
    return ["x"] * group.size if group.rank == root else None


CALLS: dict[str, Collective] = {
    "all_reduce": lambda group: group.all_reduce(np.zeros(6, np.float32)),
    "broadcast": lambda group: group.broadcast(np.zeros(6, np.float32)),
    "all_gather": lambda group: group.all_gather(np.zeros(6 * group.size), np.zeros(6)),
    "barrier": lambda group: group.barrier(),
    "reduce": lambda group: group.reduce(np.zeros(6, np.float32)),
    "reduce_scatter": lambda group: group.reduce_scatter(np.zeros(6), np.zeros(6 * group.size)),
    "gather": lambda group: group.gather(_root(group, np.zeros(6 * group.size)), np.zeros(6)),
    "scatter": lambda group: group.scatter(np.zeros(6), _root(group, np.zeros(6 * group.size))),
    "all_to_all": lambda group: group.all_to_all(np.zeros(6 * group.size), np.zeros(6 * group.size)),
    "broadcast_object": lambda group: group.broadcast_object("x"),
    "all_gather_object": lambda group: group.all_gather_object("x"),
    "gather_object": lambda group: group.gather_object("x"),
    "scatter_object": lambda group: group.scatter_object(_objects(group)),
    "split": lambda group: group.split(0),
    "empty": lambda group: group.empty(6, np.float32),
}


class Disagreement(NamedTuple):
    """What most ranks call, what the last one calls, and how the message names the two."""

    most: Collective
    last: Collective
    most_said: str
    last_said: str


def _kinds() -> dict[str, Disagreement]:
    """Each kind against another."""
    names = list(CALLS)
    others = dict(zip(names, names[1:] + names[:1], strict=True))
    return {
        f"{name} and {other}": Disagreement(CALLS[name], CALLS[other], f"{name}(", f"{other}(")
        for name, other in others.items()
    }


def _sized(
    name: str, said: str, other: str, call: Callable[[Communicator, int, str], object]
) -> dict[str, Disagreement]:
    """One kind with two sizes and with two dtypes; `said` and `other` are elements of 6 and of 9."""
    return {
        f"{name}: size": Disagreement(
            lambda group: call(group, 6, "float64"), lambda group: call(group, 9, "float64"), said, other
        ),
        f"{name}: dtype": Disagreement(
            lambda group: call(group, 6, "float64"), lambda group: call(group, 6, "int64"), " float64 ", " int64 "
        ),
    }


FIELDS: dict[str, Disagreement] = {
    **_sized("all_reduce", "6 float64", "9 float64", lambda group, n, kind: group.all_reduce(np.zeros(n, kind))),
    **_sized("broadcast", "6 float64", "9 float64", lambda group, n, kind: group.broadcast(np.zeros(n, kind))),
    **_sized(
        "all_gather",
        "6 float64",
        "9 float64",
        lambda group, n, kind: group.all_gather(np.zeros(n * group.size, kind), np.zeros(n, kind)),
    ),
    **_sized("reduce", "6 float64", "9 float64", lambda group, n, kind: group.reduce(np.zeros(n, kind))),
    **_sized(
        "reduce_scatter",
        " float64",
        " float64",
        lambda group, n, kind: group.reduce_scatter(np.zeros(n, kind), np.zeros(n * group.size, kind)),
    ),
    **_sized(
        "gather",
        "6 float64",
        "9 float64",
        lambda group, n, kind: group.gather(_root(group, np.zeros(n * group.size, kind)), np.zeros(n, kind)),
    ),
    **_sized(
        "scatter",
        "6 float64",
        "9 float64",
        lambda group, n, kind: group.scatter(np.zeros(n, kind), _root(group, np.zeros(n * group.size, kind))),
    ),
    **_sized(
        "all_to_all",
        " float64",
        " float64",
        lambda group, n, kind: group.all_to_all(np.zeros(n * group.size, kind), np.zeros(n * group.size, kind)),
    ),
    **_sized("empty", "6 float64", "9 float64", lambda group, n, kind: group.empty(n, kind)),
    "a large one and a small one": Disagreement(
        lambda group: group.all_reduce(np.zeros(10)),
        lambda group: group.all_reduce(np.zeros(1_000_000)),
        "80 b",
        "8,000,000 b",
    ),
    "all_reduce: op": Disagreement(
        lambda group: group.all_reduce(np.zeros(6)),
        lambda group: group.all_reduce(np.zeros(6), ReduceOp.MAX),
        "SUM",
        "MAX",
    ),
    "reduce: op": Disagreement(
        lambda group: group.reduce(np.zeros(6)), lambda group: group.reduce(np.zeros(6), op=ReduceOp.MAX), "SUM", "MAX"
    ),
    "reduce_scatter: op": Disagreement(
        lambda group: group.reduce_scatter(np.zeros(6), np.zeros(6 * group.size)),
        lambda group: group.reduce_scatter(np.zeros(6), np.zeros(6 * group.size), ReduceOp.MAX),
        "SUM",
        "MAX",
    ),
    "broadcast: root": Disagreement(
        lambda group: group.broadcast(np.zeros(6)), lambda group: group.broadcast(np.zeros(6), 1), "root 0", "root 1"
    ),
    "reduce: root": Disagreement(
        lambda group: group.reduce(np.zeros(6)), lambda group: group.reduce(np.zeros(6), 1), "root 0", "root 1"
    ),
    "gather: root": Disagreement(
        lambda group: group.gather(_root(group, np.zeros(6 * group.size)), np.zeros(6)),
        lambda group: group.gather(_root(group, np.zeros(6 * group.size), 1), np.zeros(6), 1),
        "root 0",
        "root 1",
    ),
    "scatter: root": Disagreement(
        lambda group: group.scatter(np.zeros(6), _root(group, np.zeros(6 * group.size))),
        lambda group: group.scatter(np.zeros(6), _root(group, np.zeros(6 * group.size), 1), 1),
        "root 0",
        "root 1",
    ),
    "broadcast_object: root": Disagreement(
        lambda group: group.broadcast_object("x"), lambda group: group.broadcast_object("x", 1), "root 0", "root 1"
    ),
    "gather_object: root": Disagreement(
        lambda group: group.gather_object("x"), lambda group: group.gather_object("x", 1), "root 0", "root 1"
    ),
    "scatter_object: root": Disagreement(
        lambda group: group.scatter_object(_objects(group)),
        lambda group: group.scatter_object(_objects(group, 1), 1),
        "root 0",
        "root 1",
    ),
    "one more": Disagreement(
        lambda group: group.barrier(),
        lambda group: (group.all_gather_object("x"), group.barrier()),
        "barrier()",
        "all_gather_object()",
    ),
}

DISAGREEMENTS = {**_kinds(), **FIELDS}
