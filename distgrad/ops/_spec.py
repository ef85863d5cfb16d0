"""The registry of public operations: what the tests, the docs and the Tensor methods are checked against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One public operation.

    Attributes:
        name: torch's name.
        function: the public function.
        family: the module that defines it.
        method: whether `Tensor` has it too, with the same arguments.
        differentiable: whether gradients flow through it.
        twice: whether second derivatives are claimed; gradgradcheck then runs on it.
        inplace: whether ``Tensor.<name>_`` exists.
    """

    name: str
    function: Callable[..., Any]
    family: str
    method: bool
    differentiable: bool
    twice: bool
    inplace: bool


_registry: dict[str, OpSpec] = {}


def op(
    *,
    name: str | None = None,
    method: bool = True,
    differentiable: bool = True,
    twice: bool = True,
    inplace: bool = False,
) -> Callable[[F], F]:
    """Records a function as a public operation and returns it unchanged."""

    def record(function: F) -> F:
        key = name or function.__name__
        family = function.__module__.rpartition(".")[2].lstrip("_")
        _registry[key] = OpSpec(key, function, family, method, differentiable, differentiable and twice, inplace)
        return function

    return record


def registry() -> dict[str, OpSpec]:
    """All public operations by name."""
    return dict(_registry)
