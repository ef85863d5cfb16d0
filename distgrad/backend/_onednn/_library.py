"""oneDNN's shared library, called by ctypes.

Found only where somebody wanted it: as the file that `DISTGRAD_ONEDNN` names, else as the wheel `onednn-cpu-gomp` of
this Python, never as a library of the system by chance. It is loaded when it is first used.

Source: the C interface of oneDNN 3, https://oneapi-src.github.io/oneDNN/v3.2/.
"""

import ctypes
import functools
import importlib
import os
from collections.abc import Sequence
from typing import Any

from ..._environment import openmp_that_sleeps
from ..._typing import Shape
from ...errors import DistgradError

WHEEL = "onednn-cpu-gomp"
OFF = "0"  # the value of DISTGRAD_ONEDNN that means no

_STATUS = (
    "success", "out of memory", "invalid arguments", "unimplemented", "last implementation", "runtime error",
    "not required", "invalid graph", "invalid graph operation", "invalid shape", "invalid data type",
)  # fmt: skip
_UNIMPLEMENTED = (2, 3)  # what oneDNN does not take; "invalid arguments" includes sizes that it does not allow
_CPU, _IN_ORDER, _F32 = 1, 1, 3
_ANY = 1  # the format tag with which oneDNN may choose the layout
_MAX_DIMS = 12
_USER_SCRATCHPAD = 1
_WHAT_IMPLEMENTATION = 8  # dnnl_query_impl_info_str

_Dims = ctypes.c_int64 * _MAX_DIMS
_MATRIX = ctypes.c_void_p, ctypes.c_int64
_SGEMM = (ctypes.c_char,) * 2 + (ctypes.c_int64,) * 3 + (ctypes.c_float, *_MATRIX, *_MATRIX, ctypes.c_float, *_MATRIX)


class OneDnnError(DistgradError, RuntimeError):
    """A call of oneDNN failed; the message names the call and the status."""


class Unsupported(OneDnnError):
    """oneDNN has no implementation for this."""


def find(setting: str) -> str | None:
    """The file to load, or None.

    Args:
        setting: what `DISTGRAD_ONEDNN` says: ``"0"`` for no, a file, or nothing, which means the wheel.
    """
    if setting == OFF:
        return None
    return setting or _in_wheel()


def _in_wheel() -> str | None:
    metadata = importlib.import_module("importlib.metadata")  # takes milliseconds, and few processes need it
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        return None
    paths = (os.path.realpath(file.locate()) for file in files if file.name == "libdnnl.so.3")
    return next(filter(os.path.exists, paths), None)


@functools.cache
def load(path: str) -> "Library":
    """The library of this file, loaded once.

    Raises:
        OneDnnError: it cannot be used; the message says why, and how to mend it.
    """
    try:
        return Library(path)
    except (OSError, AttributeError, OneDnnError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        fix = f"install `{WHEEL}` and libgomp, or set DISTGRAD_ONEDNN=0 on every rank to do without"
        raise OneDnnError(f"{path}: {reason}; {fix}") from error


class Handle:
    """An object of oneDNN, destroyed with this; ctypes takes it as an argument."""

    __slots__ = ("_as_parameter_", "_destroy", "value")

    def __init__(self, value: int, destroy: Any) -> None:
        self.value = value
        self._as_parameter_ = ctypes.c_void_p(value)
        self._destroy = destroy

    def __del__(self) -> None:
        self._destroy(self._as_parameter_)


class Library:
    """The functions of one loaded libdnnl, and its engine for the CPU.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be loaded.
        OneDnnError: it is not oneDNN 3, or not one with OpenMP.
    """

    def __init__(self, path: str) -> None:
        with openmp_that_sleeps():
            self._calls = ctypes.CDLL(path)  # lets other threads run meanwhile
        self._short = ctypes.PyDLL(path)  # for calls that take less than that costs
        self.path = path
        self.version = self._read_version()
        self.execute = self._calls.dnnl_primitive_execute
        self.execute.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self.set_handle = self._short.dnnl_memory_set_data_handle
        self.set_handle.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self.sgemm = self._calls.dnnl_sgemm
        self.sgemm.argtypes = _SGEMM
        self._calls.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
        self._calls.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
        self.get_threads = self._short.omp_get_max_threads
        self.set_threads = self._short.omp_set_num_threads
        self.engine = self.create("engine", _CPU, ctypes.c_size_t(0))
        self._attributes = self.attributes()
        # A child by fork has none of libgomp's threads, and would wait for them for ever.
        os.register_at_fork(after_in_child=self._have_one_thread)

    def _have_one_thread(self) -> None:
        self.set_threads(1)

    def _read_version(self) -> str:
        version = self._calls.dnnl_version
        version.restype = ctypes.POINTER(ctypes.c_int)
        numbers = version()[:3]
        if numbers[0] != 3:
            raise OneDnnError(f"expected oneDNN 3, got {numbers[0]}.{numbers[1]}")
        return ".".join(map(str, numbers))

    def call(self, name: str, *args: Any) -> None:
        """Call ``dnnl_<name>``.

        Raises:
            Unsupported: oneDNN does not offer what the arguments ask for.
            OneDnnError: the call failed.
        """
        check(name, getattr(self._calls, f"dnnl_{name}")(*args))

    def create(self, name: str, *args: Any, of: str | None = None) -> Handle:
        """A new object, by ``dnnl_<name>_create``, or ``dnnl_<name>_<of>``."""
        value = ctypes.c_void_p()
        self.call(f"{name}_{of or 'create'}", ctypes.byref(value), *args)
        assert value.value is not None
        return Handle(value.value, getattr(self._calls, f"dnnl_{name}_destroy"))

    def attributes(self) -> Handle:
        """New attributes of a primitive, with the scratchpad the caller's."""
        made = self.create("primitive_attr")
        self.call("primitive_attr_set_scratchpad_mode", made, _USER_SCRATCHPAD)
        return made

    def describe(self, kind: str, *args: Any, attributes: Handle | None = None) -> Handle:
        """The description of a primitive, by ``dnnl_<kind>_primitive_desc_create(engine, *args, attributes)``.

        Its scratchpad is the caller's. Pass enumerations as int, sizes by `dims`, numbers as ctypes.c_float;
        attributes from `attributes`, where there are others.
        """
        value = ctypes.c_void_p()
        name = f"{kind}_primitive_desc_create"
        self.call(name, ctypes.byref(value), self.engine, *args, attributes or self._attributes)
        assert value.value is not None
        return Handle(value.value, self._calls.dnnl_primitive_desc_destroy)

    def describe_reorder(self, source: Handle, target: Handle) -> Handle:
        """The description of a copy from one layout into another."""
        value = ctypes.c_void_p()
        engine = self.engine
        self.call(
            "reorder_primitive_desc_create", ctypes.byref(value), source, engine, target, engine, self._attributes
        )
        assert value.value is not None
        return Handle(value.value, self._calls.dnnl_primitive_desc_destroy)

    def layout(self, shape: Shape, strides: Sequence[int]) -> Handle:
        """A memory descriptor: float32 of this shape, with strides in elements."""
        sizes = dims(shape)
        return self.create("memory_desc", len(shape), sizes, _F32, dims(strides), of="create_with_strides")

    def any_layout(self, shape: Shape) -> Handle:
        """A memory descriptor: float32 of this shape, in the layout that a primitive likes best."""
        return self.create("memory_desc", len(shape), dims(shape), _F32, _ANY, of="create_with_tag")

    def layout_of(self, description: Handle, what: int, index: int = 0) -> Handle:
        """The memory descriptor that a primitive has settled on; `what` is one of dnnl_query_*_md, of which there may
        be several."""
        found = ctypes.c_void_p(self._calls.dnnl_primitive_desc_query_md(description, what, index))
        return self.create("memory_desc", found, of="clone")

    def same_layout(self, first: Handle, second: Handle) -> bool:
        """Whether two memory descriptors are equal."""
        return bool(self._calls.dnnl_memory_desc_equal(first, second))

    def size(self, layout: Handle) -> int:
        """Bytes of a memory descriptor; 0 for an empty one."""
        return int(self._calls.dnnl_memory_desc_get_size(layout))

    def implementation(self, description: Handle) -> str:
        """The name of the implementation, such as ``"brgconv:avx512_core"``; it begins with "ref" for slow ones."""
        text = ctypes.c_char_p()
        self.call("primitive_desc_query", description, _WHAT_IMPLEMENTATION, 0, ctypes.byref(text))
        return (text.value or b"").decode()

    def stream(self) -> Handle:
        """A queue; on a CPU, what enters is done at once by the calling thread and its team."""
        return self.create("stream", self.engine, _IN_ORDER)


def dims(values: Sequence[int]) -> Any:
    """Sizes, strides or paddings as oneDNN takes them."""
    return _Dims(*values)


def check(name: str, status: int) -> None:
    """Raise what a status other than 0 means."""
    if status:
        kind = Unsupported if status in _UNIMPLEMENTED else OneDnnError
        what = _STATUS[status] if status < len(_STATUS) else f"status {status}"
        raise kind(f"dnnl_{name}: {what}")
