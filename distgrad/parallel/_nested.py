"""Tensors inside what users pass to a model and get from it: tuples, lists, dicts and dataclasses, nested."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from .._tensor import Tensor


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`value` with every tensor replaced by ``function(tensor)``; containers are copied, anything else stays as it is.

    Args:
        value: a tensor; a tuple, named tuple, list, dict or dataclass instance of such values; or anything else.
        function: called for each tensor, in order.
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple):
        return _map_tuple(value, function)
    if isinstance(value, list):
        result = copy.copy(value)
        result[:] = [map_tensors(item, function) for item in value]
        return result
    if isinstance(value, dict):
        return _map_dict(value, function)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _map_dataclass(value, function)
    return value


def _map_tuple(value: tuple[Any, ...], function: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    items = tuple(map_tensors(item, function) for item in value)
    if type(value) is tuple:
        return items
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value  # a kind of tuple that holds no tensors, such as a Size
    return type(value)(*items)  # a named tuple


def _map_dict(value: dict[Any, Any], function: Callable[[Tensor], Tensor]) -> dict[Any, Any]:
    result = copy.copy(value)
    for key, item in value.items():
        result[key] = map_tensors(item, function)
    return result


def _map_dataclass(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    result = copy.copy(value)
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        object.__setattr__(result, field.name, map_tensors(item, function))  # past the guard of a frozen one
    return result


def rows_of(value: Any) -> int | None:
    """The length along the first axis of the first tensor in `value`; None if there is none with an axis."""
    found: list[Tensor] = []

    def note(t: Tensor) -> Tensor:
        found.append(t)
        return t

    map_tensors(value, note)
    return next((t.shape[0] for t in found if t.ndim), None)
