"""Generators: the streams that random tensors are drawn from."""

from typing import TYPE_CHECKING, Any

from .._typing import Array
from ..autograd._base import wrap
from ..backend import device
from ..backend._random import Stream, entropy
from ._common import tensor_of
from ._creation import place

if TYPE_CHECKING:
    from .._tensor import Tensor

_device = device
_DEFAULT_SEED = 67280421310721  # torch's, for a generator that was given none


class Generator:
    """A stream of random numbers of its own; pass it as ``generator=``.

    Args:
        device: where the numbers are wanted. They are the same on every device.

    Example:
        >>> g = Generator().manual_seed(0)
        >>> distgrad.randn(3, generator=g)
    """

    def __init__(self, device: Any = "cpu") -> None:
        self._device = place(device).resolve(_device(device))
        self._stream = Stream(_DEFAULT_SEED)

    @property
    def device(self) -> device:
        """Where its numbers go."""
        return self._device

    def manual_seed(self, seed: int) -> "Generator":
        """Begins the stream of `seed`."""
        self._stream.restart(int(seed))
        return self

    def seed(self) -> int:
        """Begins the stream of a seed that nobody chose, and returns it."""
        self._stream.restart(entropy())
        return self._stream.seed

    def initial_seed(self) -> int:
        """The seed of this stream."""
        return self._stream.seed

    def get_state(self) -> "Tensor":
        """Where the stream is, as a uint8 tensor."""
        return wrap(self._stream.get_state())

    def set_state(self, new_state: "Tensor") -> None:
        """Continues where `get_state` was called."""
        self._stream.set_state(tensor_of(new_state, "set_state")._data)

    def clone_state(self) -> "Generator":
        """Another generator at the same point of the same stream."""
        other = Generator(self._device)
        other.set_state(self.get_state())
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (str(self._device), self._stream.get_state())


def _restored(where: str, state: Array) -> Generator:
    generator = Generator(where)
    generator._stream.set_state(state)
    return generator


default_generator = Generator()
default_generator.seed()


def manual_seed(seed: int) -> Generator:
    """Seeds the default generator, from which everything draws that is given no other."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seeds the default generator with a number that nobody chose, and returns it."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> "Tensor":
    """Where the default generator is, as a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: "Tensor") -> None:
    """Continues the default generator where `get_rng_state` was called."""
    default_generator.set_state(new_state)


def stream_of(generator: Generator | None) -> Stream:
    """The stream of a generator; None means the default one."""
    return (default_generator if generator is None else generator)._stream
