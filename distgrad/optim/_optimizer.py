"""The optimizer as users see it: parameter groups, state, hooks and state dicts, all in torch's layout."""

import copy
import functools
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .._survivors import enlist
from .._tensor import Tensor
from ..autograd._mode import enable_grad
from ..autograd._node import HookHandle
from ..errors import StateDictError
from ..ops import move

Group = dict[str, Any]
Params = Iterable[Tensor] | Iterable[Group] | Iterable[tuple[str, Tensor]]
Closure = Callable[[], Any]


# Hooks around the steps of all optimizers.
_every_pre_hook: dict[int, Callable[..., Any]] = {}
_every_post_hook: dict[int, Callable[..., Any]] = {}


class _Here(threading.local):
    """What holds in one thread: whether it is within a step, which may make those of parts of an optimizer."""

    in_step = False


_here = _Here()


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> HookHandle:
    """Calls ``hook(optimizer, args, kwargs)`` before each step of every optimizer; see `register_step_pre_hook`.

    Not before those that a step makes: of the optimizer that a ZeroRedundancyOptimizer wraps, or of ``super()``.
    """
    return HookHandle(_every_pre_hook, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> HookHandle:
    """Calls ``hook(optimizer, args, kwargs)`` after each step of every optimizer."""
    return HookHandle(_every_post_hook, hook)


def number(value: Any) -> float:
    """A hyperparameter as a Python float; it may be given as a tensor of one element."""
    return value if value.__class__ is float else float(value)


def require(holds: bool, name: str, value: Any) -> None:
    """Raises ValueError, in torch's words, where a hyperparameter is out of its range."""
    if not holds:
        raise ValueError(f"Invalid {name}: {value}")


class Optimizer:
    """Base of all optimizers. A subclass passes its hyperparameters to ``__init__`` and defines `step`.

    Args:
        params: the tensors to optimize, ``(name, tensor)`` pairs, or dicts ``{"params": [...], "lr": ...}`` that make
            one group each.
        defaults: the hyperparameters that a group has unless it gives its own.

    Attributes:
        param_groups: a list of dicts; what is written there, such as a new ``lr``, counts from the next step on.
        state: for each parameter, a dict of what the optimizer remembers of it.
        defaults: as given.

    Raises:
        ValueError: there are no parameters, one is no leaf, or one is in two groups.
        TypeError: `params` is a tensor, a set, or holds something other than tensors.

    Example:
        >>> class Signs(Optimizer):
        ...     def __init__(self, params, lr):
        ...         super().__init__(params, {"lr": lr})
        ...     @no_grad()
        ...     def step(self, closure=None):
        ...         for group in self.param_groups:
        ...             for p in group["params"]:
        ...                 if p.grad is not None:
        ...                     p -= group["lr"] * p.grad.sign()
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got a Tensor; "
                "pass [tensor]"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._make_hooks()
        if not isinstance(params, Iterable):
            raise TypeError(
                f"expected an iterable of Tensors or dicts, got {type(params).__name__}; pass model.parameters()"
            )
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        enlist("optimizer", self)

    def _make_hooks(self) -> None:
        self._pre_hooks: dict[int, Callable[..., Any]] = {}
        self._post_hooks: dict[int, Callable[..., Any]] = {}
        self._state_dict_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._state_dict_post_hooks: dict[int, Callable[..., Any]] = {}
        self._load_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._load_post_hooks: dict[int, Callable[..., Any]] = {}
        self._opt_called = False  # what the schedulers' warning asks for

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def step(self, closure: Closure | None = None) -> Any:
        """Changes the parameters by their gradients.

        Args:
            closure: computes the loss and its gradients again and returns the loss; most optimizers do not need it.

        Returns:
            What the closure returned.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define step()")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters.

        Args:
            set_to_none: leave ``.grad`` None, which costs nothing; False fills it with zeros.
        """
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p._grad is None or p._grad.is_sparse:
                    p._grad = None
                else:
                    if p._grad._target is not None:
                        p._grad = p._grad.detach()
                    p._grad._data[...] = 0
                    p._grad._cell[0] += 1

    # ---- groups ----
    def add_param_group(self, param_group: Group) -> None:
        """Adds a group, for parameters that appear later or have hyperparameters of their own.

        Raises:
            TypeError: it is no dict, or its parameters are no ordered collection of tensors.
            ValueError: a parameter is no leaf, or is in another group already.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = param_group
        group["params"], names = _named(group["params"])
        if names is not None:
            group["param_names"] = names
        for p in group["params"]:
            _check_parameter(p, bool(self.defaults.get("differentiable")))
        for key, value in self.defaults.items():
            group.setdefault(key, value)
        if self.param_groups and ("param_names" in self.param_groups[0]) != (names is not None):
            raise ValueError(
                "all optimizer param groups should be with/without names: give (name, parameter) pairs always or never"
            )
        self._check_membership(group)
        self.param_groups.append(group)

    def _check_membership(self, group: Group) -> None:
        ids = {id(p) for p in group["params"]}
        if len(ids) < len(group["params"]):
            message = "optimizer contains a parameter group with duplicate parameters; each is updated once"
            warnings.warn(message, stacklevel=4)
            group["params"] = list({id(p): p for p in group["params"]}.values())
        if any(id(p) in ids for other in self.param_groups for p in other["params"]):
            raise ValueError("some parameters appear in more than one parameter group")

    # ---- state dicts ----
    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, with numbers in place of parameters.

        Returns:
            ``{"state": {number: {...}}, "param_groups": [{..., "params": [numbers]}]}``; the tensors are the
            optimizer's own, not copies.
        """
        for hook in tuple(self._state_dict_pre_hooks.values()):
            hook(self)
        numbers = self._numbers()
        state = {numbers[id(p)] if isinstance(p, Tensor) else p: entry for p, entry in self.state.items()}
        result: dict[str, Any] = {"state": state, "param_groups": self.packed_groups()}
        for hook in tuple(self._state_dict_post_hooks.values()):
            result = _or_else(hook(self, result), result)
        return result

    def packed_groups(self) -> list[Group]:
        """The groups as a state dict has them, with numbers in place of parameters."""
        numbers = self._numbers()
        groups = []
        for group in self.param_groups:
            packed = {key: value for key, value in group.items() if key != "params"}
            groups.append({**packed, "params": [numbers[id(p)] for p in group["params"]]})
        return groups

    def _numbers(self) -> dict[int, int]:
        """The number of each parameter, by its id."""
        return {id(p): number for number, p in enumerate(_members(self.param_groups))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the state and the hyperparameters of another optimizer, by the order of the parameters.

        Floating-point state is converted to the dtype, all state to the device, of its parameter.

        Raises:
            StateDictError: the groups differ in number or in size.
        """
        given = dict(state_dict)
        for hook in tuple(self._load_pre_hooks.values()):
            given = _or_else(hook(self, given), given)
        saved_groups = copy.deepcopy(given["param_groups"])
        self._check_fits(saved_groups)
        owner = dict(zip(_members(saved_groups), _members(self.param_groups), strict=True))
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for key, entry in given["state"].items():
            if key in owner:
                state[owner[key]] = _fitted(entry, owner[key])
            else:
                state[key] = entry
        for group, saved in zip(self.param_groups, saved_groups, strict=True):
            names = group.get("param_names")
            params = group["params"]
            group.clear()
            group.update(saved)
            group["params"] = params
            if names is not None:
                group.setdefault("param_names", names)
        self.__setstate__({"state": state, "param_groups": self.param_groups})
        self._opt_called = self._opt_called or bool(state)  # by who saved it: the schedule that was saved knows that
        for hook in tuple(self._load_post_hooks.values()):
            hook(self)

    def _check_fits(self, saved: list[Group]) -> None:
        if len(saved) != len(self.param_groups):
            raise StateDictError(
                "loaded state dict has a different number of parameter groups: expected "
                f"{len(self.param_groups)}, got {len(saved)}; build the optimizer with the groups it was saved with"
            )
        for i, (group, other) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(group["params"]) != len(other["params"]):
                raise StateDictError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                    f"group {i} has {len(group['params'])} parameters, the loaded one {len(other['params'])}"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_pre_hooks" not in self.__dict__:
            self._make_hooks()
        for group in self.param_groups:  # what an older version did not save
            for key, value in self.defaults.items():
                group.setdefault(key, value)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # ---- hooks ----
    def register_step_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Calls ``hook(optimizer, args, kwargs)`` before each step; it may return a new ``(args, kwargs)``."""
        return HookHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Calls ``hook(optimizer, args, kwargs)`` after each step."""
        return HookHandle(self._post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Calls ``hook(optimizer)`` before `state_dict`."""
        return _register(self._state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Calls ``hook(optimizer, state_dict)`` after `state_dict`; it may return another dict."""
        return _register(self._state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Calls ``hook(optimizer, state_dict)`` before `load_state_dict`; it may return another dict."""
        return _register(self._load_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Calls ``hook(optimizer)`` after `load_state_dict`."""
        return _register(self._load_post_hooks, hook, prepend)


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """A subclass's `step` with the hooks around it."""

    @functools.wraps(step)
    def wrapped(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        is_whole = not _here.in_step
        if self._pre_hooks or _every_pre_hook:
            args, kwargs = _run_pre_hooks(self, is_whole, args, kwargs)
        self._opt_called = True
        _here.in_step = True
        try:
            result = step(self, *args, **kwargs)
        finally:
            _here.in_step = not is_whole
        if self._post_hooks or _every_post_hook:
            for hook in (*self._post_hooks.values(), *(_every_post_hook.values() if is_whole else ())):
                hook(self, args, kwargs)
        return result

    return wrapped


def _run_pre_hooks(optimizer: Optimizer, is_whole: bool, args: Any, kwargs: Any) -> Any:
    """The step's arguments after its hooks, those of all optimizers first."""
    for hook in (*(_every_pre_hook.values() if is_whole else ()), *optimizer._pre_hooks.values()):
        changed = hook(optimizer, args, kwargs)
        if changed is not None:
            if not isinstance(changed, tuple) or len(changed) != 2:
                raise RuntimeError(
                    f"a step pre-hook must return None or a tuple of (new_args, new_kwargs), but got {changed!r}"
                )
            args, kwargs = changed
    return args, kwargs


def call_closure(closure: Closure | None) -> Any:
    """What the closure returned, called with gradients enabled; None without one."""
    if closure is None:
        return None
    with enable_grad():
        return closure()


def _register(hooks: dict[int, Callable[..., Any]], hook: Callable[..., Any], prepend: bool) -> HookHandle:
    handle = HookHandle(hooks, hook)
    if prepend:
        others = {key: value for key, value in hooks.items() if key != handle.id}
        for key in others:
            del hooks[key]
        hooks.update(others)
    return handle


def _named(params: Any) -> tuple[list[Tensor], list[str] | None]:
    """A group's parameters as a list, and their names where ``(name, parameter)`` pairs were given."""
    if isinstance(params, Tensor):
        return [params], None
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
            "will change between runs. Please use a list instead."
        )
    items = list(params)
    pairs = [isinstance(item, tuple) and len(item) == 2 for item in items]
    if not any(pairs):
        return items, None
    if not all(pairs):
        raise ValueError("all optimizer params should be with/without names. Some param names are missing")
    return [p for _, p in items], [str(name) for name, _ in items]


def _check_parameter(p: Any, differentiable: bool) -> None:
    if not isinstance(p, Tensor):
        raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
    if differentiable:
        raise ValueError(
            "differentiable=True is not supported: optimizers here change the parameters in place, outside the graph"
        )
    if not p.is_leaf:
        raise ValueError("can't optimize a non-leaf Tensor")


def _members(groups: list[Group]) -> Iterator[Any]:
    for group in groups:
        yield from group["params"]


def _or_else(value: Any, default: Any) -> Any:
    return default if value is None else value


def _fitted(value: Any, p: Tensor, key: Any = None) -> Any:
    """Loaded state in the dtype and on the device of its parameter; `step` stays as it is."""
    if isinstance(value, Tensor):
        if key == "step":
            return value
        like = p.dtype if p.is_floating_point() and value.is_floating_point() else None
        return move(value, p.device, like, copy=False)
    if isinstance(value, dict):
        return {k: _fitted(v, p, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_fitted(v, p) for v in value)
    return value
