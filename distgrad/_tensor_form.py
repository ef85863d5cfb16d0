"""What a tensor is, without its values: shape, dtype, device and memory; and the same in another dtype or place."""

from typing import TYPE_CHECKING, Any, Self

from . import ops
from .autograd._base import TensorBase
from .backend import OF_NUMPY, backend_of, device, dtype

if TYPE_CHECKING:
    from ._tensor import Tensor


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


TYPE_NAMES = {
    "float32": "FloatTensor", "float64": "DoubleTensor", "float16": "HalfTensor", "bfloat16": "BFloat16Tensor",
    "int64": "LongTensor", "int32": "IntTensor", "int16": "ShortTensor", "int8": "CharTensor",
    "uint8": "ByteTensor", "bool": "BoolTensor",
    "complex64": "ComplexFloatTensor", "complex128": "ComplexDoubleTensor", "uint16": "UInt16Tensor",
    "uint32": "UInt32Tensor", "uint64": "UInt64Tensor",
}  # fmt: skip
DTYPE_NAMES = {name: dtype for dtype, name in TYPE_NAMES.items()}


class FormMethods(TensorBase):
    """The part of `Tensor` that describes and converts it."""

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

    def pin_memory(self) -> Self:
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

    # ---- moves and conversions ----
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
