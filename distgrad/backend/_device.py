"""Where a tensor's memory is: `device("cpu")`, `device("cuda", 1)`."""

from typing import Any

from ..errors import DeviceError


class device:
    """A device by type and index, as torch writes it.

    Args:
        type: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; another device is returned as an equal one.
        index: GPU number; `None` with ``"cuda"`` means this rank's GPU.

    Raises:
        DeviceError: the type is unknown, or the index is given twice or negative.
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, type: Any, index: int | None = None) -> None:
        if isinstance(type, device):
            self.type, self.index = type.type, type.index
            return
        if isinstance(type, int) and not isinstance(type, bool):
            type, index = "cuda", type
        if not isinstance(type, str):
            raise DeviceError(f"expected a device such as 'cpu' or 'cuda:0', got {type!r}")
        name, colon, number = type.partition(":")
        if name not in ("cpu", "cuda") or (colon and not number.isdecimal()) or (colon and index is not None):
            raise DeviceError(f"expected a device such as 'cpu', 'cuda' or 'cuda:0', got {type!r}")
        if index is not None and index < 0:
            raise DeviceError(f"expected a device index >= 0, got {index}")
        self.type = name
        self.index = int(number) if colon else index

    def __repr__(self) -> str:
        return (
            f"device(type='{self.type}')" if self.index is None else f"device(type='{self.type}', index={self.index})"
        )

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple[Any, ...]:
        return (device, (str(self),))
