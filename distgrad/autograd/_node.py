"""Nodes of the graph. A node is also the context (`ctx`) in which its operation runs forward and backward."""

from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar

from .._typing import Array
from ._mode import intercepts, mode

_sequence = count(1)
next_sequence: Callable[[], int] = _sequence.__next__

# What an edge can point to; the engine looks at `kind` instead of asking for classes.
NODE, OUTPUT, LEAF = range(3)


class Node:
    """One recorded operation.

    Attributes:
        op: the `Op` class.
        backend: the backend of its arrays; `ctx.xp` is its array module, `ctx.kernels` its kernels.
        params: the arguments that are no tensors, as `forward` received them.
        needs: for each input, whether its gradient is wanted.
        shapes: the inputs' shapes.
        cache: what forward kept and backward can compute again from inputs and outputs (None in graph mode).
        aux: what forward kept and is not differentiable: masks, indices, counts.
        edges: for each input, what its gradient flows to: a Node, an OutputOf, a leaf tensor, or None. It and what
            follows exist only once the node is linked.
        saved: the arrays that backward receives; None once the graph was freed; a region that can bring them back.
        sequence: creation order.
    """

    __slots__ = (
        "__weakref__", "aux", "backend", "cache", "cells", "edges", "extra", "needs", "op", "out", "params", "saved",
        "sequence",
        "shapes", "versions",
    )  # fmt: skip
    kind: ClassVar[int] = NODE

    needs: tuple[bool, ...]
    shapes: Any
    edges: tuple[Any, ...]
    saved: Any  # a tuple; None once it was freed; a Region
    cells: tuple[list[int], ...]
    versions: int
    sequence: int
    out: Any  # while it runs backward: where the gradient of input `op.direct` may be written, or None

    def __init__(self, op: Any, backend: Any, params: tuple[Any, ...]) -> None:
        self.op = op
        self.backend = backend
        self.params = params
        self.cache: Any = None
        self.aux: Any = None
        self.extra: NodeExtra | None = None

    @property
    def xp(self) -> Any:
        """The array module of the backend: numpy or cupy."""
        return self.backend.xp

    @property
    def kernels(self) -> Any:
        """The kernels of the backend."""
        return self.backend.kernels

    def link(
        self,
        needs: tuple[bool, ...],
        shapes: Any,
        edges: tuple[Any, ...],
        saved: tuple[Array, ...],
        cells: tuple[list[int], ...],
    ) -> None:
        """Enters the graph: where gradients flow, and what is kept for them."""
        self.needs = needs
        self.shapes = shapes
        self.edges = edges
        self.saved = saved
        self.cells = cells
        # Versions only grow, so one sum tells whether any of them did.
        versions = 0
        for cell in cells:
            versions += cell[0]
        self.versions = versions
        self.sequence = next_sequence()
        if intercepts.collecting and mode.collector is not None:
            mode.collector.add(self)

    # What a region of the graph that is computed again does with its nodes; see `_recompute.py`.
    def forget(self, region: Any) -> None:
        """Gives up all that was kept; `region` can bring it back."""
        self.saved, self.cache, self.aux = region, None, None

    def remember(self, other: "Node") -> None:
        """Takes what a node of the same operation on the same values has kept."""
        self.saved, self.cache, self.aux = other.saved, other.cache, other.aux

    def saved_forms(self) -> list[Any]:
        """Shape and dtype of each saved array."""
        return [(a.shape, a.dtype) for a in self.saved if hasattr(a, "dtype")]

    def get_extra(self) -> "NodeExtra":
        """The rarely needed part, made on first use."""
        if self.extra is None:
            self.extra = NodeExtra()
        return self.extra

    # What users of torch look at.
    def name(self) -> str:
        """The name that torch gives this node, such as ``AddBackward0``."""
        return f"{self.op.name}Backward0"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """For each input, the node that its gradient flows to and the output's number there."""
        return tuple(_as_function(edge) for edge in self.edges)

    @property
    def metadata(self) -> dict[Any, Any]:
        """A place for the user's notes on this node."""
        return self.get_extra().metadata

    def register_hook(self, hook: Callable[..., Any]) -> "HookHandle":
        """Calls ``hook(grad_inputs, grad_outputs)`` after this node ran backward; a returned tuple replaces
        grad_inputs."""
        return HookHandle(self.get_extra().post_hooks, hook)

    def register_prehook(self, hook: Callable[..., Any]) -> "HookHandle":
        """Calls ``hook(grad_outputs)`` before this node runs backward; a returned tuple replaces grad_outputs."""
        return HookHandle(self.get_extra().pre_hooks, hook)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


class NodeExtra:
    """Hooks, notes and the recorded forward line of one node."""

    __slots__ = ("metadata", "output_hooks", "post_hooks", "pre_hooks", "retained", "traceback")

    def __init__(self) -> None:
        self.metadata: dict[Any, Any] = {}
        self.output_hooks: dict[int, tuple[int, Callable[..., Any]]] = {}  # id -> (output number, hook)
        self.retained: list[tuple[int, Any]] = []  # (output number, weak reference to the tensor)
        self.pre_hooks: dict[int, Callable[..., Any]] = {}
        self.post_hooks: dict[int, Callable[..., Any]] = {}
        self.traceback: str | None = None


class OutputOf:
    """One of several outputs of a node, as the end of an edge."""

    __slots__ = ("count", "index", "node")
    kind: ClassVar[int] = OUTPUT

    def __init__(self, node: Node, index: int, count: int) -> None:
        self.node = node
        self.index = index
        self.count = count


class AccumulateGrad:
    """What `next_functions` shows for a leaf: the end of the graph, where `variable.grad` is summed."""

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    def name(self) -> str:
        """torch's name of this node."""
        return "AccumulateGrad"

    @property
    def next_functions(self) -> tuple[()]:
        """Nothing lies behind a leaf."""
        return ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return id(self.variable)


def _as_function(edge: Any) -> tuple[Any, int]:
    if edge is None:
        return None, 0
    if edge.kind == NODE:
        return edge, 0
    if edge.kind == OUTPUT:
        return edge.node, edge.index
    return AccumulateGrad(edge), 0


_hook_ids = count()


class HookHandle:
    """Removes the hook that it stands for; also a context manager."""

    __slots__ = ("_hooks", "id")

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self.id = next(_hook_ids)
        self._hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Takes the hook away; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> "HookHandle":
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()
