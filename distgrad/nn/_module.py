"""Module: the base of all layers and models."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

from .. import ops
from .._parameter import Parameter
from .._tensor import Tensor
from ..autograd._node import HookHandle
from ..backend import as_dtype
from ._buffer import Buffer
from ._hooks import Hook, ModuleHooks, add_hook, call_with_hooks
from ._state_dict import IncompatibleKeys, collect, load, load_own, save_own

_KINDS = ("_parameters", "_buffers", "_modules")


def _forward_missing(self: "Module", *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')


class Module:
    """The base of all layers and models. A subclass assigns its parts as attributes and defines `forward`.

    Parameters, buffers and modules are kept by name in three dicts, and as ordinary attributes too, so that reading
    ``self.weight`` costs no more than reading any attribute. Both change together, by assignment and by the
    ``register_...`` methods; the dicts are for reading.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden, self.out = nn.Linear(4, 8), nn.Linear(8, 2)
        ...     def forward(self, x):
        ...         return self.out(self.hidden(x).relu())
        >>> Net()(distgrad.ones(3, 4)).shape
        distgrad.Size([3, 2])
    """

    training: bool
    forward: Callable[..., Any] = _forward_missing
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, "Module | None"]
    _non_persistent: set[str]
    _hooks: ModuleHooks | None = None

    def __init__(self) -> None:
        own = self.__dict__
        own["training"] = True
        own["_parameters"] = {}
        own["_buffers"] = {}
        own["_modules"] = {}
        own["_non_persistent"] = set()

    if TYPE_CHECKING:  # what was registered by name; when it runs, these are ordinary attributes

        def __getattr__(self, name: str) -> Any: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        return call_with_hooks(self, args, kwargs)

    # ---- attributes and registration ----
    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._forget(name, keep="_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, keep="_modules")
            self.add_module(name, value)
        elif isinstance(value, Buffer):
            self._forget(name, keep="_buffers")
            self.register_buffer(name, value, value.persistent)
        else:
            self._set_plain(name, value)

    def _set_plain(self, name: str, value: Any) -> None:
        """Sets an attribute that is neither parameter nor module; a registered name only takes what fits it."""
        own = self.__dict__
        for kind in _KINDS:
            if name in own.get(kind, ()):
                if value is not None and not (kind == "_buffers" and isinstance(value, Tensor)):
                    wanted = {"_parameters": "nn.Parameter", "_buffers": "Tensor", "_modules": "nn.Module"}[kind]
                    what = {"_parameters": "parameter", "_buffers": "buffer", "_modules": "child module"}[kind]
                    raise TypeError(
                        f"cannot assign {type(value).__name__!r} object as {what} {name!r} of {type(self).__name__} "
                        f"({wanted} or None expected)"
                    )
                own[kind][name] = own[name] = value
                return
        object.__setattr__(self, name, value)

    def _forget(self, name: str, keep: str) -> None:
        own = self.__dict__
        for kind in _KINDS:
            if kind not in own:
                raise AttributeError(
                    f"cannot assign {name!r} before Module.__init__() call: begin {type(self).__name__}.__init__ with "
                    "super().__init__()"
                )
            if kind == keep and name in own[kind]:
                return
            if kind != keep:
                own[kind].pop(name, None)
        own["_non_persistent"].discard(name)
        own.pop(name, None)

    def __delattr__(self, name: str) -> None:
        for kind in _KINDS:
            self.__dict__.get(kind, {}).pop(name, None)
        self.__dict__.get("_non_persistent", set()).discard(name)
        object.__delattr__(self, name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter; None reserves the name.

        Raises:
            KeyError: the name is taken, empty, or contains a dot.
            TypeError: it is no Parameter.
        """
        self._check_name(name, "_parameters", "parameter")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign {type(param).__name__!r} object to parameter {name!r} (nn.Parameter or None expected)"
            )
        self._parameters[name] = self.__dict__[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that belongs to the state but is no parameter, such as a running mean.

        Args:
            persistent: whether it is part of the state dict.
        """
        self._check_name(name, "_buffers", "buffer")
        if tensor is not None and not isinstance(tensor, Tensor):
            given = type(tensor).__name__
            raise TypeError(f"cannot assign {given!r} object to buffer {name!r} (Tensor or None expected)")
        self._buffers[name] = self.__dict__[name] = tensor
        if persistent:
            self._non_persistent.discard(name)
        else:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: "Module | None") -> None:
        """Adds a child module."""
        self._check_name(name, "_modules", "module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._modules[name] = self.__dict__[name] = module

    register_module = add_module

    def _check_name(self, name: str, kind: str, what: str) -> None:
        if kind not in self.__dict__:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string, got {type(name).__name__}")
        if name == "" or "." in name:
            raise KeyError(f"{what} name can't be empty or contain '.', got {name!r}")
        if name not in self.__dict__[kind] and (name in self.__dict__ or hasattr(type(self), name)):
            raise KeyError(f"attribute {name!r} already exists")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # ---- what is in it ----
    def named_modules(
        self, memo: "set[Module] | None" = None, prefix: str = "", remove_duplicate: bool = True
    ) -> "Iterator[tuple[str, Module]]":
        """This module and all in it, with their dotted names."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> "Iterator[Module]":
        """This module and all in it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> "Iterator[tuple[str, Module]]":
        """The modules directly in this one, with their names."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> "Iterator[Module]":
        """The modules directly in this one."""
        for _, child in self.named_children():
            yield child

    def _named_members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        pairs = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in pairs:
            for name, member in module.__dict__[kind].items():
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names, each once."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once: what an optimizer takes."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their dotted names, each once."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> "Module":
        """The module of a dotted name; "" is this one.

        Raises:
            AttributeError: there is none.
        """
        module: Module = self
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(f"{type(module).__name__} has no module {name!r} (looking for {target!r})")
            module = child
        return module

    def set_submodule(self, target: str, module: "Module") -> None:
        """Puts a module in the place of the one with a dotted name."""
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if name not in parent._modules:
            raise AttributeError(f"{type(parent).__name__} has no module {name!r} (looking for {target!r})")
        parent.add_module(name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name."""
        return self._get_member("_parameters", target)  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name."""
        return self._get_member("_buffers", target)  # type: ignore[no-any-return]

    def _get_member(self, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        member = module.__dict__[kind].get(name)
        if member is None:
            raise AttributeError(f"{type(module).__name__} has no {kind[1:-1]} {name!r} (looking for {target!r})")
        return member

    # ---- changes to all of it ----
    def apply(self, fn: "Callable[[Module], Any]") -> Self:
        """Calls ``fn(module)`` for every module in this one, children first."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets training mode, which Dropout and BatchNorm look at, here and below."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be boolean, got {mode!r}")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Sets evaluation mode, here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Unfreezes or freezes all parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops all gradients, or sets them to zero."""
        for p in self.parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad = p.grad.detach()
                p.grad.zero_()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Passes the values of all parameters, gradients and buffers through `fn`; parameters stay the same objects."""
        for child in self.children() if recurse else ():
            child._apply(fn)
        for p in self._parameters.values():
            if p is not None:
                _replace_values(p, fn)
        for name, b in self._buffers.items():
            if b is not None:
                self._buffers[name] = self.__dict__[name] = fn(b)
        return self

    def to(self, *args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> Self:
        """Moves parameters and buffers to a device, and the floating-point ones to a dtype; in place.

        Example:
            >>> nn.Linear(2, 2).to(distgrad.float64).weight.dtype
            distgrad.float64
        """
        where, kind = ops.split_to_arguments(args, device, dtype)
        kind = None if kind is None else as_dtype(kind)
        if kind is not None and not (kind.is_floating_point or kind.is_complex):
            raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, got {kind}")
        return self._apply(lambda t: t.to(device=where, dtype=kind if t.is_floating_point() else None))

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Gives parameters and buffers new memory on a device, whose values are not set."""
        return self._apply(lambda t: ops.empty_like(t, device=device), recurse)

    def cpu(self) -> Self:
        """Moves parameters and buffers to host memory."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Moves parameters and buffers to a GPU; this rank's by default."""
        return self.to("cuda" if device is None else device)

    def float(self) -> Self:
        """Casts floating-point parameters and buffers to float32."""
        return self.to(dtype="float32")

    def double(self) -> Self:
        """Casts floating-point parameters and buffers to float64."""
        return self.to(dtype="float64")

    def half(self) -> Self:
        """Casts floating-point parameters and buffers to float16."""
        return self.to(dtype="float16")

    def bfloat16(self) -> Self:
        """Casts floating-point parameters and buffers to bfloat16."""
        return self.to(dtype="bfloat16")

    def type(self, dst_type: Any) -> Self:
        """Casts all parameters and buffers to a dtype."""
        return self._apply(lambda t: t.to(dtype=dst_type))

    # ---- state ----
    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name. The tensors share the module's memory.

        Args:
            prefix: put before every name.
            keep_vars: give the parameters themselves instead of detached tensors.
        """
        return collect(self, destination, prefix, keep_vars)  # type: ignore[no-any-return]

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Copies values by name into parameters and buffers.

        Args:
            strict: raise where names are missing or too many, instead of only returning them.
            assign: take the given tensors themselves instead of copying their values.

        Returns:
            ``(missing_keys, unexpected_keys)``.

        Raises:
            StateDictError: names or shapes do not match; every difference is listed.
        """
        return load(self, state_dict, strict, assign)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        save_own(self, destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        load_own(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def get_extra_state(self) -> Any:
        """In a subclass: more state, to be saved with the state dict."""
        raise RuntimeError(f"{type(self).__name__}.get_extra_state is not defined")

    def set_extra_state(self, state: Any) -> None:
        """In a subclass: takes back what `get_extra_state` gave."""
        raise RuntimeError(f"{type(self).__name__} defines get_extra_state but not set_extra_state")

    def _has_extra_state(self) -> bool:
        return type(self).get_extra_state is not Module.get_extra_state

    # ---- hooks ----
    def _get_hooks(self) -> ModuleHooks:
        if self._hooks is None:
            self.__dict__["_hooks"] = ModuleHooks()
        assert self._hooks is not None
        return self._hooks

    def register_forward_pre_hook(self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False) -> HookHandle:
        """Calls ``hook(module, args)`` before forward; what it returns, if not None, replaces the arguments."""
        return add_hook(self._get_hooks().forward_pre, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> HookHandle:
        """Calls ``hook(module, args, output)`` after forward; what it returns, if not None, replaces the output.

        Args:
            prepend: run it before those registered so far.
            with_kwargs: call it as ``hook(module, args, kwargs, output)``.
            always_call: also when forward raises; output is then None.
        """
        hooks = self._get_hooks()
        handle = add_hook(hooks.forward, (hook, with_kwargs), prepend)
        if always_call:
            hooks.always.add(handle.id)
        return handle

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> HookHandle:
        """Calls ``hook(module, grad_output)`` when backward reaches the outputs; its result replaces grad_output."""
        return add_hook(self._get_hooks().backward_pre, hook, prepend)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> HookHandle:
        """Calls ``hook(module, grad_input, grad_output)`` after backward; a returned tuple replaces grad_input."""
        return add_hook(self._get_hooks().backward, hook, prepend)

    def register_state_dict_pre_hook(self, hook: Hook) -> HookHandle:
        """Calls ``hook(module, prefix, keep_vars)`` before `state_dict` collects."""
        return add_hook(self._get_hooks().state_dict_pre, hook)

    def register_state_dict_post_hook(self, hook: Hook) -> HookHandle:
        """Calls ``hook(module, state_dict, prefix, local_metadata)`` at the end of `state_dict`."""
        return add_hook(self._get_hooks().state_dict_post, hook)

    _register_state_dict_hook = register_state_dict_post_hook

    def register_load_state_dict_pre_hook(self, hook: Hook) -> HookHandle:
        """Calls ``hook(module, *arguments)`` before loading, with the arguments of `_load_from_state_dict`."""
        return add_hook(self._get_hooks().load_pre, hook)

    def register_load_state_dict_post_hook(self, hook: Hook) -> HookHandle:
        """Calls ``hook(module, incompatible_keys)`` after loading; it may change the two lists."""
        return add_hook(self._get_hooks().load_post, hook)

    # ---- repr ----
    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """In a subclass: what stands between the brackets of its repr."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + indent(repr(child)) for name, child in self._modules.items()]
        return bracketed(self._get_name(), lines, children)


def indent(text: str) -> str:
    """All lines but the first, two spaces to the right."""
    return text.replace("\n", "\n  ")


def bracketed(name: str, lines: list[str], children: list[str]) -> str:
    """``Name(extra)`` on one line, or with each line and child on its own."""
    if len(lines) == 1 and not children:
        return f"{name}({lines[0]})"
    inner = "".join(f"\n  {line}" for line in [*lines, *children])
    return f"{name}({inner}\n)" if inner else f"{name}()"


def _replace_values(p: Parameter, fn: Callable[[Tensor], Tensor]) -> None:
    grad = p.grad
    moved = fn(p.data)
    if moved._data is p._data:
        return
    p.data = moved
    if grad is not None:
        p.grad = None
        p.grad = fn(grad.detach()).requires_grad_(grad.requires_grad)
