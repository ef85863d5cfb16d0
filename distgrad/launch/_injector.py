"""Lets the faults of `--chaos` strike this rank; what they are is said in `_chaos`."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from time import monotonic, sleep
from typing import Any, NoReturn

from .._parameter import Parameter
from .._tensor import Tensor
from ..autograd._mode import add_observer
from ..autograd._pass import register_pass_hook
from ..errors import ChaosError
from ..optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from ._chaos import Fault


def _send(number: int) -> Callable[[Fault], None]:
    return lambda fault: os.kill(os.getpid(), number)


def _raise(error: type[BaseException]) -> Callable[[Fault], None]:
    def strike(fault: Fault) -> NoReturn:
        raise error(f"planted by --chaos: {fault}")

    return strike


def _nothing(fault: Fault) -> None:
    """`nan` and `slow` do their work in other places."""


_STRIKES: dict[str, Callable[[Fault], Any]] = {
    "kill": _send(signal.SIGKILL),
    "segv": lambda fault: ctypes.string_at(0),
    "term": _send(signal.SIGTERM),
    "stop": _send(signal.SIGSTOP),
    "exit": lambda fault: os._exit(int(fault.value)),
    "leave": lambda fault: sys.exit(int(fault.value)),
    "exc": _raise(ChaosError),
    "oom": _raise(MemoryError),
    "interrupt": _send(signal.SIGINT),
    "stall": lambda fault: sleep(fault.value),
    "slow": _nothing,
    "nan": _nothing,
}


class Injector:
    """Lets faults strike this rank.

    Args:
        faults: those of this rank, from `of_rank`.
        rank: of this process, for the line that announces a fault.
    """

    def __init__(self, faults: Iterable[Fault], rank: int) -> None:
        self._waiting = list(faults)
        self._rank = rank
        self._step = 1
        self._slow = 1.0
        self._began = monotonic()  # the step, or what follows a backward pass within it

    def install(self) -> None:
        """Listen to the steps of the training that is to come; without faults, nothing is installed."""
        if not any(fault.step for fault in self._waiting):
            return
        register_optimizer_step_pre_hook(self._before_update)
        register_optimizer_step_post_hook(self._after_update)
        register_pass_hook(self._at_backward)
        if any(fault.phase == "forward" for fault in self._waiting):
            add_observer(self._at_operation)

    def reach(self, phase: str) -> list[str]:
        """Come to a phase of the current step, or to one that has no step; returns the kinds that struck."""
        due = [fault for fault in self._waiting if fault.phase == phase and fault.step in (0, self._step)]
        for fault in due:
            self._waiting.remove(fault)
            print(f"distgrad.launch: --chaos: rank {self._rank}: {fault}", file=sys.stderr, flush=True)
            if fault.kind == "slow":
                self._slow = fault.value
            _STRIKES[fault.kind](fault)
        return [fault.kind for fault in due]

    def _before_update(self, optimizer: object, args: object, kwargs: object) -> None:
        self.reach("optimizer")

    def _after_update(self, optimizer: object, args: object, kwargs: object) -> None:
        self._step += 1
        self._began = monotonic()

    def _at_operation(self, op: object, node: object, inputs: object, outputs: object) -> None:
        if node is not None:
            self.reach("forward")

    def _at_backward(self, leaves: list[Any]) -> None:
        if "nan" in self.reach("backward"):
            _poison(leaves)
        if self._slow > 1:
            sleep((self._slow - 1) * (monotonic() - self._began))
            self._began = monotonic()


def _poison(leaves: list[Any]) -> None:
    """Put a NaN into the gradient that one parameter is about to get."""
    parameter = next((leaf for leaf in leaves if isinstance(leaf, Parameter)), None)
    if parameter is None:
        return

    def poisoned(gradient: Tensor) -> Tensor:
        handle.remove()
        result = gradient.clone()
        result.view(-1)[0] = float("nan")
        return result

    handle = parameter.register_hook(poisoned)
