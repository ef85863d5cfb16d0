"""A look for NaN and infinity in gradients, before other ranks get them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor
from .._typing import Array
from ..backend import backend_of
from ..comm import Communicator
from ..errors import AutogradError


def check_finite(communicator: Communicator, parameters: Sequence[Tensor], names: dict[Tensor, str]) -> None:
    """Raises on all ranks where a gradient of any rank is not finite. A collective call.

    Raises:
        AutogradError: it names each rank and the first of its parameters with such a gradient.
    """
    bad = next((i for i, p in enumerate(parameters) if p._grad is not None and not _is_finite(p._grad._data)), -1)
    found = np.empty(communicator.size, np.int64)
    communicator.all_gather(found, np.array([bad], np.int64))
    if (found >= 0).any():
        places = [f"rank {rank}: {names[parameters[i]]!r}" for rank, i in enumerate(found.tolist()) if i >= 0]
        raise AutogradError(
            "DistributedDataParallel(check_for_nan=True): expected finite gradients, got NaN or infinity before they "
            f"were reduced; first on {'; '.join(places)}. distgrad.autograd.detect_anomaly() finds the operation"
        )


def _is_finite(array: Array) -> bool:
    """A sum tells at once that all is well; that it overflowed says nothing."""
    xp: Any = backend_of(array).xp
    with np.errstate(all="ignore"):
        return bool(xp.isfinite(array.sum())) or bool(xp.isfinite(array).all())
