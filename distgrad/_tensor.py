"""The Tensor: torch's class, on an array and a place in the graph."""

import copy as _copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import ops
from ._tensor_form import FormMethods
from ._tensor_form import Size as Size
from ._tensor_inplace import InPlaceMethods
from ._tensor_methods import OperationMethods
from ._tensor_str import tensor_str
from ._typing import Array
from .autograd import backward
from .autograd._base import LEAF_MARK, TensorBase, check_can_require_grad, register_tensor_class, sync_view, wrap
from .autograd._inplace import check_writable, wrote
from .autograd._node import HookHandle, Node
from .backend import OF_NUMPY, backend_of, device, get_default_dtype
from .errors import AutogradError, DTypeError, ShapeError


class Tensor(FormMethods, InPlaceMethods, OperationMethods):
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

    # ---- copies and pickling ----
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


register_tensor_class(Tensor)
