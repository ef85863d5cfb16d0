"""Nested containers of plain values as JSON, with tensors by number.

None, bools, integers, finite floats, strings and lists are JSON's own. Everything else is an object with a ``"type"``.
"""

import base64
import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from .._parameter import Parameter
from .._tensor import Size, Tensor
from ..backend import OF_NUMPY, as_dtype, device, dtype
from ..errors import CheckpointError

PLAIN = (type(None), bool, int, str)
SEQUENCES = {"tuple": tuple, "set": set, "frozenset": frozenset, "size": Size}
MAPPINGS: dict[str, type[dict[Any, Any]]] = {"dict": dict, "ordered_dict": OrderedDict, "counter": Counter}
FACTORIES: dict[str, Callable[[], Any]] = {"dict": dict, "list": list, "set": set, "int": int, "float": float}
TYPES = {kind: name for name, kind in (*SEQUENCES.items(), *MAPPINGS.items())}


class NotPlain(Exception):
    """Something in the object can only be pickled.

    Attributes:
        path: where it is.
        value: what it is.
    """

    def __init__(self, path: str, value: Any) -> None:
        super().__init__(path)
        self.path = path
        self.value = value


class Encoder:
    """Turns an object into JSON, and collects its tensors and arrays.

    Attributes:
        leaves: the tensors and arrays, each once.
        paths: where each was met first, such as ``"model.0.weight"``.
    """

    def __init__(self) -> None:
        self.leaves: list[Any] = []
        self.paths: list[str] = []
        self._numbers: dict[int, int] = {}
        self._open: set[int] = set()  # the containers that we are inside of

    def encode(self, value: Any, path: str = "") -> Any:
        """The JSON form of a value.

        Raises:
            NotPlain: there is none.
        """
        kind = type(value)
        if kind in PLAIN or (kind is float and math.isfinite(value)):
            return value
        if isinstance(value, (Tensor, np.ndarray)):
            return self._leaf(value, path)
        if kind is list or kind in TYPES or kind is defaultdict:
            return self._container(value, kind, path)
        return _scalar(value, path)

    def _leaf(self, value: Any, path: str) -> dict[str, Any]:
        own = (Tensor, Parameter) if isinstance(value, Tensor) else (np.ndarray,)
        if type(value) not in own or (isinstance(value, np.ndarray) and value.dtype not in OF_NUMPY):
            raise NotPlain(path, value)
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self.leaves)
            self.leaves.append(value)
            self.paths.append(path)
        return {"type": "array" if isinstance(value, np.ndarray) else "tensor", "index": number}

    def _container(self, value: Any, kind: Any, path: str) -> Any:
        if id(value) in self._open:
            raise NotPlain(path, value)
        self._open.add(id(value))
        try:
            if kind is list:
                return [self.encode(item, _join(path, i)) for i, item in enumerate(value)]
            if not issubclass(kind, dict):
                items = [self.encode(item, _join(path, i)) for i, item in enumerate(value)]
                return {"type": TYPES[kind], "items": items}
            pairs = [[self.encode(key, path), self.encode(item, _join(path, key))] for key, item in value.items()]
            if kind is defaultdict:
                return {"type": "defaultdict", "factory": _factory(value, path), "items": pairs}
            extra = {"attributes": self.encode(vars(value), path)} if kind is OrderedDict and vars(value) else {}
            return {"type": TYPES[kind], "items": pairs, **extra}
        finally:
            self._open.discard(id(value))


def _join(path: str, part: Any) -> str:
    return f"{path}.{part}" if path else str(part)


def _factory(value: Any, path: str) -> str:
    for name, factory in FACTORIES.items():
        if value.default_factory is factory:
            return name
    raise NotPlain(path, value)


def _scalar(value: Any, path: str) -> dict[str, Any]:
    kind = type(value)
    if kind is float:
        return {"type": "float", "value": repr(value)}
    if kind is complex:
        return {"type": "complex", "value": [repr(value.real), repr(value.imag)]}
    if kind in (bytes, bytearray):
        return {"type": kind.__name__, "value": base64.b64encode(value).decode()}
    if isinstance(value, dtype):
        return {"type": "dtype", "value": value.name}
    if isinstance(value, device):
        return {"type": "device", "value": str(value)}
    if isinstance(value, np.generic) and value.dtype in OF_NUMPY:
        data = base64.b64encode(value.tobytes()).decode()
        return {"type": "scalar", "dtype": OF_NUMPY[value.dtype].name, "value": data}
    raise NotPlain(path, value)


def decode(node: Any, leaves: list[Any]) -> Any:
    """The value of a JSON form, with the tensors and arrays given.

    Raises:
        CheckpointError: the form is not known, as in a file of a later version.
    """
    if isinstance(node, list):
        return [decode(item, leaves) for item in node]
    if not isinstance(node, dict):
        return node
    name = node["type"]
    if name in ("tensor", "array"):
        return leaves[node["index"]]
    if name in SEQUENCES:
        return SEQUENCES[name](decode(item, leaves) for item in node["items"])
    if name in MAPPINGS or name == "defaultdict":
        pairs = {decode(key, leaves): decode(item, leaves) for key, item in node["items"]}
        if name == "defaultdict":
            return defaultdict(FACTORIES[node["factory"]], pairs)
        result = MAPPINGS[name](pairs)
        if "attributes" in node:  # the `_metadata` of a state dict
            vars(result).update(decode(node["attributes"], leaves))
        return result
    return _decode_scalar(name, node)


def _decode_scalar(name: str, node: dict[str, Any]) -> Any:
    value = node["value"]
    if name == "float":
        return float(value)
    if name == "complex":
        return complex(float(value[0]), float(value[1]))
    if name in ("bytes", "bytearray"):
        data = base64.b64decode(value, validate=True)
        return data if name == "bytes" else bytearray(data)
    if name == "dtype":
        return as_dtype(value)
    if name == "device":
        return device(value)
    if name == "scalar":
        return np.frombuffer(base64.b64decode(value, validate=True), as_dtype(node["dtype"]).numpy)[0]
    raise CheckpointError(f"unknown type {name!r}; was it written by a later version of distgrad?")
