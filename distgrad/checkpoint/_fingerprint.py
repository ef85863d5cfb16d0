"""A hash of everything that training has made."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..nn import Module


def fingerprint(*objects: Any) -> str:
    """The SHA-256 of modules, optimizers, state dicts and tensors: equal for equal bits only.

    Args:
        objects: each has a `state_dict`, or is a tensor, an array, a number, a string, or a nested dict or list of such
            values. Of a `Module` all parameters and buffers count, by name.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> print("sha256", distgrad.fingerprint(model, optimizer))
    """
    digest = hashlib.sha256()
    for value in objects:
        for piece in _pieces(value):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[Any]:
    """Bytes that tell a value from every other one."""
    if isinstance(value, Module):
        tensors = [*value.named_parameters(), *value.named_buffers()]
        yield from _pieces(dict(tensors))
    elif isinstance(value, Tensor):
        yield from _pieces(value.detach().cpu()._data)
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape};".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    elif isinstance(value, dict):
        yield f"dict {len(value)};".encode()
        for key, item in value.items():
            yield f"{key!r}:".encode()
            yield from _pieces(item)
    elif isinstance(value, (list, tuple)):
        yield f"list {len(value)};".encode()
        for item in value:
            yield from _pieces(item)
    elif hasattr(value, "state_dict"):
        yield from _pieces(value.state_dict())
    else:
        yield f"{type(value).__name__} {value!r};".encode()
