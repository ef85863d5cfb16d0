"""One workload on one rank, with communication or without."""

import time
from types import SimpleNamespace
from typing import Any

from .. import cuda, nn, ops, optim
from ..comm import Communicator
from ..parallel import DistributedDataParallel
from ._workloads import WORKLOADS, Program, train_step

LIBRARY = SimpleNamespace(
    nn=nn,
    optim=optim,
    arange=ops.arange,
    randint=ops.randint,
    randn=ops.randn,
)


def build(name: str, batch: int, device: str, seed: int) -> Program:
    """A workload with weights and data that follow from the seed."""
    ops.manual_seed(seed)
    return WORKLOADS[name].build(LIBRARY, batch, device)


class Trainer:
    """Takes steps of a workload and times them.

    Args:
        name: of the workload.
        batch: samples of this rank in a step.
        device: "cpu" or "cuda".
        group: whose ranks average their gradients; None for a model that is trained by this rank alone. Creating it is
            a collective call, and so is every step.
        seed: of the data, and of the weights where nobody else has a say in them.
        bucket_mb: MiB of gradients that are reduced at once with `overlap`; None for DistributedDataParallel's default.
        overlap: reduce during backward.
    """

    def __init__(
        self,
        name: str,
        batch: int,
        device: str = "cpu",
        group: Communicator | None = None,
        seed: int = 0,
        bucket_mb: float | None = None,
        overlap: bool = False,
    ) -> None:
        self._program = build(name, batch, device, seed)
        self._model: Any = self._program.model
        if group is not None:
            self._model = DistributedDataParallel(
                self._model, process_group=group, bucket_cap_mb=bucket_mb, overlap=overlap
            )
        self._optimizer = self._program.optimizer(self._model.parameters())
        self._on_gpu = device == "cuda"
        self.loss = float("nan")  # of the last step

    def seconds(self, steps: int) -> float:
        """Take this many steps; returns their time."""
        started = time.perf_counter()
        for _ in range(steps):
            loss = train_step(self._program, self._model, self._optimizer)
        if self._on_gpu:
            cuda.synchronize()
        ended = time.perf_counter()
        self.loss = float(loss.item())
        return ended - started
