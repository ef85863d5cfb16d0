"""Streams of random numbers on NumPy's Philox bit generator, whose state is a key and a counter.

Philox: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import os
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array, Shape

_WORD = (1 << 64) - 1
_STATE_WORDS = 13
_BRANCHES = 0x6272616E6368  # the second word of the key of branches; that of the stream itself is 0
_PAIRS = 1 << 14  # numbers of a block of `normal`, which then stays in the L2 cache


def entropy() -> int:
    """A seed that nobody chose: 53 bits, as torch draws it, so that it survives a float."""
    return int.from_bytes(os.urandom(8)) >> 11


class Branch(NamedTuple):
    """Where a stream was when it was left for a branch."""

    generator: Any
    bits: Any


class Stream:
    """A stream of random numbers in host memory.

    Args:
        seed: any integer; taken modulo 2**64.
    """

    def __init__(self, seed: int) -> None:
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begins the stream of another seed."""
        self.seed = seed & _WORD
        self.__dict__.pop("_generator", None)
        self.__dict__.pop("_bits", None)

    @cached_property
    def _generator(self) -> "np.random.Generator":
        # Made on first use: numpy.random is a tenth of what importing NumPy takes.
        return np.random.Generator(np.random.Philox(key=self.seed))

    @cached_property
    def _bits(self) -> Any:
        return self._generator.bit_generator

    # ---- branches ----
    def branch(self, *place: int) -> "Branch":
        """Goes over to a stream of its own that follows from the seed and a place alone, not from what was drawn.

        Args:
            place: up to 3 numbers below 2**64.

        Returns:
            where this stream was, for `rejoin`.
        """
        here = Branch(self.__dict__.get("_generator"), self.__dict__.get("_bits"))
        counter = np.array([0, *place, *[0] * (3 - len(place))], dtype=np.uint64)  # its first word counts what is drawn
        bits = np.random.Philox(key=np.array([self.seed, _BRANCHES], dtype=np.uint64), counter=counter)
        self.__dict__.update(_bits=bits, _generator=np.random.Generator(bits))
        return here

    def rejoin(self, here: "Branch") -> None:
        """Goes on where `branch` left the stream."""
        for name, value in (("_generator", here.generator), ("_bits", here.bits)):
            if value is None:  # nothing had been drawn yet
                self.__dict__.pop(name, None)
            else:
                self.__dict__[name] = value

    # ---- state ----
    def get_state(self) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
        """Where the stream is, as 104 bytes."""
        state = self._bits.state
        words = [
            self.seed, *state["state"]["counter"], *state["state"]["key"], *state["buffer"],
            int(state["buffer_pos"]) | int(state["has_uint32"]) << 32, state["uinteger"],
        ]  # fmt: skip
        return np.array([int(w) for w in words], dtype=np.uint64).view(np.uint8)

    def set_state(self, state: Array) -> None:
        """Continues where `get_state` was called.

        Raises:
            ValueError: this is no such state.
        """
        raw = np.ascontiguousarray(state)
        if raw.dtype != np.uint8 or raw.size != 8 * _STATE_WORDS:
            raise ValueError(
                f"expected the {8 * _STATE_WORDS} bytes (uint8) of a distgrad random state, got {raw.size} elements of "
                f"{raw.dtype}; pass what get_state() or get_rng_state() returned"
            )
        words = raw.view(np.uint64)
        self.seed = int(words[0])
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {"counter": words[1:5].copy(), "key": words[5:7].copy()},
            "buffer": words[7:11].copy(),
            "buffer_pos": int(words[11]) & 0xFFFFFFFF,
            "has_uint32": int(words[11]) >> 32,
            "uinteger": int(words[12]),
        }

    # ---- what is drawn ----
    @property
    def generator(self) -> "np.random.Generator":
        """NumPy's generator on the same stream, for the rarer distributions."""
        return self._generator

    def uniform(self, shape: Shape, dtype: "np.dtype[np.floating]") -> Array:
        """Uniform numbers in [0, 1)."""
        if dtype == np.float32 or dtype == np.float64:
            return self._generator.random(shape, dtype=dtype)
        return self._coarse_uniform(shape, dtype)

    def _coarse_uniform(self, shape: Shape, dtype: "np.dtype[np.floating]") -> Array:
        # A float32 below 1 may round up to 1 in half precision, so as many bits are drawn as the type's mantissa holds.
        mantissa = 11 if dtype == np.float16 else 8
        bits = self._generator.integers(0, 1 << mantissa, shape, dtype=np.uint16)
        return (bits.astype(np.float32) * np.float32(2.0**-mantissa)).astype(dtype)

    def normal(self, shape: Shape, dtype: "np.dtype[np.floating]") -> Array:
        """Standard normal numbers."""
        if dtype == np.float64:
            return self._generator.standard_normal(shape)
        out = np.empty(shape, dtype=np.float32)
        self._fill_normal(out.reshape(-1))
        return out.astype(dtype, copy=False)

    def _fill_normal(self, out: Array) -> None:
        # The Box-Muller transform in blocks: NumPy's vector loops make it 2.5 times as fast as the ziggurat of
        # standard_normal().
        for start in range(0, out.size, 2 * _PAIRS):
            block = out[start : start + 2 * _PAIRS]
            half = (block.size + 1) // 2
            uniform = self._bits.random_raw(half).view(np.uint32).astype(np.float32)
            uniform *= np.float32(2.0**-32)
            radius, angle = uniform[:half], uniform[half:]
            radius += np.float32(2.0**-33)  # never 0
            np.log(radius, out=radius)
            radius *= np.float32(-2.0)
            np.sqrt(radius, out=radius)
            angle *= np.float32(2.0 * np.pi)
            np.multiply(np.cos(angle), radius, out=block[:half])
            np.sin(angle, out=angle)
            angle *= radius
            block[half:] = angle[: block.size - half]

    def integers(self, low: int, high: int, shape: Shape) -> Array:
        """Integers from `low` to ``high - 1``, as int64."""
        return self._generator.integers(low, high, shape, dtype=np.int64)

    def bernoulli(self, p: float, shape: Shape) -> Array:
        """True with probability `p`: one random byte decides, and more bits only where it is the threshold itself."""
        size = int(np.prod(shape))
        bytes_ = self._bits.random_raw((size + 7) // 8).view(np.uint8)[:size]
        threshold = int(p * 256)
        if threshold >= 256:
            return np.ones(shape, dtype=np.bool_)
        result = bytes_ < threshold
        close = np.flatnonzero(bytes_ == threshold)
        result[close] = self._generator.random(close.size) < p * 256 - threshold
        return result.reshape(shape)

    def permutation(self, n: int) -> Array:
        """The integers below `n` in random order, as int64."""
        return self._generator.permutation(n)

    def exponential(self, shape: Shape) -> Array:
        """Exponential numbers of rate 1, as float64."""
        return self._generator.standard_exponential(shape)
