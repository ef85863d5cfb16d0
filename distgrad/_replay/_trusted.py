"""What of distgrad a recording may pass through, what a replay repeats as a whole, and what ends a recording.

Everything that is not named here ends a recording: a new function of distgrad is at first not replayed.
"""

import functools
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import CodeType, GeneratorType
from typing import Any

import numpy as np

from ..autograd import _engine
from ..autograd._op import apply
from ..nn import Module
from ..nn._clip_grad import clip_grad_norm_, clip_grad_value_
from ..nn._norm import _BatchNorm
from ..ops import _embedding, _norm, _scatter, registry
from ..optim import SGD, Optimizer
from ..optim.lr_scheduler import LRScheduler
from ..parallel import DistributedDataParallel, ZeroRedundancyOptimizer
from ..parallel._reducer import Reducer
from ._errors import Unrecordable

Locals = dict[str, Any]
Call = tuple[Callable[..., Any], tuple[Any, ...]]

PACKAGE = str(Path(__file__).parents[1]) + os.sep
WORKLOADS = PACKAGE + os.path.join("bench", "_workloads.py")  # written as users would
NUMPY = str(Path(np.__file__).parent) + os.sep
LIBRARY = sysconfig.get_path("stdlib") + os.sep
SITE = sysconfig.get_path("purelib") + os.sep  # may lie inside the library

# Files of distgrad whose functions only check arguments, apply operations, or make tensors of plain numbers.
FILES = (
    "ops/", "nn/", "_tensor.py", "_tensor_form.py", "_tensor_inplace.py", "_tensor_methods.py", "_parameter.py",
    "_names.py", "_pages.py", "__init__.py",
    "_shard.py", "_replay/", "_type_names.py", "autograd/_mode.py", "autograd/_op.py", "autograd/_base.py",
    "autograd/_engine.py", "autograd/_node.py", "backend/__init__.py", "backend/_backend.py", "backend/_device.py",
    "backend/_dtypes.py", "backend/_numpy/", "backend/_onednn/", "parallel/_ddp.py", "parallel/_watch.py",
    "parallel/_nested.py", "parallel/_reducer.py", "data/_batch_share.py", "autograd/_pass.py",
)  # fmt: skip
REASONS = {
    "autograd/_inplace.py": "it writes into a tensor in place",
    "autograd/_function.py": "it applies an autograd.Function",
    "autograd/_recompute.py": "it uses activation checkpoints",
    "backend/_random.py": "it draws random numbers outside of dropout layers",
    "nn/_hooks.py": "a module has hooks",
    "ops/_write.py": "it writes into a tensor in place",
    "ops/_random.py": "it draws random numbers outside of dropout layers",
    "comm/": "it communicates outside of DistributedDataParallel",
    "data/": "it reads data; pass the batch as an argument",
    "optim/": "it uses an optimizer in another way than step() and zero_grad()",
}
_TENSOR = frozenset(
    [
        "shape",
        "size",
        "ndim",
        "dim",
        "numel",
        "dtype",
        "device",
        "is_cuda",
        "itemsize",
        "element_size",
        "nbytes",
        "stride",
        "is_contiguous",
        "is_same_size",
        "is_floating_point",
        "is_complex",
        "is_signed",
        "requires_grad",
        "is_leaf",
        "backward",
        "to",
        "cpu",
        "type",
        "type_as",
        "float",
        "double",
        "half",
        "bfloat16",
        "long",
        "int",
        "short",
        "char",
        "byte",
        "bool",
        "cfloat",
        "cdouble",
        "__len__",
        "__iter__",
        "__hash__",
        "__getitem__",
        "__add__",
        "__radd__",
        "__mul__",
        "<genexpr>",
        "<listcomp>",
        "get_device",
        "_device_of",
    ]
)
_READS = frozenset(
    [
        "item",
        "tolist",
        "min",
        "max",
        "any",
        "all",
        "sum",
        "prod",
        "mean",
        "nonzero",
        "argmin",
        "argmax",
        "tobytes",
        "searchsorted",
        "argsort",
        "sort",
        "cumsum",
        "unique",
        "count_nonzero",
        "dump",
        "ptp",
    ]
)
_CREATION = ("ops/_creation.py", "ops/_ranges.py")
_LIKE = frozenset(["zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"])


def file_of(code: CodeType) -> str | None:
    """The file of a function of distgrad, below the package; None for others."""
    path = code.co_filename
    return path[len(PACKAGE) :].replace(os.sep, "/") if path.startswith(PACKAGE) and path != WORKLOADS else None


def is_library(code: CodeType) -> bool:
    """Whether this is Python's own library, or NumPy."""
    path = code.co_filename
    if path.startswith((NUMPY, "<frozen")):
        return True
    return path.startswith(LIBRARY) and not path.startswith(SITE) and "site-packages" not in path


def refusal(file: str, code: CodeType) -> str | None:
    """Why a function of distgrad ends a recording; None if it does not."""
    if file in ("_tensor.py", "_tensor_form.py") and code.co_name not in _TENSOR:
        return f"it calls Tensor.{code.co_name}, which looks at values or at the graph while the step runs"
    if file == "autograd/_engine.py" and code not in (_engine.backward.__code__, *_HELPERS):
        return f"it calls autograd.{code.co_name}"
    if file == "nn/_lazy.py":
        return "a module is lazy"
    for place, reason in REASONS.items():
        if file.startswith(place) and not file.startswith(tuple(f for f in FILES if f.startswith(place))):
            return reason
    if file.startswith(FILES):
        return REASONS.get(file)
    return f"it calls {code.co_name} of distgrad.{file.removesuffix('.py').replace('/', '.')}"


_HELPERS = (_engine._listed.__code__,)


def reads_values(name: str) -> bool:
    """Whether a method of arrays brings values to Python."""
    return name in _READS


def is_creation(file: str, code: CodeType, arguments: Locals) -> bool | None:
    """Whether a function makes a tensor of plain numbers; None if it makes none."""
    if file not in _CREATION or code.co_name.startswith("_"):
        return None
    return code.co_name in _LIKE or not any(map(_holds_array, arguments.values()))


def _holds_array(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_array, value))
    return hasattr(value, "dtype") and hasattr(value, "shape")


# ---- what a replay calls again, as a whole ---------------------------------------------------------------------------


def _optimizer_step(given: Locals) -> Call:
    if given["args"] or given["kwargs"]:
        raise Unrecordable("optimizer.step() is given a closure")
    return _method(given, "step"), ()


def _method(given: Locals, name: str) -> Callable[..., Any]:
    """A method as it will be found when a replay calls it."""
    owner = given["self"]
    if name in vars(owner):
        raise Unrecordable(f"{type(owner).__name__}.{name} was replaced")
    return lambda *args: getattr(owner, name)(*args)


def _zero_grad(given: Locals) -> Call:
    return _method(given, "zero_grad"), (given["set_to_none"],)


def _scheduler_step(given: Locals) -> Call:
    if given["epoch"] is not None:
        raise Unrecordable("scheduler.step() is given an epoch")
    return _method(given, "step"), ()


def _parameters(value: Any) -> Any:
    """A generator made by `Module.parameters` as a list; it has not begun."""
    if isinstance(value, GeneratorType):
        begun = value.gi_frame
        if value.gi_code is not Module.parameters.__code__ or begun is None:
            raise Unrecordable("gradients are clipped of a generator; pass model.parameters() or a list")
        return list(begun.f_locals["self"].parameters(begun.f_locals["recurse"]))
    return list(value) if isinstance(value, (list, tuple)) else value


def _clip_norm(given: Locals) -> Call:
    rest = ("max_norm", "norm_type", "error_if_nonfinite", "foreach")
    return clip_grad_norm_, (_Fixed(_parameters(given["parameters"])), *(given[name] for name in rest))


def _clip_value(given: Locals) -> Call:
    return clip_grad_value_, (_Fixed(_parameters(given["parameters"])), given["clip_value"], given["foreach"])


def _count_batch(given: Locals) -> Call:
    return given["self"]._count_batch, ()


def _move_towards(given: Locals) -> Call:
    return _norm.move_towards, tuple(given[name] for name in ("running", "value", "momentum", "factor"))


def _check_indices(given: Locals) -> Call:
    return _embedding._check, (given["name"], given["indices"], given["weight"])


def _check_bounds(given: Locals) -> Call:
    return _scatter.check_bounds, tuple(given[name] for name in ("index", "n", "dim", "name"))


def _begin(given: Locals) -> Call:
    if given["joined"] is not None:
        raise Unrecordable("the model is inside a join() block")
    return given["self"].begin, (given["training"], None)


class _Fixed:
    """An argument that is handed over as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


HOSTS: dict[CodeType, Callable[[Locals], Call]] = {
    SGD.step.__code__: _optimizer_step,  # the wrapper with the hooks, which all optimizers share
    Optimizer.zero_grad.__code__: _zero_grad,
    Module.zero_grad.__code__: _zero_grad,
    ZeroRedundancyOptimizer.zero_grad.__code__: _zero_grad,
    LRScheduler.step.__code__: _scheduler_step,
    clip_grad_norm_.__code__: _clip_norm,
    clip_grad_value_.__wrapped__.__code__: _clip_value,  # type: ignore[attr-defined]
    _BatchNorm._count_batch.__code__: _count_batch,
    _norm.move_towards.__code__: _move_towards,
    _embedding._check.__code__: _check_indices,
    _scatter.check_bounds.__code__: _check_bounds,
    Reducer.begin.__code__: _begin,
}
# Functions without gradients, on raw arrays: replays call them with the tensors of the day. The shapes of their results
# follow from those of their arguments.
_WHOLE = [
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "isnan",
    "isinf",
    "isfinite",
    "isclose",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_not",
    "argmax",
    "argmin",
    "any",
    "all",
    "floor_divide",
    "argsort",
    "count_nonzero",
    "searchsorted",
    "bucketize",
    "isin",
]


def _as_it_is(function: Any) -> Callable[[Locals], Call]:
    code = function.__code__
    names, only = code.co_varnames[: code.co_argcount], code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]

    def call(given: Locals) -> Call:
        keywords = {name: given[name] for name in only if given[name] is not None}
        if any(map(_holds_array, keywords.values())):
            raise Unrecordable(f"{function.__name__}() is given a tensor by keyword")
        return functools.partial(function, **keywords) if keywords else function, tuple(given[n] for n in names)

    return call


HOSTS.update({spec.function.__code__: _as_it_is(spec.function) for name, spec in registry().items() if name in _WHOLE})

# Calls that are looked at from outside only: operations tell the recorder themselves.
OPERATION = apply.__code__
BACKWARD = _engine._execute.__code__
CURRENT_REDUCER = DistributedDataParallel._current_reducer.__code__
FACTOR = DistributedDataParallel._factor.__code__
