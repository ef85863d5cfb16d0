"""A stand-in for the module cupy, made of NumPy, for machines without a GPU.

Its arrays are no NumPy arrays and refuse to be mixed with them or turned into them, so host and device cannot be
confused. It has only what CuPy 14.2 has (`cupy_api.txt`): another name, or an argument that CuPy does not take, is an
error. Where CuPy's behaviour differs from NumPy's, it follows CuPy, as far as we know the differences:

* results without dimensions are arrays, and ``x[0]`` of a vector is a view;
* indices out of range wrap around; ``add.at`` takes some dtypes only; ``reduce`` and ``accumulate`` only sums and
  products;
* NumPy's functions do not take its arrays. (CuPy hands such calls back to itself. We want none.)

`state.syncs` counts how often the program had to wait for the device. There are two devices; memory is the host's.
Streams and events are in `fake_cuda`, NCCL is in `fake_nccl`.
"""

import functools
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.special

from distgrad.backend import _cupy as cupy_backend
from distgrad.backend import backends_by_array_type
from distgrad.backend._cupy import _optim as cupy_optim
from tests.backend import cuda_on_host, fake_cuda, fake_nccl
from tests.backend.cupy_api import Entry, read
from tests.backend.fake_cuda import Hold, Stream, current_stream, settle, state

API = read()
_ADDED = {"int32", "int64", "uint32", "uint64", "float16", "float32", "float64"}
_AT = {"add": _ADDED, "subtract": {"int32", "uint32"}, **dict.fromkeys(("maximum", "minimum"), _ADDED - {"float16"})}
_REDUCED = {"add": "sum", "multiply": "prod"}
_ACCUMULATED = {"add": "cumsum", "multiply": "cumprod"}
_TAKES_HOST = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "full", "full_like", "asnumpy"}


def _host(value: Any, take_host: bool = False) -> Any:
    """What NumPy computes with in the place of `value`; device arrays also in lists, tuples and dicts."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray) and not take_host:
        raise TypeError(f"Unsupported type {np.ndarray}: an array in host memory among arrays on the device")
    if type(value) in (list, tuple):
        return type(value)(_host(v, take_host) for v in value)
    if isinstance(value, dict):
        return {k: _host(v, take_host) for k, v in value.items()}
    return value


def _device(value: Any) -> Any:
    """NumPy's result with every array in it on the device."""
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray._of(np.asarray(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_device, value))
    return type(value)(map(_device, value)) if type(value) in (list, tuple) else value


def _check_arguments(name: str, entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if "*" in entry.arguments:
        return
    if len(args) > len(entry.arguments):
        raise TypeError(f"cupy.{name} takes {len(entry.arguments)} arguments, got {len(args)}")
    unknown = kwargs.keys() - set(entry.arguments)
    if unknown:
        raise TypeError(f"cupy.{name} has no argument {sorted(unknown)}")


def _waits() -> None:
    state.syncs += 1


class Flags:
    """What CuPy's flags tell; there is no `writeable`."""

    def __init__(self, host: "np.ndarray[Any, Any]") -> None:
        self.c_contiguous, self.f_contiguous = host.flags.c_contiguous, host.flags.f_contiguous
        self.owndata = host.flags.owndata


class ndarray:
    """An array on the fake device, around one in host memory."""

    __slots__ = ("__weakref__", "_hold", "_raw", "_where")
    __array_ufunc__ = None  # NumPy's operators leave a mixed operation to ours, which refuse
    __hash__ = None  # type: ignore[assignment]

    _raw: Any
    _where: int
    _hold: Hold | None

    @property
    def _host(self) -> Any:
        """What is in the memory when all that the current stream was given is done."""
        settle()
        return self._raw

    @classmethod
    def _of(cls, host: Any, where: int | None = None) -> "ndarray":
        self = cls.__new__(cls)
        self._raw, self._where = host.view(np.ndarray), state.device if where is None else where
        self._hold = Hold(self._raw) if state.late else None
        return self

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called with an array on the device")

    # ---- what it is ----
    @property
    def flags(self) -> Flags:
        return Flags(self._raw)

    @property
    def device(self) -> Any:
        return Device(self._where)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._raw.ctypes.data)

    @property
    def base(self) -> Any:
        return None if self._raw.base is None else ndarray._of(self._raw.base, self._where)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self._raw.__array_interface__, version=3, stream=1)

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator["ndarray"]:
        if self._raw.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._raw)))

    # ---- to the host and back ----
    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        if out is None:
            out, blocking = np.empty_like(self._raw, order="K" if order == "A" else order), True
        elif not isinstance(out, np.ndarray) or out.dtype != self._raw.dtype or out.shape != self._raw.shape:
            raise TypeError("get: `out` must be a NumPy array of the same dtype and shape")
        fake_cuda.to_host(self._raw, out, stream or current_stream(), blocking)
        return out

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray) or arr.dtype != self._raw.dtype or arr.shape != self._raw.shape:
            raise TypeError("set: only a NumPy array of the same dtype and shape can be set")
        if not (self._raw.flags.c_contiguous or self._raw.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        fake_cuda.to_device(arr, self._raw, stream or current_stream())

    def item(self) -> Any:
        _waits()
        return self._host.item()

    def tolist(self) -> Any:
        _waits()
        return self._host.tolist()

    def __bool__(self) -> bool:
        _waits()
        return bool(self._host)

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __format__(self, specification: str) -> str:
        return format(self.get(), specification)

    def __reduce__(self) -> Any:
        return _restored, (self.get(),)

    def __copy__(self) -> "ndarray":
        return _device(self._host.copy())

    def __deepcopy__(self, memo: Any) -> "ndarray":
        return self.__copy__()

    # ---- indices ----
    def __getitem__(self, index: Any) -> "ndarray":
        return ndarray._of(_view(self, lambda raw: raw[_index(raw, index)]), self._where)

    def __setitem__(self, index: Any, value: Any) -> None:
        place = _index(self._raw, index)
        basic = not any(isinstance(p, np.ndarray) for p in place)
        if isinstance(value, np.ndarray) and value.ndim and basic:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if state.late and basic and isinstance(value, (ndarray, bool, int, float)):
            target, source = self._raw, value._raw if isinstance(value, ndarray) else value
            np.broadcast_to(source, target[place].shape)  # an error comes at once
            current_stream().queue.add(lambda: target.__setitem__(place, source))
            return
        self._host[place] = _host(value, take_host=True)


def _restored(host: Any) -> ndarray:
    return ndarray._of(host)


def _view(array: ndarray, function: Callable[[Any], Any]) -> Any:
    """What NumPy's function returns: a view needs no values yet, a copy does."""
    result = function(array._raw)
    if isinstance(result, np.ndarray) and np.may_share_memory(result, array._raw):
        return result
    return function(array._host)


def _index(array: Any, index: Any) -> tuple[Any, ...]:
    """The index for NumPy: arrays as they lie in host memory, out-of-range places wrapped, never a scalar result."""
    parts = [_plain_part(p) for p in (index if isinstance(index, tuple) else (index,))]
    if sum(isinstance(p, np.ndarray) and p.dtype == np.bool_ for p in parts) > 1:
        raise NotImplementedError("more than one boolean array in an index")
    taken = sum(p.ndim if isinstance(p, np.ndarray) and p.dtype == np.bool_ else p is not None for p in parts)
    taken -= sum(p is Ellipsis for p in parts)
    axis, found = 0, []
    for part in parts:
        if part is Ellipsis:
            axis += array.ndim - taken
        elif isinstance(part, np.ndarray) and part.dtype == np.bool_:
            axis += part.ndim
        elif part is not None:
            size = array.shape[axis] if axis < array.ndim else 0
            if isinstance(part, np.ndarray) and size:
                part = part % size
            axis += 1
        found.append(part)
    return tuple(found) if any(p is Ellipsis for p in found) else (*found, Ellipsis)


def _plain_part(part: Any) -> Any:
    if isinstance(part, ndarray):
        return part._host
    if isinstance(part, (list, tuple)):  # CuPy, too, copies lists to the device
        host = np.asarray(_host(part, take_host=True))
        return host if host.size else host.astype(np.int64)
    return np.asarray(part) if isinstance(part, (bool, np.bool_)) else part


# ---- methods and operators -------------------------------------------------------------------------------------------


_VIEWS = ("view", "reshape", "ravel", "transpose", "swapaxes", "squeeze")


def _method(name: str, entry: Entry) -> Callable[..., Any]:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        _check_arguments(f"ndarray.{name}", entry, args, kwargs)
        if name == "nonzero" and self._raw.ndim == 0:
            raise ValueError("Calling nonzero on 0d arrays is not allowed.")
        if name in ("nonzero", "tobytes"):
            _waits()
        if name == "take":
            args = (_wrapped(self._raw, args[0], args[1] if len(args) > 1 else kwargs.get("axis")), *args[1:])
        with np.errstate(all="ignore"):
            if name in _VIEWS:
                result = _view(self, lambda raw: getattr(raw, name)(*args, **kwargs))
            else:
                result = getattr(self._host, name)(*_host(args), **_host(kwargs))
        out = kwargs.get("out")
        return out if out is not None else _device(result)

    return method


def _wrapped(array: Any, indices: Any, axis: int | None) -> Any:
    size = array.size if axis is None else array.shape[axis]
    host = np.asarray(_host(indices))
    return host % size if size else host


def _operator(name: str) -> Callable[..., Any]:
    reflected = name.startswith("__r") and name not in ("__rshift__", "__repr__")
    plain = f"__{name[3:]}" if reflected else name
    function = divmod if "divmod" in name else getattr(operator, plain)

    def method(self: ndarray, *other: Any) -> Any:
        if other and not isinstance(other[0], (ndarray, np.ndarray, np.generic, int, float, complex)):
            return NotImplemented
        if state.late and name.startswith("__i") and name != "__invert__" and not isinstance(other[0], np.ndarray):
            target, source = self._raw, other[0]._raw if isinstance(other[0], ndarray) else other[0]
            np.broadcast_to(source, target.shape)  # an error comes at once
            current_stream().queue.add(lambda: _ignoring(function, target, source))
            return self
        operands = (self._host, *_host(other))
        with np.errstate(all="ignore"):
            result = function(*(operands[::-1] if reflected else operands))
        return self if result is self._host else _device(result)

    return method


def _ignoring(function: Callable[..., Any], *operands: Any) -> None:
    with np.errstate(all="ignore"):
        function(*operands)


def _property(name: str) -> property:
    return property(lambda self: _device(getattr(self._raw, name)))


_OPERATORS = "add sub mul truediv floordiv mod divmod pow matmul lshift rshift and or xor"
for _name in _OPERATORS.split():
    for _form in (f"__{_name}__", f"__r{_name}__", f"__i{_name}__"):
        if f"ndarray.{_form}" in API:
            setattr(ndarray, _form, _operator(_form))
for _name in ("neg", "pos", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
for _name, _entry in API.items():
    _short = _name.removeprefix("ndarray.")
    if _name == _short or _short in ndarray.__dict__:
        continue
    if _entry.kind == "method":
        setattr(ndarray, _short, _method(_short, _entry))
    elif _entry.kind == "property" and hasattr(np.ndarray, _short):
        setattr(ndarray, _short, _property(_short))


# ---- functions -------------------------------------------------------------------------------------------------------


class ufunc:
    """A ufunc with the methods, arguments and dtypes that CuPy's has."""

    def __init__(self, name: str, function: Any, entry: Entry) -> None:
        self.name, self._function, self._dtypes = name, function, entry.dtypes
        self.nin, self.nout = map(int, entry.arguments)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        unknown = kwargs.keys() - {"out", "dtype", "casting"}
        if unknown:
            raise TypeError(f"Wrong arguments {sorted(unknown)}")
        if "E" not in self._dtypes and any(getattr(a, "dtype", np.dtype(bool)).char == "E" for a in args):
            raise TypeError(f"cupy.{self.name} does not take bfloat16")
        if not any(isinstance(a, ndarray) for a in args):
            args = tuple(np.asarray(a) for a in _host(args))
        out = kwargs.get("out", args[self.nin] if len(args) > self.nin and self.nout == 1 else None)
        with np.errstate(all="ignore"):
            result = _device(self._function(*_host(args), **_host(kwargs)))
        return result if out is None else out[0] if isinstance(out, tuple) else out

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.name not in _AT:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        if a.dtype.name not in _AT[self.name]:
            raise TypeError(f"cupy.{self.name}.at does not take {a.dtype.name}")
        self._function.at(a._host, _index(a._host, indices), np.asarray(_host(b)).astype(a.dtype))

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._by(_REDUCED, "reduce")(array, axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def accumulate(self, array: ndarray, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        return self._by(_ACCUMULATED, "accumulate")(array, axis=axis, dtype=dtype, out=out)

    def _by(self, methods: dict[str, str], what: str) -> Callable[..., Any]:
        if self.name not in methods:
            raise NotImplementedError(f"`{self.name}.{what}` is not supported yet")
        return getattr(ndarray, methods[self.name])  # type: ignore[no-any-return]


def _function(name: str, function: Any, entry: Entry) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        _check_arguments(name, entry, args, kwargs)
        take_host = name in _TAKES_HOST
        if name in ("unique", "nonzero", "flatnonzero", "argwhere", "histogram", "bincount"):
            _waits()
        if name in ("take", "take_along_axis"):
            axis = args[2] if len(args) > 2 else kwargs.get("axis", -1 if name == "take_along_axis" else None)
            args = (args[0], _device(_wrapped(_host(args[0]), args[1], axis)), *args[2:])
        with np.errstate(all="ignore"):
            result = function(*_host(args, take_host), **_host(kwargs, take_host))
        if name == "full" and np.ndim(result):
            result = np.ascontiguousarray(result)
        out = kwargs.get("out")
        if out is not None:
            return out
        return _device(np.asarray(result) if name in ("allclose", "array_equal") else result)

    return call


def _linalg(name: str, function: Any, entry: Entry) -> Callable[..., Any]:
    """CuPy answers a singular matrix with garbage, unless it was told to raise."""
    plain = _function(f"linalg.{name}", function, entry)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return plain(*args, **kwargs)
        except np.linalg.LinAlgError:
            if state.linalg == "raise":
                raise
            return _device(np.full(args[0].shape, np.nan, args[0].dtype))

    return call


def _solve(a: Any, b: Any) -> Any:
    if b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:
        raise ValueError("a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b")
    return np.linalg.solve(a, b)


def _searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    if a.ndim != 1 or not isinstance(v, (np.ndarray, int, float, complex)):
        raise NotImplementedError("searchsorted: Only python scalars or ndarrays are supported for v")
    return np.searchsorted(a, v, side, sorter)


def _argsort(a: Any, axis: Any = -1, kind: Any = None) -> Any:
    if kind not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
    return np.argsort(a, axis, kind="stable")


def _matmul(*args: Any, **kwargs: Any) -> Any:
    if any(a.ndim > 2 and a.dtype.char == "E" for a in args):
        raise TypeError("matmul of stacked bfloat16 matrices is not supported")
    result = np.matmul(*args, **kwargs)
    return result.astype(args[0].dtype) if args[0].dtype.char == "E" else result


_OWN = {"matmul": _matmul, "solve": _solve, "searchsorted": _searchsorted, "argsort": _argsort}
"""What differs from NumPy's function of that name."""


# ---- the device ------------------------------------------------------------------------------------------------------


class Device:
    """One of two devices."""

    def __init__(self, device: int | None = None) -> None:
        self.id = state.device if device is None else int(device)
        self._before: list[int] = []

    def use(self) -> "Device":
        state.device = self.id
        return self

    def synchronize(self) -> None:
        with self:
            fake_cuda.synchronize_device()

    def __enter__(self) -> "Device":
        self._before.append(state.device)
        return self.use()

    def __exit__(self, *error: Any) -> None:
        state.device = self._before.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id


class RawModule:
    """CUDA source, compiled as C++ and run on the CPU."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self._code = code
        cuda_on_host.build(code)

    def get_function(self, name: str) -> Callable[..., None]:
        def kernel(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            for a in args:
                if not (a is None or isinstance(a, (ndarray, np.generic))):
                    raise TypeError(f"a kernel's argument must be an array or a NumPy scalar, got {type(a).__name__}")
            cuda_on_host.launch(self._code, name, grid[0], block[0], _host(args))

        return kernel


def _pool() -> Any:
    return SimpleNamespace(used_bytes=lambda: 1024, total_bytes=lambda: 4096, free_all_blocks=lambda: None)


def _module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(members)
    return module


def _missing(name: str) -> Callable[[str], Any]:
    def attribute(wanted: str) -> Any:
        raise AttributeError(f"{name} has no {wanted!r} (or the stand-in does not know it)")

    return attribute


_TYPES = (np.generic, np.dtype, np.finfo, np.iinfo)


def _make() -> tuple[ModuleType, ModuleType]:
    """The modules cupy and cupyx.scipy.special."""
    linalg, special, top = _module("cupy.linalg"), _module("cupyx.scipy.special"), _module("cupy")
    for name, entry in API.items():
        prefix, _, short = name.rpartition(".")
        if prefix not in ("", "linalg", "special"):
            continue
        source = {"": np, "linalg": np.linalg, "special": scipy.special}[prefix]
        target = {"": top, "linalg": linalg, "special": special}[prefix]
        value = _OWN[short] if short in _OWN else getattr(source, short, None)
        if value is None:
            continue
        if entry.kind == "ufunc":
            setattr(target, short, ufunc(short, value, entry))
        elif entry.kind == "function":
            setattr(target, short, (_linalg if prefix == "linalg" else _function)(short, value, entry))
        elif isinstance(value, float) or (isinstance(value, type) and issubclass(value, _TYPES)):
            setattr(target, short, value)
    properties = {"name": b"stand-in", "major": 9, "minor": 0}
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 2, getDeviceProperties=lambda number: properties, memGetInfo=lambda: (1 << 20, 1 << 30),
        deviceGetPCIBusId=lambda number: f"{fake_nccl.machine()}:{number:02x}:00.0",
        hostRegister=fake_cuda.host_register, hostUnregister=fake_cuda.host_unregister,
        CUDARuntimeError=fake_cuda.CUDARuntimeError,
    )  # fmt: skip
    cuda = SimpleNamespace(
        Device=Device, Stream=Stream, Event=fake_cuda.Event, get_current_stream=current_stream, runtime=runtime,
        alloc_pinned_memory=fake_cuda.alloc_pinned_memory,
    )  # fmt: skip
    name = "lib.stride_tricks.as_strided"
    strided = _function(name, np.lib.stride_tricks.as_strided, API[name])
    top.__dict__.update(
        ndarray=ndarray, ufunc=ufunc, linalg=linalg, RawModule=RawModule, is_available=lambda: True, newaxis=None,
        asnumpy=lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a),
        get_default_memory_pool=_pool, cuda=cuda,
        lib=SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=strided)),
    )  # fmt: skip
    for module in (linalg, special, top):
        module.__dict__["__getattr__"] = _missing(module.__name__)
    return top, special


cupy, special = _make()


def _seterr(*, linalg: str) -> None:
    state.linalg = linalg


@contextmanager
def installed(late: bool = False) -> Iterator[ModuleType]:
    """Inside, the stand-in is what ``import cupy`` finds, and ``"cuda"`` means its first device; `late` as in State."""
    modules = {
        "cupy": cupy,
        "cupyx": _module("cupyx", seterr=_seterr),
        "cupyx.scipy.special": special,
        "cupy.cuda.nccl": fake_nccl.module,
    }
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    _forget()
    state.reset()
    state.late = late
    plain = cupy_optim._plain
    if cuda_on_host.compiler() is None:
        cupy_optim._plain = lambda arrays: False  # type: ignore[assignment]
    try:
        yield cupy
    finally:
        fake_nccl.abort_all()
        state.late = False
        cupy_optim._plain = plain
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        backends_by_array_type.pop(ndarray, None)
        _forget()


def _forget() -> None:
    """Lets the backend look for CuPy anew."""
    cupy_backend._load._find.cache_clear()
    cupy_backend.cuda_backend.cache_clear()
