"""One backward pass: a loop over the graph, without recursion.

Nodes run when all gradients that flow into them have arrived, youngest first. Leaves receive theirs at that moment too,
so a parameter used in several places is summed first and accumulated, and announced to its hooks, once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from typing import Any

from ..backend import as_array, silenced
from ..errors import AutogradError, ShapeError
from ._accumulate import accumulate_grad, announce, in_dtype, sum_tensor_to, sum_to
from ._base import TensorBase, wrap
from ._graph_namespace import graph_namespace
from ._mode import anomaly, no_grad
from ._node import LEAF, NODE, OUTPUT, HookHandle, Node, OutputOf
from ._sparse import SparseRows, SparseTensor

_pass_hooks: dict[int, Callable[[list[Any]], None]] = {}


def register_pass_hook(hook: Callable[[list[Any]], None]) -> HookHandle:
    """Calls ``hook(leaves)`` at the start of every backward pass, with the leaves that will receive gradients."""
    return HookHandle(_pass_hooks, hook)


def reachable(roots: Sequence[Any]) -> tuple[list[Node], dict[Any, int]]:
    """The nodes that lead to the roots, youngest first, and how many gradients will flow into each leaf.

    That order is one in which all gradients of a node have arrived when its turn comes: an edge always points to
    something older.
    """
    nodes: dict[Node, None] = {}  # found in nearly the right order, which a set would lose
    leaves: dict[Any, int] = {}
    ends: list[Sequence[Any]] = [roots]
    while ends:
        for edge in ends.pop():
            if edge is None:
                continue
            kind = edge.kind
            if kind == LEAF:
                leaves[edge] = leaves[edge] + 1 if edge in leaves else 1
                continue
            node = edge if kind == NODE else edge.node
            if node not in nodes:
                nodes[node] = None
                ends.append(node.edges)
    return sorted(nodes, key=_sequence_of, reverse=True), leaves


_sequence_of = attrgetter("sequence")


def _leading_to(wanted: set[Any], nodes: Sequence[Node]) -> set[Any]:
    """Of all nodes that can be reached, what has one of `wanted` behind it (or is one)."""
    useful = set(wanted)
    for node in reversed(nodes):
        if any(e is not None and (e.node if e.kind == OUTPUT else e) in useful for e in node.edges):
            useful.add(node)
    return useful


class Pass:
    """One backward pass."""

    def __init__(self, retain: bool, graph: bool, captured: "dict[Any, Any] | None") -> None:
        self.retain = retain
        self.graph = graph
        self.captured = captured  # for grad(): (target, output number) -> gradient, instead of accumulating in leaves
        self.useful: set[Any] = set()
        self.counts: dict[Any, int] = {}  # how many gradients are still to come, for each leaf
        self.buffers: dict[Any, Any] = {}
        self.owned: set[Any] = set()  # what has a sum of its own, into which we may add in place

    @silenced
    def run(self, targets: list[Any], starts: list[Any]) -> None:
        nodes, self.counts = reachable(targets)
        captured, buffers, counts = self.captured, self.buffers, self.counts
        if captured is not None:
            self.useful = _leading_to({key[0] for key in captured}, nodes)
        elif _pass_hooks:
            leaves = list(counts)
            for hook in tuple(_pass_hooks.values()):
                hook(leaves)
        for index, target in enumerate(targets):
            self.arrive(target, starts[index])
        plain = captured is None and not self.graph and not anomaly.check_nan
        for node in nodes:
            g = buffers.pop(node, None)
            if g is None or not (captured is None or self.leads_on(node, g)):
                grads: Any = (None,) * len(node.edges)
            elif plain and node.extra is None:
                grads = self.raw_step(node, g)
            else:
                grads = self.step(node, g)
            for index, edge in enumerate(node.edges):
                if edge is None:
                    continue
                r = grads[index]
                # The usual cases of `arrive`, without the call.
                kind = edge.kind
                if kind == NODE and edge not in buffers:
                    if r is not None:
                        buffers[edge] = r
                elif kind == LEAF and counts[edge] == 1 and edge not in buffers:
                    if r is not None:
                        self.finish_leaf(edge, r)
                else:
                    self.arrive(edge, r)

    def arrive(self, target: Any, g: Any) -> None:
        """A gradient has flown into `target`, or None; a leaf is finished with the last."""
        if g is not None:
            self.add(target, g)
        if target.kind == LEAF:
            left = self.counts[target] = self.counts[target] - 1
            if left == 0:
                total = self.buffers.pop(target, None)
                if total is not None:
                    self.finish_leaf(target, total)

    def leads_on(self, node: Node, g: Any) -> bool:
        """For grad(): whether anything asked for lies behind `node`; if not, this is where its own gradient is
        taken."""
        if any(e is not None and (e.node if e.kind == OUTPUT else e) in self.useful for e in node.edges):
            return True
        if node in self.useful:
            self.capture(node, g if node.extra is None else self.before(node, node.extra, g))
        return False

    def add(self, target: Any, g: Any) -> None:
        """Adds `g` to what flows into `target`: the first is borrowed, the second makes a sum of our own."""
        buffers = self.buffers
        if target.kind == OUTPUT:
            outputs = buffers.get(target.node)
            if outputs is None:
                outputs = buffers[target.node] = [None] * target.count
            before = outputs[target.index]
            outputs[target.index] = g if before is None else before + g
            return
        before = buffers.get(target)
        if before is None:
            buffers[target] = g
        elif target in self.owned:
            before += g
            buffers[target] = before
        else:
            buffers[target] = before + g
            if not self.graph:
                self.owned.add(target)

    def finish_leaf(self, leaf: TensorBase, g: Any) -> None:
        extra = leaf._extra
        if extra is not None and extra.hooks:
            g = self.call_hooks(extra.hooks.values(), g)
        if (g._data if self.graph else g).dtype is not leaf._data.dtype:
            g = in_dtype(g, leaf._data.dtype, self.graph)
        if self.captured is not None:
            if (leaf, 0) in self.captured:
                self.captured[leaf, 0] = g.to_dense() if g.__class__ is SparseRows else g
            return
        accumulate_grad(leaf, g, owned=leaf in self.owned, graph=self.graph)
        if extra is not None and extra.post_accumulate:
            announce(leaf)

    def call_hooks(self, hooks: Any, g: Any) -> Any:
        for hook in tuple(hooks):
            if g.__class__ is SparseRows:
                returned = hook(SparseTensor(g))
                g = g if returned is None else returned.rows if returned.is_sparse else returned._data
                continue
            seen = g if self.graph else wrap(as_array(g))
            returned = hook(seen)
            if returned is not None:
                if not isinstance(returned, TensorBase):
                    raise AutogradError(f"a gradient hook must return None or a Tensor, got {type(returned).__name__}")
                if returned._data.shape != seen._data.shape:
                    raise ShapeError(
                        f"a gradient hook must keep the gradient's shape {list(seen._data.shape)}, got "
                        f"{list(returned._data.shape)}"
                    )
                g = returned if self.graph else returned._data
        return g

    def step(self, node: Node, g: Any) -> Any:
        """Runs one node: the gradient of its outputs to the gradients of its inputs."""
        extra = node.extra
        if extra is not None:
            g = self.before(node, extra, g)
        if self.captured is not None:
            self.capture(node, g)
        try:
            grads = self.graph_step(node, g) if self.graph else self.raw_step(node, g)
            if anomaly.check_nan:
                _check_nan(node, grads)
        except Exception as error:
            if extra is not None and extra.traceback is not None:
                error.add_note(f"{node.name()} was recorded by this forward call:\n{extra.traceback}")
            raise
        if extra is not None and extra.post_hooks:
            grads = self.after(node, extra, grads, g)
        return grads

    def raw_step(self, node: Node, g: Any) -> Any:
        saved = node.saved
        if saved.__class__ is not tuple:
            saved = _recomputed(node)
        cells = node.cells
        if cells:
            versions = 0
            for cell in cells:
                versions += cell[0]
            if versions != node.versions:
                raise _modified(node, versions)
        if node.__class__ is not Node:
            return self.function_step(node, g)
        op = node.op
        if op.direct is not None:
            node.out = self.destination(node.edges[op.direct])
        grads = op.raw_backward(node.backend.namespace, node, g, *saved)
        if grads.__class__ is not tuple:
            grads = (grads,)
        if op.broadcasts:
            grads = [
                r if r is None or r.shape == shape else sum_to(r, shape)
                for r, shape in zip(grads, node.shapes, strict=True)
            ]
        if not self.retain and (saved or node.cache is not None or node.aux is not None):
            node.saved = node.cache = node.aux = None
        return grads

    def destination(self, edge: Any) -> Any:
        """The arena's memory for a leaf's gradient, if this is the only one to flow there and nobody asks for it."""
        if edge is None or edge.kind != LEAF or self.captured is not None:
            return None
        extra = edge._extra
        if extra is None or extra.grad_slot is None or edge._grad is not None or extra.hooks:
            return None
        return extra.grad_slot._data if self.counts[edge] == 1 and edge not in self.buffers else None

    def graph_step(self, node: Node, g: Any) -> Any:
        """As `raw_step` on Tensors, recording the gradient computation itself."""
        if node.__class__ is not Node:
            return self.raw_step(node, g)  # which has a Function's own way
        if node.saved.__class__ is not tuple:
            _recomputed(node)
        versions = sum(cell[0] for cell in node.cells)
        if versions != node.versions:
            raise _modified(node, versions)
        node.cache = None
        grads = node.op.backward(graph_namespace(), node, g, *_saved_tensors(node))
        if grads.__class__ is not tuple:
            grads = (grads,)
        if node.op.broadcasts:
            grads = tuple(sum_tensor_to(r, shape) for r, shape in zip(grads, node.shapes, strict=True))
        return grads

    def function_step(self, node: Node, g: Any) -> Any:
        """A node of the user's `Function`: Tensors in and out whatever the pass works on."""
        outputs = g if isinstance(g, list) else [g]
        tensors = [r if r is None or self.graph else wrap(as_array(r)) for r in outputs]
        guard: AbstractContextManager[None] = nullcontext() if self.graph else no_grad()
        with guard:
            grads = node.op.call(node, tensors)
        if not self.retain:
            node.saved = None
            node.op.forget(node)
        if self.graph:
            return tuple(sum_tensor_to(r, shape) for r, shape in zip(grads, node.shapes, strict=True))
        return tuple(None if r is None else sum_to(r._data, s) for r, s in zip(grads, node.shapes, strict=True))

    def before(self, node: Node, extra: Any, g: Any) -> Any:
        """Hooks on the outputs, retained gradients, prehooks."""
        for index, hook in tuple(extra.output_hooks.values()):
            if isinstance(g, list):
                if g[index] is not None:
                    g[index] = self.call_hooks((hook,), g[index])
            else:
                g = self.call_hooks((hook,), g)
        for index, reference in extra.retained:
            tensor, value = reference(), g[index] if isinstance(g, list) else g
            if tensor is not None and value is not None and self.captured is None:
                accumulate_grad(tensor, value, owned=False, graph=self.graph)
        for hook in tuple(extra.pre_hooks.values()):
            returned = hook(tuple(self.tensor(r) for r in (g if isinstance(g, list) else [g])))
            if returned is not None:
                values = [self.value(r) for r in (returned if isinstance(returned, tuple) else (returned,))]
                g = values if isinstance(g, list) else values[0]
        return g

    def after(self, node: Node, extra: Any, grads: Any, g: Any) -> Any:
        outputs = tuple(self.tensor(r) for r in (g if isinstance(g, list) else [g]))
        for hook in tuple(extra.post_hooks.values()):
            returned = hook(tuple(self.tensor(r) for r in grads), outputs)
            if returned is not None:
                changed = returned if isinstance(returned, tuple) else (returned,)
                if len(changed) != len(node.edges):
                    raise AutogradError(
                        f"a hook of {node.name()} must return None or a gradient for each of its inputs: expected "
                        f"{len(node.edges)}, got {len(changed)}"
                    )
                grads = tuple(self.value(r) for r in changed)
        return grads

    def tensor(self, value: Any) -> Any:
        return value if value is None or self.graph else wrap(as_array(value))

    def value(self, tensor: Any) -> Any:
        return tensor if tensor is None or self.graph else tensor._data

    def capture(self, node: Node, g: Any) -> None:
        assert self.captured is not None
        for index, value in enumerate(g if isinstance(g, list) else (g,)):
            if (node, index) in self.captured:
                self.captured[node, index] = value


def _check_nan(node: Node, grads: Any) -> None:
    for index, g in enumerate(grads):
        if g is None:
            continue
        g = g.values if g.__class__ is SparseRows else g
        data = g._data if isinstance(g, TensorBase) else as_array(g)
        if data.dtype.kind in "fcV" and bool((data != data).any()):
            raise AutogradError(
                f"Function '{node.name()}' returned nan values in its {index}th output, the gradient of its input"
            )


def _recomputed(node: Node) -> Any:
    """What a node saved, computed again where it was not kept."""
    if node.saved is None:
        raise AutogradError(
            f"{node.name()}: trying to backward through the graph a second time, but what it had saved was freed. "
            "Pass retain_graph=True to the first backward() or grad() call"
        )
    node.saved.refill()
    return node.saved


def _saved_tensors(node: Node) -> list[Any]:
    """The saved arrays as tensors that know where their own gradients flow."""
    result: list[Any] = []
    inputs = node.op._saved
    outputs = len(node.saved) - len(inputs)
    for position, array in enumerate(node.saved):
        if array is None or not hasattr(array, "dtype"):
            result.append(array)
        elif position < len(inputs):
            edge = node.edges[inputs[position]]
            result.append(edge if edge is not None and edge.kind == LEAF else wrap(array, edge))
        else:
            result.append(wrap(array, node if outputs == 1 else OutputOf(node, position - len(inputs), outputs)))
    return result


def _modified(node: Node, versions: int) -> AutogradError:
    shapes = ", ".join(str(list(a.shape)) for a in node.saved if hasattr(a, "shape"))
    return AutogradError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: a tensor "
        "saved by "
        f"{node.name()} (shapes {shapes}) is at version {versions}; expected version {node.versions}. Use the "
        "out-of-place form of that "
        "operation, or clone() the tensor before changing it; autograd.set_detect_anomaly(True) names the forward line"
    )
