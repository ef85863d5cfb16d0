"""Where loaded tensors go."""

from collections.abc import Callable
from typing import Any

from .._tensor import Tensor
from ..backend import device
from ..errors import CheckpointError, DeviceError
from ..ops import move

MapLocation = None | str | device | dict[str, str] | Callable[[Tensor, str], Tensor | None]


def deliver(tensor: Tensor, saved_on: str, map_location: MapLocation) -> Tensor:
    """A tensor, loaded into host memory, on the device where it is wanted.

    Args:
        tensor: in host memory.
        saved_on: the device that it was saved on, such as ``"cpu"`` or ``"cuda"``.
        map_location: None for that device; a device for all; a dict from one to another; or a function of the tensor
            and the device it was saved on, which returns the tensor where it should be, or None for where it was.

    Raises:
        CheckpointError: that device is not available.
    """
    where: Any = saved_on
    if isinstance(map_location, (str, device)):
        where = map_location
    elif isinstance(map_location, dict):
        where = map_location.get(saved_on, saved_on)
    elif map_location is not None:
        chosen = map_location(tensor, saved_on)
        if chosen is not None:
            return chosen
    if device(where).type == "cpu":
        return tensor
    try:
        return move(tensor, where, None, copy=False)  # type: ignore[no-any-return]
    except DeviceError as error:
        raise CheckpointError(f"cannot load a tensor onto {where}: {error}; pass map_location='cpu'") from error
