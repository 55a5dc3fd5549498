"""Random numbers on the host, each from as many words of TensorFlow's generator as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

from savax.function.ops._philox import philox_at

if TYPE_CHECKING:
    from savax.function.ops._philox import State

# Counters whose words are computed at a time.
_COUNTERS = 256

_blocks = jax.jit(philox_at)


class Words:
    """The 32-bit words of a state, one after the other.

    Args:
      state: of the generator, with known words.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._next = 0
        self._found: list[int] = []

    def word(self) -> int:
        """Returns the next 32 bits."""
        if not self._found:
            steps = np.arange(self._next, self._next + _COUNTERS, dtype=np.uint32)
            self._next += _COUNTERS
            with jax.ensure_compile_time_eval():  # known operands may be met in a trace
                words = np.stack([np.asarray(w) for w in _blocks(self._state, steps)], axis=-1)
            self._found = words.reshape(-1)[::-1].tolist()
        return self._found.pop()

    def double(self) -> float:
        """Returns a float64 of [0, 1)."""
        high, low = self.word(), self.word()
        return ((high & 0xFFFFF) << 32 | low) * 2.0**-52

    def single(self) -> np.float32:
        """Returns a float32 of [0, 1)."""
        return np.float32((self.word() & 0x7FFFFF) * 2.0**-23)

    def below(self, bound: int, bits: int) -> int:
        """Returns an integer of [0, bound), drawn from as many words as it takes."""
        rest = 0 if bound & (bound - 1) == 0 else 2**bits % bound
        while True:
            found = self.word()
            if bits == 64:
                found |= self.word() << 32
            if found >= rest:
                return found % bound
