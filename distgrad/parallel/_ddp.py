"""DistributedDataParallel: a model that every rank trains on its part of the batch."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..autograd import is_grad_enabled
from ..backend import device
from ..comm import Communicator, get_default
from ..errors import AutogradError, CommError, DeviceError
from ..nn import Module
from ._agreement import broadcast_from_first, check_models_agree
from ._nested import map_tensors
from ._reducer import Reducer

_PREFIX = "module."


class DistributedDataParallel(Module):
    """Wraps a model so that backward leaves the mean over all ranks in every ``.grad``.

    Parameters and buffers start from the values of rank 0. After that each rank sees only its own part of the data, and
    equal steps on equal gradients keep the models equal. Any inputs and outputs are passed on. With one rank the
    wrapper does nothing.

    What differs from torch: `state_dict` has no ``module.`` prefix (and loads with or without it); unused parameters
    need no flag; parameters may be frozen and unfrozen at any time, on all ranks alike; evaluation needs no
    communication, so that one rank may do it alone.

    Args:
        module: the model, built alike on every rank.
        device_ids: the GPU that the model is on, in a list; inputs are then moved there. None for the CPU.
        output_device: accepted as in torch; outputs stay where the model puts them.
        dim: accepted as in torch, not used.
        broadcast_buffers: copy buffers, such as running means, from rank 0 in every training step.
        init_sync: check that the models are built alike, and start from rank 0's values.
        process_group: the ranks; the default group by default.
        bucket_cap_mb: MiB of gradients that are reduced at once.
        find_unused_parameters: accepted as in torch; unused parameters are always found, at no cost.
        check_reduction: accepted as in torch, not used.
        gradient_as_bucket_view: accepted as in torch; gradients always are views of the buckets.
        static_graph: accepted as in torch, not used.

    Raises:
        CollectiveMismatchError: on every rank, where the models differ; it names the parameters.

    Example:
        >>> model = DistributedDataParallel(nn.Linear(4, 2))
        >>> model(distgrad.ones(3, 4)).sum().backward()  # the gradients are now the means over all ranks

    Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training, VLDB 2020 (arXiv 2006.15704).
    """

    def __init__(
        self,
        module: Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        init_sync: bool = True,
        process_group: Communicator | None = None,
        bucket_cap_mb: float | None = 25,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = True,
        static_graph: bool = False,
    ) -> None:
        super().__init__()
        if not any(p.requires_grad for p in module.parameters()):
            raise AutogradError(
                "DistributedDataParallel is not needed when a module doesn't have any parameters that require a "
                "gradient; call the module itself"
            )
        self.module = module
        self.device = _the_device(module, device_ids)
        self.device_ids = None if device_ids is None else [self.device]
        self.output_device = self.device if output_device is None else output_device
        self.dim = dim
        self.broadcast_buffers = broadcast_buffers
        self.process_group = get_default() if process_group is None else process_group
        self.bucket_bytes = round((25 if bucket_cap_mb is None else bucket_cap_mb) * 2**20)
        self.find_unused_parameters = find_unused_parameters
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.static_graph = static_graph
        self.require_backward_grad_sync = True
        self._reducer: Reducer | None = None
        if self.process_group.size > 1:
            if init_sync:
                check_models_agree(self.process_group, module)
                tensors = [*module.parameters(), *module.buffers()]
                broadcast_from_first(self.process_group, [t._data for t in tensors])
            self._reducer = self._new_reducer()

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Calls the model."""
        if self.device_ids is not None:
            inputs, kwargs = map_tensors((inputs, kwargs), lambda t: t.to(self.device))
        if self.process_group.size == 1 or not is_grad_enabled():
            return self.module(*inputs, **kwargs)
        reducer = self._current_reducer()
        if not self.require_backward_grad_sync:
            reducer.skip()
            return self.module(*inputs, **kwargs)
        reducer.begin(self.training)
        return reducer.watch(self.module(*inputs, **kwargs))

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """A block whose forward passes keep gradients local: they are summed until a pass outside reduces them all.

        Example:
            >>> with model.no_sync():
            ...     loss(model(first)).backward()
            >>> loss(model(second)).backward()  # the mean over ranks of both
        """
        before = self.require_backward_grad_sync
        self.require_backward_grad_sync = False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    # ---- reducing ----------------------------------------------------------------------------------------------

    def _current_reducer(self) -> Reducer:
        """The reducer; a new one where parameters were moved or unfrozen, or this is a copy that never had one."""
        if self._reducer is None or not self._reducer.is_current():
            check_models_agree(self.process_group, self.module)
            self._reducer = self._new_reducer()
        return self._reducer

    def _new_reducer(self) -> Reducer:
        return Reducer(self.module, self.process_group, self.bucket_bytes, self.broadcast_buffers)

    # ---- state -------------------------------------------------------------------------------------------------

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """The state of the model, as if it were not wrapped."""
        return self.module.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Loads a state dict of the model, wrapped (as torch saves it) or not."""
        return self.module.load_state_dict(self._unwrapped(state_dict, ""), strict, assign)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Called where this is a part of another module, whose loading goes by the names of its parts."""
        entries = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
        for key, value in self._unwrapped(entries, prefix).items():
            state_dict[prefix + _PREFIX + key.removeprefix(prefix)] = value
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _unwrapped(self, state_dict: Any, prefix: str) -> dict[str, Any]:
        """The entries with the names that the model itself gives them."""
        own = self.module.state_dict(prefix=prefix)
        wrapped = prefix + _PREFIX
        return {
            key if key in own or not key.startswith(wrapped) else prefix + key.removeprefix(wrapped): value
            for key, value in state_dict.items()
        }

    # ---- copies: they have no hooks, and get them at their first training step ------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> "DistributedDataParallel":
        result = type(self).__new__(type(self))
        memo[id(self)] = result
        memo[id(self.process_group)] = self.process_group  # the copy works in the same group
        result.__dict__.update(copy.deepcopy({**self.__dict__, "_reducer": None}, memo))
        return result

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds; where it is loaded, the model belongs to the default group.

        Raises:
            CommError: it belongs to another group here.
        """
        if self.process_group is not get_default():
            raise CommError(
                "DistributedDataParallel: expected the default process group for a pickle, got another one; pickle "
                "model.module, or save model.state_dict()"
            )
        return {**self.__dict__, "process_group": None, "_reducer": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "process_group": get_default()})


def _the_device(module: Module, device_ids: Any) -> device:
    """The device of the model's parameters.

    Raises:
        DeviceError: there are several, or `device_ids` names another one.
    """
    places = list(dict.fromkeys(p.device for p in module.parameters()))
    if len(places) > 1:
        names = ", ".join(map(str, places))
        raise DeviceError(
            f"DistributedDataParallel: expected all parameters on one device, got {names}; use .to(device)"
        )
    if device_ids is not None:
        wanted = [device("cuda", d) if isinstance(d, int) else device(d) for d in device_ids]
        if wanted != places:
            raise DeviceError(
                f"DistributedDataParallel: expected device_ids to name the model's device {places[0]}, got "
                f"{device_ids}; leave it out for a model on the CPU, or call model.to(device) first"
            )
    return places[0]
