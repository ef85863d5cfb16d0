"""Primitives of oneDNN, made once for each shape and thread and run on NumPy arrays.

A family of kernels (`_conv.py` is one) is a `Family`, with a `Core` and the NumPy family that it falls back on::

    class _Relu:                                    # a plan: what is made once for a shape, layout and thread
        def __init__(self, local: Thread, shape: Shape) -> None:
            lib, layout = local.library, local.library.layout(shape, row_major(shape))
            about = lib.describe("eltwise_forward", FORWARD, ELTWISE_RELU, layout, layout, c_float(0), c_float(0))
            self.run = Primitive(local, about, {SRC: layout, DST: layout})

    def relu(self, x: Array) -> Array:
        plan = self._core.plan(_Relu, x.shape) if fits(x) else None
        if plan is None:                            # no library, or nothing fast in it for this
            return self._numpy.relu(x)
        out = np.empty(x.shape, x.dtype)
        plan.run(x, out)                            # one array for each argument, in that order
        return out

`plan` gives back the plan that this thread has made for the same arguments with the same number of threads, or makes
one. So an array must lie in memory as its plan says (`fits`, `contiguous`), and everything that decides about the plan
is among the arguments; what arrays held before, or where they lie, never is. Primitives share the thread's working
memory. Nothing here is called at import: the library is loaded by the first plan.
"""

import ctypes
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from ..._blas import thread_limit
from ..._environment import threads as _threads_of_rank
from ..._typing import Array, Shape
from ._library import Handle, Library, Unsupported, check

T = TypeVar("T")
K = TypeVar("K")

# Arguments of primitives, by oneDNN's numbers. The gradient of one is DIFF + its number.
SRC, DST, WEIGHTS, BIAS, WORKSPACE, SCRATCHPAD, DIFF = 1, 17, 33, 41, 64, 80, 128
# Queries for the layout that a primitive has settled on.
SRC_LAYOUT, WEIGHTS_LAYOUT, DST_LAYOUT, WORKSPACE_LAYOUT, SCRATCHPAD_LAYOUT = 129, 131, 133, 135, 136
DIFF_SRC_LAYOUT, DIFF_WEIGHTS_LAYOUT, DIFF_DST_LAYOUT = 130, 132, 134
FORWARD, FORWARD_INFERENCE, BACKWARD, BACKWARD_DATA, BACKWARD_WEIGHTS = 64, 96, 128, 160, 192

PLANS = 512  # that a thread keeps; each has kilobytes of code and memory, besides what weights take
_PAGE = 4096
_HEAD = object.__basicsize__  # an array begins as every object of Python; then comes the address (NumPy's C interface)


def _read_address(array: Array) -> int | None:
    """Where the data is; many times faster than ``array.ctypes.data``."""
    return ctypes.c_void_p.from_address(id(array) + _HEAD).value


def _ask_address(array: Array) -> int | None:
    return int(array.ctypes.data)


_PROBE = np.empty(1)
address_of = _read_address if _read_address(_PROBE) == _ask_address(_PROBE) else _ask_address


def row_major(shape: Shape) -> Shape:
    """The strides, in elements, of a C-contiguous array."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def on_a_page(size: int) -> Array:
    """New memory of that many bytes on a page's start."""
    whole = np.empty(size + _PAGE, dtype=np.uint8)
    start = -int(whole.ctypes.data) % _PAGE
    return whole[start : start + size]


class Thread:
    """What one thread keeps: its queue, its working memory and its plans."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.stream = library.stream()
        self.plans: dict[Hashable, Any] = {}
        self.limit: int | None = None
        self._memory: dict[str, Array] = {}

    def memory(self, name: str, size: int) -> Array:
        """At least `size` bytes on a page's start, which all that ask for `name` on this thread use in turn."""
        buffer = self._memory.get(name)
        if buffer is None or buffer.size < size:
            self._memory[name] = buffer = on_a_page(size + size // 4)
        return buffer


class Products:
    """A plan that there is where oneDNN may do matrix products: on one thread.

    With several, those of the BLAS, which does the other products, would wait for cores that oneDNN's hold.
    """

    def __init__(self, local: Thread) -> None:
        if local.library.get_threads() > 1:
            raise Unsupported("the threads of the BLAS do products")


class Primitive:
    """One primitive with its arguments, which is called with an array for each of `args`, in that order.

    Args:
        local: this thread's.
        description: from `Library.describe`.
        args: the number of each argument and its layout.
        inner: arguments in memory of our own, with their layouts.
        shared: arguments in `memory_without_place`, which the caller gives one with `Library.set_handle`.
        fast: whether the reference implementation is fast, too; that of recurrent layers is made of matrix products.

    Raises:
        Unsupported: there is only a reference implementation, which is slower than NumPy.
    """

    __slots__ = ("_args", "_count", "_execute", "_keep", "_primitive", "_set", "_stream", "_targets")

    def __init__(
        self, local: Thread, description: Handle, args: Mapping[int, Handle],
        inner: Mapping[int, tuple[Handle, Array]] | None = None, shared: Mapping[int, Handle] | None = None,
        fast: bool = False,
    ) -> None:  # fmt: skip
        library = local.library
        name = library.implementation(description)
        if name.startswith("ref") and not fast:
            raise Unsupported(f"only {name}")
        inner = dict(inner or {})
        scratchpad = library.layout_of(description, SCRATCHPAD_LAYOUT)
        size = library.size(scratchpad)
        if size:
            inner[SCRATCHPAD] = scratchpad, local.memory("scratchpad", size)
        memories = {number: _memory(library, layout, None) for number, layout in args.items()}
        targets = tuple(memories.values())
        memories.update((number, _memory(library, *place)) for number, place in inner.items())
        memories.update(shared or {})
        self._primitive = library.create("primitive", description)
        self._count = len(memories)
        self._args = (_Argument * self._count)(*(_Argument(number, m.value) for number, m in memories.items()))
        self._targets = tuple(memory.value for memory in targets)
        self._keep = memories, inner, local.stream
        self._stream = local.stream.value
        self._execute = library.execute
        self._set = library.set_handle

    def __call__(self, *arrays: Array) -> None:
        for target, array in zip(self._targets, arrays, strict=True):
            self._set(target, address_of(array))
        status = self._execute(self._primitive.value, self._stream, self._count, self._args)
        if status:
            check("primitive_execute", status)


class _Argument(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("memory", ctypes.c_void_p))


def _memory(library: Library, layout: Handle, array: Array | None) -> Handle:
    place = ctypes.c_void_p(None if array is None else address_of(array))
    return library.create("memory", layout, library.engine, place)


def memory_without_place(local: Thread, layout: Handle) -> Handle:
    """An argument that several primitives share."""
    return _memory(local.library, layout, None)


class _Local(threading.local):
    thread: Thread | None = None


class Core:
    """The library, when it is first needed, and the plans of each thread.

    Args:
        load: gives the library, or None where there is none; it is called once.
    """

    def __init__(self, load: Callable[[], Library | None]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._tried = False
        self._library: Library | None = None
        self._local = _Local()

    @property
    def library(self) -> Library | None:
        """The library, loaded by now, or None."""
        if not self._tried:
            with self._lock:
                if not self._tried:
                    self._library = self._load()
                    self._tried = True
        return self._library

    def plan(self, build: Callable[..., T], *key: Hashable) -> T | None:
        """What ``build(thread, *key)`` has made on this thread, now or earlier; None where oneDNN does not do that."""
        local = self._local.thread
        if local is None:
            local = self._enter()
            if local is None:
                return None
        if local.limit != thread_limit():
            _obey(local)
        name = (build, local.library.get_threads(), *key)
        try:
            return local.plans[name]  # type: ignore[no-any-return]
        except KeyError:
            return _make(local, name, build, key)

    def _enter(self) -> Thread | None:
        library = self.library
        if library is None:
            return None
        self._local.thread = local = Thread(library)
        if _threads_of_rank is not None:  # libgomp may have been loaded before distgrad chose
            library.set_threads(_threads_of_rank)
        return local


class Family(Generic[K]):
    """A family of kernels that uses oneDNN where it is faster.

    Args:
        core: the library.
        numpy: what computes the rest.
    """

    def __init__(self, core: Core, numpy: K) -> None:
        self._core = core
        self._numpy = numpy


def _obey(local: Thread) -> None:
    local.limit = thread_limit()
    if local.limit is not None:
        local.library.set_threads(local.limit)


def _make(local: Thread, name: Hashable, build: Callable[..., T], key: tuple[Hashable, ...]) -> T | None:
    plans = local.plans
    while len(plans) >= PLANS:
        del plans[next(iter(plans))]  # the oldest
    try:
        plan = build(local, *key)
    except Unsupported:
        plan = None
    plans[name] = plan
    return plan
