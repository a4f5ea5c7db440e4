"""Which pictures the model knows from its training; knows neither model nor files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset import near_duplicates


@dataclass(frozen=True, slots=True)
class Familiar:
    """Positions among the pictures that are asked for; a picture is in one of the two at most."""

    training: NDArray[np.intp]  # learned from, turned or mirrored or not
    near: NDArray[np.intp]  # not these, but a picture learned from shows the same, encoded anew
    pairs: int  # of one of them and one learned from, of both kinds

    @property
    def any_of_them(self) -> NDArray[np.intp]:
        return np.union1d(self.training, self.near)


def familiar(
    shown_hashes: Sequence[bytes],
    shown_textures: NDArray[np.uint8],
    pixel_hashes: NDArray[np.uint8],
    textures: NDArray[np.uint8],
) -> Familiar:
    """Holds N pictures against the hashes (M, 16) and texture bits (M, 35) of training.

    ``shown_hashes`` are N, of 16 bytes each; ``shown_textures`` (N, 35). Crops that merely overlap
    one learned from are not told: their bits differ.
    """
    learned = [digest.tobytes() for digest in pixel_hashes]
    times = Counter(learned)
    equal = sum(times[digest] for digest in shown_hashes)
    training = [at for at, digest in enumerate(shown_hashes) if digest in times]
    near = [
        one
        for one, other in near_duplicates(shown_textures, textures).tolist()
        if shown_hashes[one] != learned[other]
    ]
    return Familiar(
        training=np.array(training, dtype=np.intp),
        near=np.setdiff1d(np.array(near, dtype=np.intp), training),
        pairs=equal + len(near),
    )
