"""Activation checkpointing: less memory for a second forward pass. The page ``distgrad.utils.checkpoint``."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .autograd import is_grad_enabled
from .autograd._base import TensorBase
from .autograd._recompute import run_forgetting
from .errors import AutogradError as CheckpointError
from .ops import get_rng_state, set_rng_state

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn"]


def noop_context_fn() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Two contexts that do nothing: for the first and for the second forward pass."""
    return nullcontext(), nullcontext()


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = False,
    context_fn: Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    preserve_rng_state: bool = True,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """Calls ``function(*args, **kwargs)`` without keeping what backward needs of it; backward calls it again for that.

    What stays in memory are the inputs and the outputs. Gradients, hooks, `autograd.grad`, higher derivatives and
    DistributedDataParallel work as without; checkpoints may lie inside others. Side effects happen twice, such as the
    update of running means.

    Args:
        function: does the same whenever it is called on the same inputs, which it must not change in place.
        args, kwargs: what it is called with; tensors, or anything else.
        use_reentrant: accepted as in torch; there is one way, which has the abilities of torch's False.
        context_fn: gives two contexts, in which the function is called first and again.
        determinism_check: ``"default"`` compares shapes and dtypes of both runs, ``"none"`` only the operations.
        debug, early_stop: accepted as in torch, not used.
        preserve_rng_state: let random operations, such as dropout, draw the same numbers again.

    Returns:
        What the function returns.

    Raises:
        CheckpointError: in backward, when the second run is not like the first.

    Example:
        >>> y = checkpoint(block, x)
        >>> y.sum().backward()  # runs block(x) again
    """
    if determinism_check not in ("default", "none"):
        raise ValueError(f"checkpoint: expected determinism_check to be 'default' or 'none', got {determinism_check!r}")
    if not is_grad_enabled():
        return function(*args, **kwargs)
    state = get_rng_state() if preserve_rng_state else None
    first, second = context_fn()

    def again() -> None:
        with _Randomness(state), second:
            function(*args, **kwargs)

    inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, TensorBase)]
    with first:
        return run_forgetting(lambda: function(*args, **kwargs), again, inputs, determinism_check == "default")


def checkpoint_sequential(
    functions: Iterable[Callable[..., Any]],
    segments: int,
    input: Any,
    use_reentrant: bool | None = False,
    preserve_rng_state: bool = True,
) -> Any:
    """Calls one function after the other, in segments of which all but the last are checkpoints.

    Args:
        functions: an `nn.Sequential`, or any iterable of functions of one argument.
        segments: into how many to cut them.
        input: of the first.
        use_reentrant, preserve_rng_state: as in `checkpoint`.

    Returns:
        What the last function returns.
    """
    listed = list(functions)
    size = len(listed) // segments
    if size == 0:
        raise ValueError(
            f"checkpoint_sequential: expected at most as many segments as functions, {len(listed)}, got {segments}"
        )

    def run(start: int, stop: int, value: Any) -> Any:
        for function in listed[start:stop]:
            value = function(value)
        return value

    starts = range(0, size * (segments - 1), size)
    for start in starts:
        input = checkpoint(run, start, start + size, input, preserve_rng_state=preserve_rng_state)
    return run(size * (segments - 1), len(listed), input)


class _Randomness:
    """The default generator at an earlier point, while it lasts."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def __enter__(self) -> None:
        if self._state is not None:
            self._before = get_rng_state()
            set_rng_state(self._state)

    def __exit__(self, *exc: object) -> None:
        if self._state is not None:
            set_rng_state(self._before)
