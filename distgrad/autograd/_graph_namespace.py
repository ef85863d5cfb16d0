"""The differentiable namespace on Tensors, which a higher layer provides."""

from ..backend import Namespace

_registered: Namespace | None = None


def register_graph_namespace(namespace: Namespace) -> None:
    """Names the differentiable namespace on Tensors; `ops` calls this once."""
    global _registered
    _registered = namespace


def graph_namespace() -> Namespace:
    """The differentiable namespace on Tensors."""
    assert _registered is not None
    return _registered
