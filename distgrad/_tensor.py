"""The Tensor: torch's class, on an array and a place in the graph."""

import copy as _copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import ops
from ._tensor_methods import OperationMethods
from ._tensor_str import tensor_str
from ._typing import Array
from .autograd import backward
from .autograd._base import LEAF_MARK, TensorBase, check_can_require_grad, register_tensor_class, sync_view, wrap
from .autograd._inplace import check_writable, wrote
from .autograd._node import HookHandle, Node
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


class Tensor(OperationMethods):
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
    is_quantized = is_meta = is_nested = is_mkldnn = False

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

    __hash__ = object.__hash__  # by identity, although == compares elements

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
