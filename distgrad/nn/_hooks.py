"""Hooks of a module: what users attach around forward, backward, saving and loading."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._tensor import Tensor
from ..autograd import Function
from ..autograd._node import HookHandle

if TYPE_CHECKING:
    from ._module import Module

Hook = Callable[..., Any]
Hooks = dict[int, Any]


class ModuleHooks:
    """The hooks of one module, made when the first is registered; calls look only whether it is there."""

    __slots__ = (
        "always",
        "backward",
        "backward_pre",
        "forward",
        "forward_pre",
        "load_post",
        "load_pre",
        "state_dict_post",
        "state_dict_pre",
    )

    def __init__(self) -> None:
        self.forward_pre: Hooks = {}  # id -> (hook, with_kwargs)
        self.forward: Hooks = {}  # id -> (hook, with_kwargs)
        self.always: set[int] = set()  # ids of forward hooks that also run when forward raises
        self.backward_pre: Hooks = {}
        self.backward: Hooks = {}
        self.state_dict_pre: Hooks = {}
        self.state_dict_post: Hooks = {}
        self.load_pre: Hooks = {}
        self.load_post: Hooks = {}


def add_hook(hooks: Hooks, hook: Any, prepend: bool = False) -> HookHandle:
    """Registers a hook behind the others, or before them."""
    handle = HookHandle(hooks, hook)
    if prepend:
        others = {key: value for key, value in hooks.items() if key != handle.id}
        hooks.clear()
        hooks[handle.id] = hook
        hooks.update(others)
    return handle


def call_with_hooks(module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of a module that has hooks."""
    hooks = module._hooks
    assert hooks is not None
    args, kwargs = _run_forward_pre(module, hooks, args, kwargs)
    boundary = _Boundary(module, hooks) if hooks.backward or hooks.backward_pre else None
    if boundary is not None:
        args = boundary.enter(args)
    try:
        result = module.forward(*args, **kwargs)
    except Exception:
        for key in [key for key in hooks.forward if key in hooks.always]:
            _run_forward(module, hooks, key, args, kwargs, None)
        raise
    for key in list(hooks.forward):
        result = _run_forward(module, hooks, key, args, kwargs, result)
    return result if boundary is None else boundary.leave(result)


def _run_forward_pre(
    module: "Module", hooks: ModuleHooks, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for hook, with_kwargs in list(hooks.forward_pre.values()):
        changed = hook(module, args, kwargs) if with_kwargs else hook(module, args)
        if changed is None:
            continue
        if not with_kwargs:
            args = changed if isinstance(changed, tuple) else (changed,)
        elif isinstance(changed, tuple) and len(changed) == 2:
            args, kwargs = changed
        else:
            raise RuntimeError(
                f"forward pre-hook of {type(module).__name__}: expected None or a tuple (new_args, new_kwargs), "
                f"got {type(changed).__name__}"
            )
    return args, kwargs


def _run_forward(
    module: "Module", hooks: ModuleHooks, key: int, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Any:
    hook, with_kwargs = hooks.forward[key]
    changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
    return result if changed is None else changed


class _Boundary:
    """Two marks in the graph, around one call of a module, at which its full backward hooks see the gradients."""

    def __init__(self, module: "Module", hooks: ModuleHooks) -> None:
        self.module = module
        self.hooks = hooks
        self.inputs = 0  # positional arguments in all
        self.places: list[int] = []  # which of them are tensors that require grad
        self.grad_output: tuple[Any, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Marks the inputs."""
        self.inputs = len(args)
        self.places = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        if not self.places:
            return args
        marked = list(args)
        for i, t in zip(self.places, _Mark.apply(self.at_input, *[args[i] for i in self.places]), strict=True):
            marked[i] = t
        return tuple(marked)

    def leave(self, result: Any) -> Any:
        """Marks the outputs: a tensor, or the tensors of a tuple, list or dict."""
        if isinstance(result, Tensor):
            return _Mark.apply(self.at_output, result)[0]
        if isinstance(result, dict):
            return dict(zip(result, self.leave(tuple(result.values())), strict=True))
        if not isinstance(result, (tuple, list)):
            return result
        places = [i for i, t in enumerate(result) if isinstance(t, Tensor)]
        marked = list(result)
        if places:
            for i, t in zip(places, _Mark.apply(self.at_output, *[result[i] for i in places]), strict=True):
                marked[i] = t
        if isinstance(result, list):
            return marked
        return type(result)(*marked) if _is_named_tuple(result) else tuple(marked)

    def at_output(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Backward has reached the outputs."""
        for hook in list(self.hooks.backward_pre.values()):
            changed = hook(self.module, grads)
            if changed is not None:
                grads = changed if isinstance(changed, tuple) else (changed,)
                _need_tensors(self.module, grads)
        self.grad_output = grads
        if not self.places:
            self.run((None,) * self.inputs)
        return grads

    def at_input(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Backward has come through the module."""
        every: list[Any] = [None] * self.inputs
        for i, g in zip(self.places, grads, strict=True):
            every[i] = g
        changed = self.run(tuple(every))
        return tuple(changed[i] for i in self.places)

    def run(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        """Runs the backward hooks; what one returns takes the place of grad_input."""
        for hook in list(self.hooks.backward.values()):
            changed = hook(self.module, grad_input, self.grad_output)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                _need_tensors(self.module, changed)
                if len(changed) != len(grad_input):
                    raise RuntimeError(
                        f"backward hook of {type(self.module).__name__}: expected {len(grad_input)} gradients "
                        f"(one for each positional input of forward), got {len(changed)}"
                    )
                grad_input = changed
        return grad_input


def _need_tensors(module: "Module", grads: tuple[Any, ...]) -> None:
    for grad in grads:
        if grad is not None and not isinstance(grad, Tensor):
            raise TypeError(
                f"backward hook of {type(module).__name__}: expected None, or a Tensor or None for each gradient, got "
                f"{type(grad).__name__}"
            )


def _is_named_tuple(value: tuple[Any, ...]) -> bool:
    return type(value) is not tuple and hasattr(value, "_fields")


class _Mark(Function):
    """Passes tensors on, and their gradients through a function."""

    @staticmethod
    def forward(ctx: Any, see: Hook, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.see = see
        ctx.set_materialize_grads(False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return (None, *ctx.see(grads))
