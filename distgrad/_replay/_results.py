"""What a step returns, as an expression at the end of its tape."""

from typing import TYPE_CHECKING, Any

from .._tensor import Tensor
from ..autograd._base import TensorBase, wrap
from ..autograd._node import LEAF, OUTPUT, Node
from ._errors import Unrecordable

if TYPE_CHECKING:
    from ._recorder import Recorder


def expression(recorder: "Recorder", value: Any) -> str:
    """The source that makes such a value anew in each replay.

    Raises:
        Unrecordable: that cannot be made again.
    """
    if isinstance(value, TensorBase):
        return _of_tensor(recorder, value)
    if value.__class__ is tuple:
        return f"({''.join(f'{expression(recorder, part)}, ' for part in value)})"
    if value.__class__ is list:
        return f"[{', '.join(expression(recorder, part) for part in value)}]"
    if value.__class__ is dict and all(key.__class__ is str for key in value):
        return "{" + ", ".join(f"{key!r}: {expression(recorder, part)}" for key, part in value.items()) + "}"
    if value.__class__ in (int, bool, str, type(None)):
        return repr(value)
    if value.__class__ is float:
        return recorder.tape.bind(value)
    raise Unrecordable(f"it returns an object of class {type(value).__name__}")


def _of_tensor(recorder: "Recorder", t: Any) -> str:
    tape = recorder.tape
    if id(t) in recorder.tensors:
        recorder.name_of(t)
        return tape.bind(t)
    if type(t) is not Tensor:
        raise Unrecordable(f"it returns an object of class {type(t).__name__}")
    name = recorder.name_of(t)
    if name in tape.made:
        name += ".copy()"
    target = t._target
    if target is None:
        return f"{tape.bind(wrap)}({name})"
    node = target if isinstance(target, Node) else getattr(target, "node", None)
    if node is None or id(node) not in recorder.spent or not _is_spent(node):
        raise Unrecordable("it returns a tensor whose graph is still to be used; call backward() inside the step")
    spent = Node(node.op, node.backend, ())
    spent.link((), (), (), (), ())
    spent.saved = None
    return f"{tape.bind(wrap)}({name}, {tape.bind(spent)})"


def _is_spent(node: Any) -> bool:
    """Whether a second backward pass from here would fail, because it comes to a node whose memory was freed."""
    stack, seen = [node], set()
    while stack:
        node = stack.pop()
        if node.saved is None:
            return True
        for edge in node.edges:
            if edge is not None and edge.kind != LEAF and id(edge) not in seen:
                seen.add(id(edge))
                stack.append(edge.node if edge.kind == OUTPUT else edge)
    return False
