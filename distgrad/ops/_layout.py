"""torch's names for how elements lie in memory. They are accepted, and change nothing: memory is dense and strided."""


class layout:
    """How a tensor is stored; `strided` is the only one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"distgrad.{self._name}"

    def __reduce__(self) -> str:
        return self._name


class memory_format(layout):
    """In which order the elements of a dense tensor lie."""


strided = layout("strided")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
