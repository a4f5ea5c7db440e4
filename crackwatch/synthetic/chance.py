"""Chance that is the same everywhere and for ever: numbers from raw bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Dice:
    """Numbers from the raw bits of PCG64, whose stream numpy promises never to change.

    The methods of ``numpy.random.Generator`` carry no such promise.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def unit(self) -> float:
        """From 0 up to, but not including, 1."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        return low + self.unit() * (high - low)

    def whole(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, choices: Sequence[float]) -> float:
        return choices[self.whole(0, len(choices) - 1)]

    def units(self, *shape: int) -> NDArray[np.float64]:
        """An array of numbers as ``unit`` gives them."""
        count = int(np.prod(shape))
        raw = np.asarray(self._bits.random_raw(count), np.uint64)
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def grains(self, height: int, width: int) -> NDArray[np.int32]:
        """(height, width) whole numbers 0..255."""
        count = height * width
        raw = np.asarray(self._bits.random_raw(-(-count // 8)), np.uint64)
        octets = raw.astype("<u8").view(np.uint8)[:count]
        return octets.astype(np.int32).reshape(height, width)
