"""DistributedDataParallel: a model that every rank trains on its part of the batch."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from .._shard import current_shard
from ..autograd import is_grad_enabled
from ..backend import device
from ..comm import Communicator, get_default
from ..data import current_share
from ..errors import AutogradError, CommError, DeviceError
from ..nn import Module
from ._agreement import broadcast_arrays, check_models_agree
from ._ddp_join import ModelJoinHook
from ._join import Join, Joinable, Step, announce
from ._logging import logging_data
from ._logical import LogicalReducer
from ._nested import map_tensors, rows_of
from ._record import Record
from ._reducer import Reducer
from ._settings import Hook, Settings
from ._tuning import Tuner
from ._watch import scale_gradients

_PREFIX = "module."
_UNIT = 1 << 20  # bytes of a bucket where spans of them are chosen by measuring


class DistributedDataParallel(Module, Joinable):
    """Wraps a model so that backward leaves the mean over all ranks in every ``.grad``.

    Parameters and buffers start from the values of rank 0. After that each rank sees only its own part of the data, and
    equal steps on equal gradients keep the models equal. Any inputs and outputs are passed on. With one rank the
    wrapper does nothing.

    **The mean over samples.** Where ranks have batches of different sizes, the mean of their means is not that of the
    samples. In the loop over a sharded `DataLoader` the loader says how many samples each rank has, and each rank's
    gradients are multiplied accordingly on their way into the model; so the result is that of one process with the
    whole batch. This holds for a loss that is a mean over samples, computed from what forward returns, in a pass whose
    first tensor has as many rows as the loader's last batch. Equal batches are never touched: their result is the
    plain mean, bit for bit. ``weight_by_samples=False`` switches it off, and `weighted` gives other weights, such as
    numbers of tokens.

    What differs from torch: `state_dict` has no ``module.`` prefix (and loads with or without it); unused parameters
    need no flag; parameters may be frozen and unfrozen at any time, on all ranks alike; evaluation needs no
    communication, so that one rank may do it alone; SyncBatchNorm may be used within `join`.

    Args:
        module: the model, built alike on every rank.
        device_ids: the GPU that the model is on, in a list; inputs are then moved there. None for the CPU.
        output_device: accepted as in torch; outputs stay where the model puts them.
        dim: accepted as in torch, not used.
        broadcast_buffers: copy buffers, such as running means, from rank 0 in every training step.
        init_sync: check that the models are built alike, and start from rank 0's values.
        process_group: the ranks; the default group by default.
        bucket_cap_mb: MiB of gradients that are reduced at once where that happens during backward, and that a
            communication hook gets; without either everything is reduced at once. "auto" measures the first steps and
            then decides size and overlap, on all ranks alike; the gradients' bits do not depend on it where
            `Communicator.sums_in_order` holds, as for shared memory.
        find_unused_parameters: accepted as in torch; unused parameters are always found, at no cost.
        check_reduction: accepted as in torch, not used.
        gradient_as_bucket_view: accepted as in torch; gradients always are views of the buckets.
        static_graph: every pass uses the same parameters. Only communication hooks gain by it: one small message less.
        overlap: reduce buckets in the background as soon as they are complete, during backward. None means yes on a
            GPU, and no on CPUs, where ranks need all cores for backward itself. It is never done where SyncBatchNorm
            communicates during backward, with `check_for_nan`, within `join`, or while another model of these ranks
            waits for its backward pass. Models must be called in the same order on every rank.
        weight_by_samples: take a sharded loader's word for how many samples each rank has.
        logical_shards: into how many parts each step of `DataLoader.steps` is cut, so that gradients do not depend on
            the number of ranks, to the last bit; see `_logical.py`. At least as many as ranks.
        check_for_nan: look for NaN and infinity in every gradient before it is reduced; an error on all ranks then
            names the rank and the parameter.

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
        bucket_cap_mb: float | Literal["auto"] | None = 25,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = True,
        static_graph: bool = False,
        *,
        overlap: bool | None = None,
        weight_by_samples: bool = True,
        check_for_nan: bool = False,
        logical_shards: int | None = None,
    ) -> None:
        super().__init__()
        _need_gradients(module)
        self.module = module
        self.device = _the_device(module, device_ids)
        self.device_ids = None if device_ids is None else [self.device]
        self.output_device = self.device if output_device is None else output_device
        self.dim = dim
        self.broadcast_buffers = broadcast_buffers
        self.process_group = get_default() if process_group is None else process_group
        self.find_unused_parameters = find_unused_parameters
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.static_graph = static_graph
        self.weight_by_samples = weight_by_samples
        self.require_backward_grad_sync = True
        self.divide_by_initial_world_size = True  # within `join`
        self._weight: tuple[float, float | None] | None = None
        self._settings = Settings(
            _bucket_bytes(bucket_cap_mb),
            broadcast_buffers,
            static_graph,
            check_for_nan,
            self.device.type != "cpu" if overlap is None else overlap,
            bucket_cap_mb == "auto",
        )
        self._record = Record()
        self._tuner: Tuner | None = None
        self._reducer: Reducer | None = None
        self._logical: LogicalReducer | None = None
        self.logical_shards = logical_shards
        if init_sync and self.process_group.size > 1:
            _make_equal(module, self.process_group)
        if logical_shards is not None:
            self._logical = LogicalReducer(module, self.process_group, logical_shards)
        elif self.process_group.size > 1:
            self._reducer = self._new_reducer()

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Calls the model."""
        if self.device_ids is not None:
            inputs, kwargs = map_tensors((inputs, kwargs), lambda t: t.to(self.device))
        if self.logical_shards is not None:
            return self._forward_logical(inputs, kwargs)
        if self.process_group.size == 1 or not is_grad_enabled():
            return self.module(*inputs, **kwargs)
        reducer = self._current_reducer()
        factor = 1.0
        if self._join is not None or self._weight is not None or current_share() is not None:
            Join.notify_join_context(self)
            factor = self._factor((inputs, kwargs))
            if factor not in (0.0, 1.0):  # what flows on, to what made the inputs, is not this model's to weigh
                inputs, kwargs = scale_gradients((inputs, kwargs), 1 / factor)
        if not self.require_backward_grad_sync:
            reducer.skip()
            return scale_gradients(self.module(*inputs, **kwargs), factor)
        reducer.begin(self.training, None if self._join is None else (self._join, self._join_index))
        return reducer.watch(self.module(*inputs, **kwargs), factor)

    def _forward_logical(self, inputs: Any, kwargs: Any) -> Any:
        assert self.logical_shards is not None
        if self._logical is None:  # this is a copy
            self._logical = LogicalReducer(self.module, self.process_group, self.logical_shards)
        if self.training and is_grad_enabled() and current_shard() is None:
            raise AutogradError(
                "DistributedDataParallel(logical_shards=...): expected training within `for batch in step` for a step "
                "of DataLoader.steps(), got a forward pass outside of it; use no_grad() or eval() to evaluate"
            )
        return self.module(*inputs, **kwargs)

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

    # ---- weights -----------------------------------------------------------------------------------------------

    @contextmanager
    def weighted(self, weight: float, total: float | None = None) -> Iterator[None]:
        """A block whose forward passes count by `weight`: the gradients become the weighted mean over the ranks.

        With a loss that is a mean over `weight` tokens, or samples, this is the gradient of the mean over those of all
        ranks. A rank of weight 0 counts for nothing, even if its loss is NaN. No gradient is gone over twice: the loss
        gradient is multiplied on its way into the model.

        Args:
            weight: of this rank, at least 0.
            total: the sum over the ranks; without it all ranks exchange 8 bytes in each forward pass.

        Example:
            >>> with model.weighted(weight=int((labels != -100).sum())):
            ...     loss = cross_entropy(model(tokens), labels)
            >>> loss.backward()
        """
        if not (0 <= weight < math.inf):
            raise ValueError(f"expected a weight of at least 0, got {weight}")
        before, self._weight = self._weight, (weight, total)
        try:
            yield
        finally:
            self._weight = before

    def _factor(self, inputs: Any) -> float:
        """By what this rank's gradients are multiplied before the plain mean over all ranks."""
        size = self.process_group.size
        if self._weight is not None:
            weight, total = self._weight
            return self._relative(weight) if total is None else _ratio(weight * size, total)
        share = current_share() if self.weight_by_samples else None
        if share is not None and share.ranks == size and rows_of(inputs) == share.samples:
            return share.factor
        if self._join is not None and not self.divide_by_initial_world_size:
            return size / len(self._join.active)
        return 1.0

    def _relative(self, weight: float) -> float:
        """This rank's weight in units of the mean over the ranks; exactly 1 where all are equal."""
        weights = np.empty(self.process_group.size)
        announce(self.process_group, Step.WEIGHTS, 1)
        self.process_group.all_gather(weights, np.array([weight], np.float64))
        if (weights == weight).all():
            return 1.0 if weight else 0.0
        return _ratio(weight * weights.size, float(weights.sum()))

    # ---- uneven inputs -----------------------------------------------------------------------------------------

    def join(
        self,
        divide_by_initial_world_size: bool = True,
        enable: bool = True,
        throw_on_early_termination: bool = False,
    ) -> Join:
        """A block in which ranks may have different numbers of inputs; see `Join` for several models or optimizers.

        In the end all ranks have the parameters of one that trained to the end.

        Args:
            divide_by_initial_world_size: a rank that is out of inputs counts as one with gradient zero; False leaves it
                out of the mean. Weights (see above) say it better, and go before.
            enable: False makes the block do nothing.
            throw_on_early_termination: raise on all ranks when the first is out of inputs.
        """
        return Join(
            [self], enable, throw_on_early_termination, divide_by_initial_world_size=divide_by_initial_world_size
        )

    def join_hook(self, **kwargs: Any) -> ModelJoinHook:
        """What this rank does for the model after it has joined; `kwargs` may hold divide_by_initial_world_size."""
        self.divide_by_initial_world_size = bool(kwargs.get("divide_by_initial_world_size", True))
        return ModelJoinHook(self)

    @property
    def join_device(self) -> device:
        """The device of the parameters."""
        return self.device

    @property
    def join_process_group(self) -> Communicator:
        """The ranks."""
        return self.process_group

    # ---- reducing ----------------------------------------------------------------------------------------------

    def register_comm_hook(self, state: object, hook: Hook) -> None:
        """Lets `hook` communicate the gradients, bucket by bucket, instead of the mean over the ranks.

        Args:
            state: passed to the hook.
            hook: ``hook(state, bucket)`` gets a `GradBucket` and returns a `Future` of a tensor, or a tensor: what the
                gradients of the bucket become. It does all that is to be done, division by the number of ranks too.

        Raises:
            TypeError: the hook cannot be called.
            RuntimeError: there is one already.

        Example:
            >>> model.register_comm_hook(None, default_hooks.fp16_compress_hook)
        """
        if not callable(hook):
            raise TypeError(f"Communication hook must be callable, got {type(hook).__name__}")
        if self._settings.hook is not None:
            raise RuntimeError("register_comm_hook or register_builtin_comm_hook can only be called once")
        self._settings.hook, self._settings.hook_state = hook, state
        if self._reducer is not None:
            self._reducer.regroup(self._settings.overlap, self._settings.bucket_bytes)

    def _current_reducer(self) -> Reducer:
        """The reducer; a new one where parameters were moved or unfrozen, or this is a copy that never had one.

        Another new one, once, where the gradients of the first pass came in another order than that of the buckets.
        """
        reducer = self._reducer
        if reducer is None or not reducer.is_current():
            check_models_agree(self.process_group, self.module)
            self._reducer = reducer = self._new_reducer()
        if not self._settings.learns_order or self._join is not None or not self.require_backward_grad_sync:
            return reducer
        if reducer.arrived is not None and reducer.reductions and reducer.is_idle:
            order = self.process_group.broadcast_object(reducer.learned_order())
            reducer.arrived = None
            if order is not None:
                self._reducer = reducer = self._new_reducer(order)
        if self._settings.autotune and self._settings.hook is None and reducer.arrived is None:
            self._tuner = self._tuner or Tuner(reducer)
            self._tuner.step(reducer, self.process_group)
        return reducer

    def _new_reducer(self, order: list[int] | None = None) -> Reducer:
        self._tuner = None
        return Reducer(self.module, self.process_group, self._settings, self._record, order)

    def get_ddp_logging_data(self) -> dict[str, Any]:
        """What the reduction is like and what it has cost so far; times in seconds, per reduction where `avg`.

        The names are torch's where it has them. Beyond them: `seconds_waiting` at the end of backward, `overlap_share`
        of the communication that was hidden behind backward, and what `bucket_cap_mb="auto"` has measured, as
        `(overlap, bytes)` with the median step.
        """
        return logging_data(self)

    _get_ddp_logging_data = get_ddp_logging_data

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
        result.__dict__.update(copy.deepcopy({**self.__dict__, **_NOT_COPIED}, memo))
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
        return {**self.__dict__, **_NOT_COPIED, "process_group": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "process_group": get_default(), "_record": Record()})


_NOT_COPIED = {"_reducer": None, "_logical": None, "_tuner": None, "_join": None}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _bucket_bytes(bucket_cap_mb: float | str | None) -> int:
    """The size of a bucket in bytes.

    Raises:
        ValueError: it is no number, or not positive.
    """
    if bucket_cap_mb == "auto":
        return _UNIT
    size = 25 if bucket_cap_mb is None else bucket_cap_mb
    if isinstance(size, str) or not size > 0:
        raise ValueError(f'expected bucket_cap_mb to be a number above 0, "auto" or None, got {bucket_cap_mb!r}')
    return round(size * 2**20)


def _need_gradients(module: Module) -> None:
    if not any(p.requires_grad for p in module.parameters()):
        raise AutogradError(
            "DistributedDataParallel is not needed when a module doesn't have any parameters that require a gradient; "
            "call the module itself"
        )


def _make_equal(module: Module, group: Communicator) -> None:
    """Give all ranks the parameters and buffers of rank 0, once they are known to have the same ones."""
    check_models_agree(group, module)
    broadcast_arrays(group, [t._data for t in (*module.parameters(), *module.buffers())])


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
