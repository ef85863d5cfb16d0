"""Giving all ranks what one has: parameters, and the state of an optimizer, as after only that one read a file."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .._tensor import Tensor
from ..autograd._base import wrap
from ..backend import CPU, Backend, backend_of
from ..comm import Communicator, get_default, get_group_rank
from ..nn import Module
from ..optim import Optimizer
from ._agreement import broadcast_arrays
from ._zero import ZeroRedundancyOptimizer


class _Form(NamedTuple):
    """A tensor that comes later."""

    shape: tuple[int, ...]
    dtype: Any
    on_host: bool

    def empty(self, near: Tensor) -> Tensor:
        """Memory for it, where the parameter is or on the host."""
        backend: Backend = CPU if self.on_host else backend_of(near._data)
        return wrap(backend.xp.empty(self.shape, self.dtype))


def broadcast_parameters(
    params: Module | Mapping[str, Any] | Iterable[tuple[str, Tensor]], root: int = 0, group: Communicator | None = None
) -> None:
    """Copies the values of one rank into the tensors of all, in place. A collective call; Horovod's name.

    Args:
        params: a model, whose buffers are included; a state dict; or named tensors. Alike on every rank.
        root: whose values, as a rank of the default group.
        group: the ranks; all by default.
    """
    found = get_default() if group is None else group
    tensors = list(_tensors(params))
    broadcast_arrays(found, [t._data for t in tensors], get_group_rank(found, root))
    for t in tensors:
        t._cell[0] += 1


def _tensors(params: Any) -> Iterator[Tensor]:
    if isinstance(params, Module):
        yield from params.parameters()
        yield from params.buffers()
        return
    for value in params.values() if isinstance(params, Mapping) else (value for _, value in params):
        if isinstance(value, Tensor):
            yield value


def broadcast_optimizer_state(optimizer: Optimizer, root: int = 0, group: Communicator | None = None) -> None:
    """Gives the optimizers of all ranks the state and the hyperparameters of one. A collective call; Horovod's name.

    With a `ZeroRedundancyOptimizer` every rank takes its part of what `root` has loaded; no rank but that one holds
    the whole, not even for a moment.

    Args:
        optimizer: of the same parameters on every rank.
        root: who has it, as a rank of the default group.
        group: the ranks; all by default.

    Example:
        >>> if comm.get_rank() == 0:
        ...     optimizer.load_state_dict(load("checkpoint.dg")["optimizer"])
        >>> broadcast_optimizer_state(optimizer)
    """
    found = get_default() if group is None else group
    source = get_group_rank(found, root)
    is_root = found.rank == source
    whole = optimizer.state_dict() if is_root and _has_state(optimizer) else None
    described = found.broadcast_object(_described(optimizer, whole) if is_root else None, source)
    entries = _entries(found, source, optimizer, described["state"], whole)
    if isinstance(optimizer, ZeroRedundancyOptimizer):
        optimizer.take_whole_state(described["param_groups"], entries)
        return
    state = dict(entries)
    if not is_root:
        optimizer.load_state_dict({"state": state, "param_groups": described["param_groups"]})


def _has_state(optimizer: Optimizer) -> bool:
    return not isinstance(optimizer, ZeroRedundancyOptimizer) or optimizer.has_whole_state


def _described(optimizer: Optimizer, whole: dict[str, Any] | None) -> dict[str, Any]:
    """The groups, and the state with forms instead of tensors; of a state that is spread out, nothing."""
    if whole is None:
        return {"param_groups": optimizer.packed_groups(), "state": {}}
    state = {number: {k: _form(v) for k, v in entry.items()} for number, entry in whole["state"].items()}
    return {"param_groups": whole["param_groups"], "state": state}


def _form(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return _Form(value._data.shape, value._data.dtype, backend_of(value._data) is CPU)


def _entries(
    group: Communicator, source: int, optimizer: Optimizer, forms: dict[int, Any], whole: dict[str, Any] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The entries of all parameters by number, each broadcast when it is asked for."""
    params = [p for g in optimizer.param_groups for p in g["params"]]
    for number, form in forms.items():
        near = params[number]
        entry = {k: v.empty(near) if isinstance(v, _Form) else v for k, v in form.items()}
        if whole is not None:
            entry = whole["state"][number]
        names = [k for k, v in form.items() if isinstance(v, _Form)]
        broadcast_arrays(group, [entry[k]._data for k in names], source)
        yield number, entry
