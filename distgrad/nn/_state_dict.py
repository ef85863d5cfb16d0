"""Saving and loading a module's parameters and buffers by name, under torch's keys, protocol and messages."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._parameter import Parameter
from .._tensor import Tensor
from ..autograd import no_grad
from ..errors import StateDictError

if TYPE_CHECKING:
    from ._module import Module

EXTRA_STATE = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found not to fit."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def collect(module: "Module", destination: Any, prefix: str, keep_vars: bool) -> Any:
    """Enters the state of a module and of those in it into `destination`."""
    if destination is None:
        destination = OrderedDict()
    hooks = module._hooks
    for hook in list(hooks.state_dict_pre.values()) if hooks else []:
        hook(module, prefix, keep_vars)
    module._save_to_state_dict(destination, prefix, keep_vars)
    for name, child in module._modules.items():
        if child is not None:
            child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    for hook in list(hooks.state_dict_post.values()) if hooks else []:
        changed = hook(module, destination, prefix, {})
        if changed is not None:
            destination = changed
    return destination


def save_own(module: "Module", destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
    """Enters a module's own parameters and persistent buffers."""
    for name, t in own_state(module).items():
        destination[prefix + name] = t if keep_vars else t.detach()
    if module._has_extra_state():
        destination[prefix + EXTRA_STATE] = module.get_extra_state()


def own_state(module: "Module") -> dict[str, Tensor]:
    """A module's own parameters and persistent buffers, without those that are None."""
    state: dict[str, Tensor] = {name: p for name, p in module._parameters.items() if p is not None}
    for name, b in module._buffers.items():
        if b is not None and name not in module._non_persistent:
            state[name] = b
    return state


def load(module: "Module", state_dict: Any, strict: bool, assign: bool) -> IncompatibleKeys:
    """Loads a state dict into a module and those in it.

    Raises:
        TypeError: it is no mapping.
        StateDictError: it does not fit; all problems are listed.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"expected state_dict to be a dict, got {type(state_dict).__name__}")
    remaining = OrderedDict(state_dict)
    loading = _Loading(assign)
    with no_grad():
        loading.visit(module, "", remaining)
    problems = loading.problems
    if strict and loading.unexpected:
        problems.insert(0, f"Unexpected key(s) in state_dict: {_quoted(loading.unexpected)}.")
    if strict and loading.missing:
        problems.insert(0, f"Missing key(s) in state_dict: {_quoted(loading.missing)}.")
    if problems:
        listed = "\n\t".join(problems)
        raise StateDictError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{listed}")
    return IncompatibleKeys(loading.missing, loading.unexpected)


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)


class _Loading:
    """One run of `load`: what was found so far."""

    def __init__(self, assign: bool) -> None:
        self.assign = assign
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.problems: list[str] = []

    def visit(self, module: "Module", prefix: str, state_dict: dict[str, Any]) -> None:
        metadata = {"assign_to_params_buffers": self.assign} if self.assign else {}
        module._load_from_state_dict(
            state_dict, prefix, metadata, True, self.missing, self.unexpected, self.problems
        )
        for name, child in module._modules.items():
            if child is not None:
                start = f"{prefix}{name}."
                self.visit(child, start, {k: v for k, v in state_dict.items() if k.startswith(start)})
        for hook in list(module._hooks.load_post.values()) if module._hooks else []:
            if hook(module, IncompatibleKeys(self.missing, self.unexpected)) is not None:
                raise RuntimeError("a load_state_dict post-hook changes the lists that it gets, and must return None")


def load_own(
    module: "Module",
    state_dict: dict[str, Any],
    prefix: str,
    local_metadata: dict[str, Any],
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Loads a module's own entries and notes what does not fit in the three lists."""
    for hook in list(module._hooks.load_pre.values()) if module._hooks else []:
        hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
    assign = local_metadata.get("assign_to_params_buffers", False)
    own = own_state(module)
    for name, target in own.items():
        key = prefix + name
        if key in state_dict:
            _load_one(module, name, key, target, state_dict[key], assign, error_msgs)
        elif strict:
            missing_keys.append(key)
    extra = module._has_extra_state()
    if extra and prefix + EXTRA_STATE in state_dict:
        module.set_extra_state(state_dict[prefix + EXTRA_STATE])
    elif extra and strict:
        missing_keys.append(prefix + EXTRA_STATE)
    if strict:
        known = own.keys() | ({EXTRA_STATE} if extra else set())
        unexpected_keys.extend(k for k in state_dict if _is_unexpected(module, k, prefix, known))


def _is_unexpected(module: "Module", key: str, prefix: str, known: set[str]) -> bool:
    if not key.startswith(prefix) or key[len(prefix) :] in known:
        return False
    first, dot, _ = key[len(prefix) :].partition(".")
    return not (dot and module._modules.get(first) is not None)


def _load_one(
    module: "Module", name: str, key: str, target: Tensor, value: Any, assign: bool, error_msgs: list[str]
) -> None:
    if not isinstance(value, Tensor):
        error_msgs.append(
            f'While copying the parameter named "{key}", expected a Tensor from the checkpoint but got '
            f"{type(value).__name__}; convert it first, with distgrad.as_tensor()"
        )
    elif value.shape != target.shape and not _may_reshape(target, value):
        error_msgs.append(
            f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
            f"the shape in current model is {target.shape}."
        )
    elif assign:
        _assign(module, name, target, value)
    else:
        target.copy_(value.reshape(target.shape))


def _may_reshape(target: Tensor, value: Tensor) -> bool:
    """A checkpoint of before torch 0.4 has [1] where a 0-d tensor is now."""
    return target.ndim == 0 and tuple(value.shape) == (1,)


def _assign(module: "Module", name: str, target: Tensor, value: Tensor) -> None:
    if isinstance(target, Parameter) and not isinstance(value, Parameter):
        value = Parameter(value, requires_grad=target.requires_grad)
    setattr(module, name, value)
