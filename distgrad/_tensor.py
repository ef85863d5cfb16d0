"""The Tensor: torch's class, on an array and a place in the graph."""

import copy as _copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import ops
from ._tensor_str import tensor_str
from ._typing import Array
from .autograd import backward
from .autograd._base import LEAF_MARK, TensorBase, check_can_require_grad, register_tensor_class, sync_view, wrap
from .autograd._inplace import become_view, check_writable, replace_values, wrote
from .autograd._node import HookHandle, Node, next_sequence
from .backend import OF_NUMPY, backend_of, device, dtype, get_default_dtype
from .errors import AutogradError, DTypeError, ShapeError


class Size(tuple[int, ...]):
    """The shape of a tensor; prints as torch's."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements."""
        result = 1
        for n in self:
            result *= n
        return result

    def __repr__(self) -> str:
        return f"distgrad.Size({list(self)})"

    def __getitem__(self, index: Any) -> Any:
        result = tuple.__getitem__(self, index)
        return Size(result) if isinstance(result, tuple) else result

    def __add__(self, other: Any) -> "Size":
        return Size(tuple(self) + tuple(other))

    def __radd__(self, other: Any) -> "Size":
        return Size(tuple(other) + tuple(self))

    def __mul__(self, count: Any) -> "Size":
        return Size(tuple(self) * count)

    __rmul__ = __mul__


def _inplace(function: Callable[..., Any]) -> Callable[..., "Tensor"]:
    """The in-place form of an operation: its result's values and history become the tensor's own."""
    name = function.__name__ + "_"

    def method(self: "Tensor", *args: Any, **kwargs: Any) -> "Tensor":
        since = next_sequence()
        return replace_values(self, function(self, *args, **kwargs), name, since)  # type: ignore[no-any-return]

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place form of `{function.__name__}`."
    return method


def _reshaped(function: Callable[..., Any]) -> Callable[..., "Tensor"]:
    """The in-place form of an operation that gives a view: the tensor becomes that view of its memory."""
    name = function.__name__ + "_"

    def method(self: "Tensor", *args: Any, **kwargs: Any) -> "Tensor":
        return become_view(self, function(self, *args, **kwargs))  # type: ignore[no-any-return]

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place form of `{function.__name__}`."
    return method


def _reflected(function: Callable[..., Any]) -> Callable[..., "Tensor"]:
    """The operator for a number or array on the left."""

    def method(self: "Tensor", other: Any) -> "Tensor":
        return function(other, self)  # type: ignore[no-any-return]

    return method


class Tensor(TensorBase):
    """An n-dimensional array that can record the operations on it. Made by `tensor`, `zeros`, `randn` and their like.

    ``Tensor(data)`` copies `data` in the default dtype; ``Tensor(2, 3)`` is an uninitialised tensor of that shape.
    """

    __array_priority__ = 1000  # ndarray op tensor is the tensor's business

    def __init__(self, *data: Any) -> None:
        if len(data) == 1 and not isinstance(data[0], int):
            array = np.array(ops.tensor(data[0])._data, dtype=get_default_dtype().numpy)
        else:
            array = np.empty(data if data else (0,), dtype=get_default_dtype().numpy)
        self._data = array
        self._target = None
        self._cell = [0, 0]
        self._base = None
        self._grad = None
        self._extra = None

    # ---- what it is ----
    @property
    def shape(self) -> Size:
        """The size of each dimension."""
        return Size(self._data.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        return Size(self._data.shape) if dim is None else self._data.shape[dim]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim  # type: ignore[no-any-return]

    def dim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim  # type: ignore[no-any-return]

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size  # type: ignore[no-any-return]

    nelement = numel

    @property
    def dtype(self) -> dtype:
        """The type of the elements."""
        return OF_NUMPY[self._data.dtype]

    @property
    def device(self) -> device:
        """Where the memory is."""
        return backend_of(self._data).device_of(self._data)

    @property
    def is_cuda(self) -> bool:
        """Whether the memory is a GPU's."""
        return backend_of(self._data).type == "cuda"

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self._data.itemsize  # type: ignore[no-any-return]

    def element_size(self) -> int:
        """Bytes per element."""
        return self._data.itemsize  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return self._data.nbytes  # type: ignore[no-any-return]

    def stride(self, dim: int | None = None) -> Any:
        """The step in elements along each dimension, or along one."""
        steps = tuple(n // self._data.itemsize for n in self._data.strides)
        return steps if dim is None else steps[dim]

    def is_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        return bool(self._data.flags.c_contiguous)

    def storage_offset(self) -> int:
        """Where the first element lies in the memory of the tensor that this is a view of, in elements."""
        base = self if self._base is None else self._base
        backend = backend_of(self._data)
        distance = backend.address(self._data) - backend.address(base._data)
        return distance // int(self._data.itemsize)

    def is_same_size(self, other: "Tensor") -> bool:
        """Whether both have one shape."""
        return bool(self._data.shape == other._data.shape)

    def is_signed(self) -> bool:
        """Whether the dtype holds negative values."""
        return self.dtype.is_signed

    def get_device(self) -> int:
        """The number of the GPU; -1 on the CPU."""
        index = self.device.index
        return -1 if index is None else index

    def pin_memory(self) -> "Tensor":
        """The tensor itself: copies to a GPU go through pinned memory by themselves."""
        return self

    def is_pinned(self) -> bool:
        """False: memory is pageable."""
        return False

    def is_inference(self) -> bool:
        """False: tensors made in `inference_mode` are ordinary ones."""
        return False

    layout = ops.strided
    is_sparse = is_quantized = is_meta = is_nested = is_mkldnn = False

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating-point one."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the dtype is a complex one."""
        return self.dtype.is_complex

    def data_ptr(self) -> int:
        """The address of the first element."""
        return backend_of(self._data).address(self._data)

    # ---- autograd ----
    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded."""
        if self._base is not None:
            sync_view(self)
        return self._target is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        """Starts or stops the recording of operations on this leaf.

        Raises:
            AutogradError: this is no leaf, or not of a floating-point dtype.
        """
        if self._target is not None and self._target is not LEAF_MARK:
            if not requires_grad:
                raise AutogradError(
                    "you can only change requires_grad flags of leaf tensors; use detach() to cut the history"
                )
            return self
        if requires_grad:
            check_can_require_grad(self._data)
        self._target = LEAF_MARK if requires_grad else None
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by the user, not by a recorded operation."""
        if self._base is not None:
            sync_view(self)
        return self._target is None or self._target is LEAF_MARK

    @property
    def grad_fn(self) -> "Node | None":
        """The node that made this tensor; None for a leaf."""
        if self.is_leaf:
            return None
        target = self._target
        return target if isinstance(target, Node) else target.node

    @property
    def output_nr(self) -> int:
        """Which of its node's outputs this is."""
        return 0 if self.is_leaf or isinstance(self._target, Node) else int(self._target.index)

    @property
    def grad(self) -> "Tensor | None":
        """The gradient that backward() summed here; None before."""
        return self._grad  # type: ignore[no-any-return]

    @grad.setter
    def grad(self, value: "Tensor | None") -> None:
        if value is None:
            self._grad = None
            return
        if not isinstance(value, TensorBase):
            raise TypeError(f"expected the gradient to be a Tensor or None, got {type(value).__name__}")
        if value._data.shape != self._data.shape:
            raise ShapeError(
                f"expected a gradient of the tensor's shape {list(self._data.shape)}, got {list(value._data.shape)}"
            )
        if value._data.dtype != self._data.dtype:
            raise DTypeError(
                f"expected a gradient of the tensor's dtype {self.dtype}, got {OF_NUMPY[value._data.dtype]}"
            )
        slot = None if self._extra is None else self._extra.grad_slot
        if slot is None or value is slot:
            self._grad = value
        else:
            slot._data[...] = value._data
            self._grad = slot

    @property
    def data(self) -> "Tensor":
        """The same memory without history, whose writes autograd does not see."""
        return wrap(self._data)

    @data.setter
    def data(self, value: "Tensor") -> None:
        if not isinstance(value, TensorBase):
            raise TypeError(f"expected .data to be a Tensor, got {type(value).__name__}")
        self._set_data(value._data)

    def _set_data(self, array: Array) -> None:
        """Takes another array; a parameter in an arena copies into its slot, or leaves the arena where it cannot."""
        extra = self._extra
        if extra is None or extra.slot is None:
            self._data = array
        elif array.shape == self._data.shape and array.dtype == self._data.dtype and _device_of(array) == self.device:
            self._data[...] = array
        else:
            extra.slot = extra.grad_slot = None
            self._data = array
            self._grad = None

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
    ) -> None:
        """Sums the gradient of this tensor into the ``.grad`` of the leaves that led to it; see `autograd.backward`."""
        backward(self, gradient, retain_graph, create_graph, inputs)

    def register_hook(self, hook: Callable[["Tensor"], Any]) -> HookHandle:
        """Calls ``hook(grad)`` when this tensor's gradient is computed; what it returns, if not None, replaces it."""
        if not self.requires_grad:
            raise AutogradError("cannot register a hook on a tensor that doesn't require gradient")
        if self.is_leaf:
            return HookHandle(self._get_extra().hooks, hook)
        node = self.grad_fn
        assert node is not None
        return HookHandle(node.get_extra().output_hooks, (self.output_nr, hook))

    def register_post_accumulate_grad_hook(self, hook: Callable[["Tensor"], None]) -> HookHandle:
        """Calls ``hook(self)`` after a backward pass has summed a gradient into this leaf's ``.grad``."""
        if not self.requires_grad or not self.is_leaf:
            raise AutogradError(
                "post accumulate grad hooks can only be registered on leaf tensors that require gradient"
            )
        return HookHandle(self._get_extra().post_accumulate, hook)

    def retain_grad(self) -> None:
        """Makes backward() fill ``.grad`` of this tensor although it is no leaf."""
        if not self.requires_grad:
            raise AutogradError("can't retain_grad on a tensor that has requires_grad=False")
        if self.is_leaf or self.retains_grad:
            return
        self._get_extra().retains_grad = True
        node = self.grad_fn
        assert node is not None
        node.get_extra().retained.append((self.output_nr, weakref.ref(self)))

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called."""
        return self._extra is not None and self._extra.retains_grad

    @property
    def _version(self) -> int:
        return self._cell[0]

    def detach_(self) -> "Tensor":
        """Cuts the history of this tensor."""
        self._target, self._base = None, None
        return self

    # ---- values for Python and NumPy ----
    def item(self) -> Any:
        """The value of a tensor of one element as a Python number.

        Raises:
            AutogradError: it has more than one element, or none.
        """
        if self._data.size != 1:
            raise AutogradError(
                f"a Tensor with {self._data.size} elements cannot be converted to Scalar; index it or reduce it first"
            )
        return self._data.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers; a number for a 0-d tensor."""
        return self._data.tolist()

    def apply_(self, function: Callable[[Any], Any]) -> "Tensor":
        """Puts ``function(element)`` in the place of each element, one by one: slow, and for the CPU."""
        return self._write([function(v) for v in self._data.reshape(-1).tolist()])

    def map_(self, tensor: "Tensor", function: Callable[[Any, Any], Any]) -> "Tensor":
        """Puts ``function(element, other)`` in the place of each element, one by one: slow, and for the CPU."""
        others = np.broadcast_to(tensor._data, self._data.shape).reshape(-1).tolist()
        return self._write([function(a, b) for a, b in zip(self._data.reshape(-1).tolist(), others, strict=True)])

    def _write(self, values: list[Any]) -> "Tensor":
        check_writable(self)
        self._data[...] = np.array(values, dtype=self._data.dtype).reshape(self._data.shape)
        wrote(self, None)
        return self

    def numpy(self, *, force: bool = False) -> "np.ndarray[Any, Any]":
        """The NumPy array that shares this tensor's memory.

        Args:
            force: detach and copy to the host where needed, instead of raising.

        Raises:
            AutogradError: it requires grad.
            DeviceError: it is on a GPU.
        """
        if force:
            return backend_of(self._data).to_numpy(self._data)
        if self.requires_grad:
            raise AutogradError("can't call numpy() on Tensor that requires grad; use tensor.detach().numpy() instead")
        if self.is_cuda:
            raise TypeError("can't convert a cuda tensor to numpy; use tensor.cpu() first to copy it to host memory")
        return self._data  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray[Any, Any]":
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError("a change of dtype needs a copy, which copy=False forbids")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_wrap__(self, array: Array, context: Any = None, return_scalar: bool = False) -> "Tensor":
        return wrap(np.asarray(array))

    def __distgrad_array__(self, *, write: bool = False) -> Array:
        """The raw array, for layers that see only buffers (`_typing.HasArray`)."""
        if write:
            check_writable(self) if self._target is not LEAF_MARK else None
            self._cell[0] += 1
        return self._data

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise BufferError("can't export a tensor that requires gradient; use tensor.detach()")
        return self._data.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._data.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> Any:
        if not self.is_cuda:
            raise AttributeError("__cuda_array_interface__: this tensor is on the CPU")
        return self._data.__cuda_array_interface__

    def __len__(self) -> int:
        if self._data.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return len(self._data)

    def __iter__(self) -> "Iterator[Tensor]":
        if self._data.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter([self[i] for i in range(self._data.shape[0])])

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise AutogradError(
                f"Boolean value of Tensor with {self._data.size} elements is ambiguous; use .any() or .all()"
            )
        return bool(self._data.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._data.dtype.kind not in "biu":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __contains__(self, value: Any) -> bool:
        return bool((self == value)._data.any())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self._data.ndim == 0 else object.__format__(self, spec)

    def __hash__(self) -> int:
        return id(self)

    # ---- copies, moves, pickling ----
    def to(
        self,
        *args: Any,
        device: Any = None,
        dtype: Any = None,
        non_blocking: bool = False,
        copy: bool = False,
        memory_format: Any = None,
    ) -> "Tensor":
        """This tensor on a device, in a dtype: ``to("cuda")``, ``to(float64)``, ``to("cuda", float16)``, ``to(t)``."""
        where, to = ops.split_to_arguments(args, device, dtype)
        return ops.move(self, where, to, copy)  # type: ignore[no-any-return]

    def cpu(self) -> "Tensor":
        """This tensor in host memory."""
        return self.to("cpu")

    def cuda(self, device: Any = None, non_blocking: bool = False) -> "Tensor":
        """This tensor on a GPU; this rank's by default."""
        return self.to("cuda" if device is None else device)

    def type(self, dtype: Any = None, non_blocking: Any = False) -> Any:
        """The dtype's class name, such as ``distgrad.FloatTensor``; or this tensor in another dtype, also by name."""
        if dtype is None:
            return f"distgrad.{TYPE_NAMES[self.dtype.name]}"
        name = (dtype.__name__ if isinstance(dtype, type) else str(dtype)).rpartition(".")[2]
        return self.to(dtype=DTYPE_NAMES.get(name, dtype))

    def type_as(self, other: "Tensor") -> "Tensor":
        """This tensor in the dtype of `other`."""
        return self.to(dtype=other.dtype)

    def float(self, memory_format: Any = None) -> "Tensor":
        """This tensor in float32."""
        return self.to(dtype="float32")

    def double(self, memory_format: Any = None) -> "Tensor":
        """This tensor in float64."""
        return self.to(dtype="float64")

    def half(self, memory_format: Any = None) -> "Tensor":
        """This tensor in float16."""
        return self.to(dtype="float16")

    def bfloat16(self, memory_format: Any = None) -> "Tensor":
        """This tensor in bfloat16 (needs ml_dtypes)."""
        return self.to(dtype="bfloat16")

    def long(self, memory_format: Any = None) -> "Tensor":
        """This tensor in int64."""
        return self.to(dtype="int64")

    def int(self, memory_format: Any = None) -> "Tensor":
        """This tensor in int32."""
        return self.to(dtype="int32")

    def short(self, memory_format: Any = None) -> "Tensor":
        """This tensor in int16."""
        return self.to(dtype="int16")

    def char(self, memory_format: Any = None) -> "Tensor":
        """This tensor in int8."""
        return self.to(dtype="int8")

    def cfloat(self, memory_format: Any = None) -> "Tensor":
        """This tensor in complex64."""
        return self.to(dtype="complex64")

    def cdouble(self, memory_format: Any = None) -> "Tensor":
        """This tensor in complex128."""
        return self.to(dtype="complex128")

    def byte(self, memory_format: Any = None) -> "Tensor":
        """This tensor in uint8."""
        return self.to(dtype="uint8")

    def bool(self, memory_format: Any = None) -> "Tensor":
        """This tensor in bool: whether each element is not 0."""
        return self.to(dtype="bool")

    def __deepcopy__(self, memo: dict[Any, Any]) -> "Tensor":
        if not self.is_leaf:
            raise AutogradError(
                "only Tensors created explicitly by the user (graph leaves) support deepcopy; detach() or clone() it"
            )
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        result = type(self).__new__(type(self))
        memo[id(self)] = result
        result.__setstate__((self._data.copy(), self.requires_grad, _copy.deepcopy(self.__dict__, memo)))
        if self._grad is not None:
            result._grad = _copy.deepcopy(self._grad, memo)
        return result

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if not self.is_leaf:
            raise AutogradError("only leaf tensors can be pickled; detach() it first")
        return _empty, (type(self),), (self._data, self.requires_grad, self.__dict__)

    def __setstate__(self, state: Any) -> None:
        self._data, requires_grad, attributes = state
        self._target = LEAF_MARK if requires_grad else None
        self._cell, self._base, self._grad, self._extra = [0, 0], None, None, None
        self.__dict__.update(attributes)

    # ---- operators ----
    __add__ = __radd__ = ops.add
    __sub__ = ops.sub
    __rsub__ = _reflected(ops.sub)
    __mul__ = __rmul__ = ops.mul
    __truediv__ = ops.div
    __rtruediv__ = __rdiv__ = _reflected(ops.div)
    __floordiv__ = ops.floor_divide
    __rfloordiv__ = _reflected(ops.floor_divide)
    __mod__ = ops.remainder
    __rmod__ = _reflected(ops.remainder)
    __pow__ = ops.pow
    __rpow__ = _reflected(ops.pow)
    __matmul__ = ops.matmul
    __rmatmul__ = _reflected(ops.matmul)
    __neg__ = ops.neg
    __abs__ = ops.abs
    __eq__ = ops.eq  # type: ignore[assignment]
    __ne__ = ops.ne  # type: ignore[assignment]
    __lt__ = ops.lt
    __le__ = ops.le
    __gt__ = ops.gt
    __ge__ = ops.ge
    __and__ = __rand__ = ops.bitwise_and
    __or__ = __ror__ = ops.bitwise_or
    __xor__ = __rxor__ = ops.bitwise_xor
    __invert__ = ops.bitwise_not
    __lshift__ = ops.bitwise_left_shift
    __rlshift__ = _reflected(ops.bitwise_left_shift)
    __rshift__ = ops.bitwise_right_shift
    __rrshift__ = _reflected(ops.bitwise_right_shift)
    __iadd__ = _inplace(ops.add)
    __isub__ = _inplace(ops.sub)
    __imul__ = _inplace(ops.mul)
    __itruediv__ = _inplace(ops.div)
    __ifloordiv__ = _inplace(ops.floor_divide)
    __imod__ = _inplace(ops.remainder)
    __ipow__ = _inplace(ops.pow)
    __ilshift__ = _inplace(ops.bitwise_left_shift)
    __irshift__ = _inplace(ops.bitwise_right_shift)
    __getitem__ = ops.getitem
    __setitem__ = ops.setitem

    def __pos__(self) -> "Tensor":
        return self

    # ---- arithmetic ----
    add = ops.add
    sub = subtract = ops.sub
    mul = multiply = ops.mul
    div = divide = true_divide = ops.div
    floor_divide = ops.floor_divide
    remainder = ops.remainder
    fmod = ops.fmod
    pow = ops.pow
    neg = negative = ops.neg
    maximum = ops.maximum
    minimum = ops.minimum
    reciprocal = ops.reciprocal
    addcmul = ops.addcmul
    addcdiv = ops.addcdiv
    lerp = ops.lerp
    positive = ops.positive
    float_power = ops.float_power
    ldexp = ops.ldexp
    xlogy = ops.xlogy
    logaddexp = ops.logaddexp
    logaddexp2 = ops.logaddexp2
    copysign = ops.copysign
    fmax = ops.fmax
    fmin = ops.fmin
    heaviside = ops.heaviside
    nextafter = ops.nextafter
    gcd = ops.gcd
    lcm = ops.lcm

    # ---- elementwise ----
    exp = ops.exp
    exp2 = ops.exp2
    expm1 = ops.expm1
    log = ops.log
    log1p = ops.log1p
    log2 = ops.log2
    log10 = ops.log10
    sqrt = ops.sqrt
    rsqrt = ops.rsqrt
    abs = absolute = ops.abs
    square = ops.square
    sin = ops.sin
    cos = ops.cos
    tan = ops.tan
    sinh = ops.sinh
    cosh = ops.cosh
    tanh = ops.tanh
    sigmoid = ops.sigmoid
    erf = ops.erf
    erfc = ops.erfc
    clamp = clip = ops.clamp
    sign = ops.sign
    floor = ops.floor
    ceil = ops.ceil
    trunc = fix = ops.trunc
    round = ops.round
    acos = arccos = ops.acos
    asin = arcsin = ops.asin
    atan = arctan = ops.atan
    acosh = arccosh = ops.acosh
    asinh = arcsinh = ops.asinh
    atanh = arctanh = ops.atanh
    atan2 = arctan2 = ops.atan2
    hypot = ops.hypot
    deg2rad = ops.deg2rad
    rad2deg = ops.rad2deg
    frac = ops.frac
    logit = ops.logit
    sinc = ops.sinc
    nan_to_num = ops.nan_to_num
    clamp_min = ops.clamp_min
    clamp_max = ops.clamp_max
    sgn = ops.sgn
    signbit = ops.signbit

    def where(self, condition: "Tensor", other: Any) -> "Tensor":
        """``self`` where the condition holds, `other` elsewhere."""
        return ops.where(condition, self, other)  # type: ignore[no-any-return]

    # ---- activations ----
    relu = ops.relu
    prelu = ops.prelu
    hardshrink = ops.hardshrink

    # ---- comparison and logic ----
    eq = ops.eq
    ne = not_equal = ops.ne
    lt = less = ops.lt
    le = less_equal = ops.le
    gt = greater = ops.gt
    ge = greater_equal = ops.ge
    bitwise_and = ops.bitwise_and
    bitwise_or = ops.bitwise_or
    bitwise_xor = ops.bitwise_xor
    bitwise_not = ops.bitwise_not
    logical_and = ops.logical_and
    logical_or = ops.logical_or
    logical_xor = ops.logical_xor
    logical_not = ops.logical_not
    isclose = ops.isclose
    allclose = ops.allclose
    equal = ops.equal
    isnan = ops.isnan
    isinf = ops.isinf
    isfinite = ops.isfinite
    isposinf = ops.isposinf
    isneginf = ops.isneginf
    isreal = ops.isreal
    bitwise_left_shift = ops.bitwise_left_shift
    bitwise_right_shift = ops.bitwise_right_shift

    # ---- reductions ----
    sum = ops.sum
    mean = ops.mean
    var = ops.var
    std = ops.std
    prod = ops.prod
    cumsum = ops.cumsum
    cumprod = ops.cumprod
    nansum = ops.nansum
    nanmean = ops.nanmean
    all = ops.all
    any = ops.any
    count_nonzero = ops.count_nonzero
    max = ops.max
    min = ops.min
    amax = ops.amax
    amin = ops.amin
    aminmax = ops.aminmax
    argmax = ops.argmax
    argmin = ops.argmin
    cummax = ops.cummax
    cummin = ops.cummin
    softmax = ops.softmax
    log_softmax = ops.log_softmax
    logsumexp = ops.logsumexp
    logcumsumexp = ops.logcumsumexp
    dist = ops.dist
    sort = ops.sort
    argsort = ops.argsort
    msort = ops.msort
    topk = ops.topk
    kthvalue = ops.kthvalue
    median = ops.median
    nanmedian = ops.nanmedian
    mode = ops.mode
    unique = ops.unique
    unique_consecutive = ops.unique_consecutive

    # ---- shape ----
    reshape = ops.reshape
    view = ops.view
    view_as = ops.view_as
    reshape_as = ops.reshape_as
    flatten = ops.flatten
    ravel = ops.ravel
    unflatten = ops.unflatten
    permute = ops.permute
    transpose = swapaxes = swapdims = ops.transpose
    t = ops.t
    adjoint = ops.adjoint
    movedim = moveaxis = ops.movedim
    expand = ops.expand
    expand_as = ops.expand_as
    broadcast_to = ops.broadcast_to
    squeeze = ops.squeeze
    unsqueeze = ops.unsqueeze
    flip = ops.flip
    fliplr = ops.fliplr
    flipud = ops.flipud
    roll = ops.roll
    rot90 = ops.rot90
    repeat = ops.repeat
    tile = ops.tile
    repeat_interleave = ops.repeat_interleave
    unfold = ops.unfold_dimension
    as_strided = ops.as_strided
    split = ops.split
    split_with_sizes = ops.split_with_sizes
    chunk = ops.chunk
    tensor_split = ops.tensor_split
    hsplit = ops.hsplit
    vsplit = ops.vsplit
    dsplit = ops.dsplit
    unbind = ops.unbind
    narrow = ops.narrow
    select = ops.select
    diagonal = ops.diagonal
    diag = ops.diag
    diag_embed = ops.diag_embed
    diagflat = ops.diagflat
    diagonal_scatter = ops.diagonal_scatter
    tril = ops.tril
    triu = ops.triu
    T = property(ops.reversed_axes)
    mT = property(ops.mT)
    H = mH = property(ops.adjoint)

    # ---- linear algebra ----
    matmul = ops.matmul
    mm = ops.mm
    bmm = ops.bmm
    mv = ops.mv
    dot = ops.dot
    vdot = ops.vdot
    inner = ops.inner
    outer = ger = ops.outer
    addmm = ops.addmm
    addmv = ops.addmv
    addr = ops.addr
    baddbmm = ops.baddbmm
    addbmm = ops.addbmm
    kron = ops.kron
    trace = ops.trace

    norm = ops.norm
    det = ops.det
    slogdet = ops.slogdet
    logdet = ops.logdet
    inverse = ops.inv
    matrix_power = ops.matrix_power
    pinverse = ops.pinv
    cross = ops.cross
    diff = ops.diff
    quantile = ops.quantile
    nanquantile = ops.nanquantile
    cov = ops.cov
    corrcoef = ops.corrcoef
    histc = ops.histc
    bincount = ops.bincount

    # ---- indexing ----
    gather = ops.gather
    scatter = ops.scatter
    scatter_add = ops.scatter_add
    scatter_reduce = ops.scatter_reduce
    index_select = ops.index_select
    index_add = ops.index_add
    index_copy = ops.index_copy
    index_fill = ops.index_fill
    index_put = ops.index_put
    index_reduce = ops.index_reduce
    take = ops.take
    take_along_dim = ops.take_along_dim
    put = ops.put
    masked_fill = ops.masked_fill
    masked_select = ops.masked_select
    masked_scatter = ops.masked_scatter
    nonzero = ops.nonzero
    argwhere = ops.argwhere
    nonzero_static = ops.nonzero_static
    fill = ops.fill

    # ---- memory ----
    conj = ops.conj
    clone = ops.clone
    contiguous = ops.contiguous
    detach = ops.detach

    # ---- creation ----
    new_tensor = ops.new_tensor
    new_zeros = ops.new_zeros
    new_ones = ops.new_ones
    new_empty = ops.new_empty
    new_full = ops.new_full
    new_empty_strided = ops.new_empty_strided

    # ---- random ----
    bernoulli = ops.bernoulli
    multinomial = ops.multinomial
    uniform_ = ops.uniform_
    normal_ = ops.normal_
    exponential_ = ops.exponential_
    cauchy_ = ops.cauchy_
    log_normal_ = ops.log_normal_
    geometric_ = ops.geometric_
    bernoulli_ = ops.bernoulli_
    random_ = ops.random_

    # ---- in place ----
    add_ = _inplace(ops.add)
    sub_ = subtract_ = _inplace(ops.sub)
    mul_ = multiply_ = _inplace(ops.mul)
    div_ = divide_ = true_divide_ = _inplace(ops.div)
    pow_ = _inplace(ops.pow)
    clamp_ = clip_ = _inplace(ops.clamp)
    exp_ = _inplace(ops.exp)
    log_ = _inplace(ops.log)
    sqrt_ = _inplace(ops.sqrt)
    rsqrt_ = _inplace(ops.rsqrt)
    abs_ = absolute_ = _inplace(ops.abs)
    sin_ = _inplace(ops.sin)
    cos_ = _inplace(ops.cos)
    tanh_ = _inplace(ops.tanh)
    sigmoid_ = _inplace(ops.sigmoid)
    relu_ = _inplace(ops.relu)
    neg_ = negative_ = _inplace(ops.neg)
    sign_ = _inplace(ops.sign)
    floor_ = _inplace(ops.floor)
    ceil_ = _inplace(ops.ceil)
    round_ = _inplace(ops.round)
    floor_divide_ = _inplace(ops.floor_divide)
    remainder_ = _inplace(ops.remainder)
    fmod_ = _inplace(ops.fmod)
    exp2_ = _inplace(ops.exp2)
    expm1_ = _inplace(ops.expm1)
    log1p_ = _inplace(ops.log1p)
    log2_ = _inplace(ops.log2)
    log10_ = _inplace(ops.log10)
    square_ = _inplace(ops.square)
    tan_ = _inplace(ops.tan)
    sinh_ = _inplace(ops.sinh)
    cosh_ = _inplace(ops.cosh)
    erf_ = _inplace(ops.erf)
    erfc_ = _inplace(ops.erfc)
    trunc_ = fix_ = _inplace(ops.trunc)
    reciprocal_ = _inplace(ops.reciprocal)
    eq_ = _inplace(ops.eq)
    ne_ = not_equal_ = _inplace(ops.ne)
    lt_ = less_ = _inplace(ops.lt)
    le_ = less_equal_ = _inplace(ops.le)
    gt_ = greater_ = _inplace(ops.gt)
    ge_ = greater_equal_ = _inplace(ops.ge)
    bitwise_and_ = _inplace(ops.bitwise_and)
    bitwise_or_ = _inplace(ops.bitwise_or)
    bitwise_xor_ = _inplace(ops.bitwise_xor)
    bitwise_not_ = _inplace(ops.bitwise_not)
    logical_and_ = _inplace(ops.logical_and)
    logical_or_ = _inplace(ops.logical_or)
    logical_xor_ = _inplace(ops.logical_xor)
    logical_not_ = _inplace(ops.logical_not)
    addcmul_ = _inplace(ops.addcmul)
    addcdiv_ = _inplace(ops.addcdiv)
    lerp_ = _inplace(ops.lerp)
    float_power_ = _inplace(ops.float_power)
    ldexp_ = _inplace(ops.ldexp)
    xlogy_ = _inplace(ops.xlogy)
    copysign_ = _inplace(ops.copysign)
    heaviside_ = _inplace(ops.heaviside)
    nextafter_ = _inplace(ops.nextafter)
    gcd_ = _inplace(ops.gcd)
    lcm_ = _inplace(ops.lcm)
    acos_ = arccos_ = _inplace(ops.acos)
    asin_ = arcsin_ = _inplace(ops.asin)
    atan_ = arctan_ = _inplace(ops.atan)
    acosh_ = arccosh_ = _inplace(ops.acosh)
    asinh_ = arcsinh_ = _inplace(ops.asinh)
    atanh_ = arctanh_ = _inplace(ops.atanh)
    atan2_ = arctan2_ = _inplace(ops.atan2)
    hypot_ = _inplace(ops.hypot)
    deg2rad_ = _inplace(ops.deg2rad)
    rad2deg_ = _inplace(ops.rad2deg)
    frac_ = _inplace(ops.frac)
    logit_ = _inplace(ops.logit)
    sinc_ = _inplace(ops.sinc)
    nan_to_num_ = _inplace(ops.nan_to_num)
    clamp_min_ = _inplace(ops.clamp_min)
    clamp_max_ = _inplace(ops.clamp_max)
    sgn_ = _inplace(ops.sgn)
    bitwise_left_shift_ = _inplace(ops.bitwise_left_shift)
    bitwise_right_shift_ = _inplace(ops.bitwise_right_shift)
    fill_ = ops.fill_
    zero_ = ops.zero_
    copy_ = ops.copy_
    masked_fill_ = ops.masked_fill_
    masked_scatter_ = _inplace(ops.masked_scatter)
    index_put_ = ops.index_put_
    index_add_ = ops.index_add_
    index_copy_ = ops.index_copy_
    index_fill_ = ops.index_fill_
    index_reduce_ = _inplace(ops.index_reduce)
    put_ = _inplace(ops.put)
    scatter_ = ops.scatter_
    scatter_add_ = ops.scatter_add_
    scatter_reduce_ = _inplace(ops.scatter_reduce)
    fill_diagonal_ = ops.fill_diagonal_
    tril_ = _inplace(ops.tril)
    triu_ = _inplace(ops.triu)
    cumsum_ = _inplace(ops.cumsum)
    cumprod_ = _inplace(ops.cumprod)
    addmm_ = _inplace(ops.addmm)
    addmv_ = _inplace(ops.addmv)
    addr_ = _inplace(ops.addr)
    baddbmm_ = _inplace(ops.baddbmm)
    addbmm_ = _inplace(ops.addbmm)
    squeeze_ = _reshaped(ops.squeeze)
    unsqueeze_ = _reshaped(ops.unsqueeze)
    transpose_ = swapaxes_ = swapdims_ = _reshaped(ops.transpose)
    t_ = _reshaped(ops.t)
    as_strided_ = _reshaped(ops.as_strided)

    def __repr__(self) -> str:
        return self._repr("tensor" if type(self) is Tensor else type(self).__name__)

    def _repr(self, name: str) -> str:
        node = self.grad_fn
        history = "requires_grad=True" if self.requires_grad else None
        return tensor_str(self._data, f"{name}(", history if node is None else f"grad_fn=<{node.name()}>")


def _device_of(array: Array) -> device:
    return backend_of(array).device_of(array)


def _empty(cls: type[Tensor]) -> Tensor:
    return cls.__new__(cls)


TYPE_NAMES = {
    "float32": "FloatTensor", "float64": "DoubleTensor", "float16": "HalfTensor", "bfloat16": "BFloat16Tensor",
    "int64": "LongTensor", "int32": "IntTensor", "int16": "ShortTensor", "int8": "CharTensor",
    "uint8": "ByteTensor", "bool": "BoolTensor",
    "complex64": "ComplexFloatTensor", "complex128": "ComplexDoubleTensor", "uint16": "UInt16Tensor",
    "uint32": "UInt32Tensor", "uint64": "UInt64Tensor",
}  # fmt: skip
DTYPE_NAMES = {name: dtype for dtype, name in TYPE_NAMES.items()}

register_tensor_class(Tensor)
