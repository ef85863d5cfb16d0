"""A backward pass that writes on the tape what it does."""

from typing import TYPE_CHECKING, Any

from ..autograd._accumulate import accumulate_grad, announce, sum_to
from ..autograd._node import OUTPUT, Node
from ..autograd._pass import Pass, _pass_hooks, reachable
from ..autograd._sparse import SparseRows
from ..backend import silenced
from ._errors import Unrecordable

if TYPE_CHECKING:
    from ._recorder import Recorder


class RecordedPass(Pass):
    """Does what `Pass` does, in the same order, with a name beside each gradient.

    Args:
        recorder: whose tape it is.
        retain, graph: see `backward`.
    """

    def __init__(self, recorder: "Recorder", retain: bool, graph: bool) -> None:
        super().__init__(retain, graph, None)
        self.recorder = recorder
        self.tape = recorder.tape
        self.names: dict[Any, Any] = {}  # beside `buffers`

    @silenced
    def run(self, targets: list[Any], starts: list[Any]) -> None:
        try:
            if self.graph or self.retain:
                raise Unrecordable("backward() keeps its graph (retain_graph or create_graph)")
            if _pass_hooks:
                raise Unrecordable("there are hooks on all backward passes")
            self.names_of_starts = [self._start(start) for start in starts]
        except Unrecordable as problem:
            self.recorder.fail(problem)
            Pass(self.retain, self.graph, None).run(targets, starts)
            return
        nodes, self.counts = reachable(targets)
        for target, start, name in zip(targets, starts, self.names_of_starts, strict=True):
            self.arrive_named(target, start, name)
        for node in nodes:
            g, name = self.buffers.pop(node, None), self.names.pop(node, None)
            if g is None:
                grads: Any = (None,) * len(node.edges)
                named: Any = grads
            else:
                grads, named = self.named_step(node, g, name)
            for edge, r, r_name in zip(node.edges, grads, named, strict=True):
                if edge is not None:
                    self.arrive_named(edge, r, r_name)

    def _start(self, start: Any) -> str:
        if self.tape.knows(start):
            return self.tape.array(start)
        if start.size != 1 or start.item() != 1:
            raise Unrecordable("backward() is given a gradient that was computed outside of recorded operations")
        name = self.tape.bind(start.copy())
        self.tape.made.add(name)
        return self.tape.assign("g", f"{name}.copy()")

    def arrive_named(self, target: Any, g: Any, name: str) -> None:
        """`arrive`, with the name of the sum."""
        if g is not None:
            self._add_name(target, name)
        self.arrive(target, g)

    def _add_name(self, target: Any, name: str) -> None:
        tape, names = self.tape, self.names
        if target.kind == OUTPUT:
            outputs = names.setdefault(target.node, [None] * target.count)
            before = outputs[target.index]
            outputs[target.index] = name if before is None else tape.assign("g", f"{before} + {name}")
        elif names.get(target) is None:
            names[target] = name
        elif target in self.owned:
            tape.add(f"{names[target]} += {name}")
        else:
            names[target] = tape.assign("g", f"{names[target]} + {name}")

    def named_step(self, node: Any, g: Any, name: Any) -> tuple[Any, Any]:
        """Runs one node; the gradients of its inputs, and their names."""
        recorded = self.tape.nodes.get(id(node))
        if node.extra is not None or node.__class__ is not Node or recorded is None:
            self.recorder.fail(Unrecordable(f"backward goes through {node.name()}, which has hooks or is the user's"))
            grads = self.step(node, g)
            return grads, ("None",) * len(grads)
        ctx, op, tape = recorded.ctx, node.op, self.tape
        ctx.needs, ctx.shapes = node.needs, node.shapes
        saved = [recorded.inputs[i] if used else "None" for i, used in op.plan(node.needs)]
        if op.saves_output:
            saved += recorded.outputs
        if op.direct is not None:
            ctx.out = self.destination(node.edges[op.direct])
        gradient = f"[{', '.join(map(str, name))}]" if isinstance(name, list) else name
        call = ", ".join([tape.bind(node.backend.namespace), recorded.name, gradient, *saved])
        grads = self.raw_step(node, g)
        names = ["_" if r is None else tape.fresh("g") for r in grads]
        tape.add(f"{', '.join(names)} = {tape.bind(op.raw_backward)}({call})")
        if len(names) == 1:  # which may come alone, or as a tuple of one
            tape.add(f"if {names[0]}.__class__ is tuple: {names[0]} = {names[0]}[0]")
        if op.broadcasts:
            for r_name, shape in zip(names, node.shapes, strict=True):
                if r_name != "_":
                    tape.add(f"{r_name} = {tape.bind(sum_to)}({r_name}, {shape})")
        tape.add(f"{recorded.name}.cache = {recorded.name}.aux = None")
        return grads, names

    def finish_leaf(self, leaf: Any, g: Any) -> None:
        name = self.names.pop(leaf)
        try:
            self._write_leaf(leaf, g, name)
        except Unrecordable as problem:
            self.recorder.fail(problem)
        super().finish_leaf(leaf, g)

    def _write_leaf(self, leaf: Any, g: Any, name: str) -> None:
        tape, extra = self.tape, leaf._extra
        if g.__class__ is SparseRows or (leaf._grad is not None and leaf._grad.is_sparse):
            raise Unrecordable("a gradient is sparse")
        if extra is not None and extra.hooks:
            raise Unrecordable("a tensor has a hook on its gradient")
        owner = self.recorder.leaf(leaf)
        if g.dtype != leaf._data.dtype:
            name = tape.assign("g", f"{name}.astype({tape.bind(leaf._data.dtype)})")
        slot = None if extra is None else extra.grad_slot
        if leaf._grad is None and slot is not None:
            if g is not slot._data:
                tape.add(f"{tape.bind(slot._data)}[...] = {name}")
            tape.add(f"{owner}._grad = {tape.bind(slot)}")
        else:
            tape.add(f"{tape.bind(accumulate_grad)}({owner}, {name}, owned={leaf in self.owned}, graph=False)")
        if extra is not None and extra.post_accumulate:
            tape.add(f"{tape.bind(announce)}({owner})")
