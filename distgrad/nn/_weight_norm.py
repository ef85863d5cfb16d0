"""Weights that are computed from other parameters before each call: by weight and by spectral normalisation.

The computed weight is an ordinary attribute; the parameters that it comes from have torch's names.
"""

from typing import Any, TypeVar

from .. import ops
from .._parameter import Parameter
from .._tensor import Tensor
from ..autograd import no_grad
from . import functional as F
from ._conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ._module import Module

M = TypeVar("M", bound=Module)


class _WeightNorm:
    """Before each call: weight = g v / |v|, the norm over all dimensions but one."""

    def __init__(self, name: str, dim: int) -> None:
        self.name = name
        self.dim = dim

    def norm(self, v: Tensor) -> Tensor:
        """|v|, with the other dimensions kept as 1; over all of them for dim -1."""
        axes = [i for i in range(v.ndim) if i != self.dim]
        return (v * v).sum(axes, keepdim=True).sqrt()

    def weight(self, module: Module) -> Tensor:
        """The weight from the module's g and v."""
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / self.norm(v))  # type: ignore[no-any-return]

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.weight(module))


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Splits a parameter of a module into its length and its direction (Salimans and Kingma, 2016).

    Args:
        module: gets the parameters ``<name>_g`` and ``<name>_v`` in place of `name`.
        dim: the dimension that keeps a length of its own; None takes one length for all.

    Raises:
        RuntimeError: it is so already.

    Example:
        >>> nn.utils.weight_norm(nn.Linear(20, 40))
    """
    if _hook_of(module, name, _WeightNorm) is not None:
        raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
    weight = module.get_parameter(name)
    hook = _WeightNorm(name, -1 if dim is None else dim % weight.ndim)
    delattr(module, name)
    module.register_parameter(f"{name}_g", Parameter(hook.norm(weight.data)))
    module.register_parameter(f"{name}_v", Parameter(weight.data))
    setattr(module, name, hook.weight(module))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Makes one parameter again of what `weight_norm` split."""
    return _remove(module, name, _WeightNorm, (f"{name}_g", f"{name}_v"))


class _SpectralNorm:
    """Before each call: weight = W / sigma, its largest singular value by power iteration."""

    def __init__(self, name: str, n_power_iterations: int, eps: float, dim: int) -> None:
        self.name = name
        self.n_power_iterations = n_power_iterations
        self.eps = eps
        self.dim = dim

    def matrix(self, weight: Tensor) -> Tensor:
        """(rows, columns), with the chosen dimension as rows."""
        order = [self.dim, *[i for i in range(weight.ndim) if i != self.dim]]
        return weight.permute(*order).reshape(weight.shape[self.dim], -1)

    def weight(self, module: Module, iterate: bool) -> Tensor:
        """The weight divided by its largest singular value."""
        original = getattr(module, f"{self.name}_orig")
        u, v = getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")
        matrix = self.matrix(original)
        if iterate:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(F.normalize(ops.mv(matrix.t(), u), dim=0, eps=self.eps))
                    u.copy_(F.normalize(ops.mv(matrix, v), dim=0, eps=self.eps))
        # Copies, so that the next call's iteration does not change what this call's backward needs.
        return original / ops.dot(u.clone(), ops.mv(matrix, v.clone()))  # type: ignore[no-any-return]

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.weight(module, module.training))


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """Divides a parameter of a module by its largest singular value (Miyato et al., 2018).

    Args:
        module: gets the parameter ``<name>_orig`` and the buffers ``<name>_u`` and ``<name>_v``.
        n_power_iterations: steps of the estimate at each call in training.
        eps: keeps norms from being 0.
        dim: the dimension of the outputs; default 0, and 1 for transposed convolutions.

    Raises:
        RuntimeError: it is so already.
    """
    if _hook_of(module, name, _SpectralNorm) is not None:
        raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
    if dim is None:
        dim = int(isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)))
    weight = module.get_parameter(name)
    hook = _SpectralNorm(name, n_power_iterations, eps, dim)
    rows, columns = hook.matrix(weight.data).shape
    delattr(module, name)
    module.register_parameter(f"{name}_orig", weight)
    for end, size in (("u", rows), ("v", columns)):
        start = F.normalize(ops.randn(size, dtype=weight.dtype, device=weight.device), dim=0, eps=eps)
        module.register_buffer(f"{name}_{end}", start)
    setattr(module, name, weight.data)
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Makes an ordinary parameter of what `spectral_norm` divides."""
    return _remove(module, name, _SpectralNorm, (f"{name}_orig", f"{name}_u", f"{name}_v"))


def _hook_of(module: Module, name: str, kind: Any) -> Any:
    """The number of the hook of this kind that computes a parameter, and the hook."""
    hooks = module._hooks.forward_pre if module._hooks else {}
    for key, (hook, _) in hooks.items():
        if isinstance(hook, kind) and hook.name == name:
            return key, hook
    return None


def _remove(module: M, name: str, kind: Any, parts: tuple[str, ...]) -> M:
    found = _hook_of(module, name, kind)
    if found is None:
        raise ValueError(f"{kind.__name__.lstrip('_')} of {name!r} not found in {type(module).__name__}")
    key, hook = found
    with no_grad():
        weight = hook.weight(module) if kind is _WeightNorm else hook.weight(module, False)
    assert module._hooks is not None
    del module._hooks.forward_pre[key]
    delattr(module, name)
    for part in parts:
        delattr(module, part)
    module.register_parameter(name, Parameter(weight))
    return module
