"""Which pictures are one picture: equal pixels in any orientation, or the same fine texture."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE

# Two pictures are one, encoded or exposed anew, if their fine textures correlate as strongly as this
# in one of eight orientations. Among the 15,000 of the starter's data nothing lies between 0.7 (two
# cracks of like shape) and 0.9 (copies): docs/model.md.
SAME_TEXTURE = 0.8

_CELLS = 45  # 227 pixels less one on each side, in 45 x 45 cells of 5 pixels: keeps every symmetry
# Bits, of the 276 of two folded textures, in which near duplicates may differ: docs/data.md.
DIFFERING_BITS = 60
FOLDED = (_CELLS // 2 + 1) * (_CELLS // 2 + 2) // 2  # numbers that `fold` leaves of a texture
TEXTURE_BYTES = -(-FOLDED // 8)  # of a picture's texture bits


def orientations(picture: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The eight ways to turn and mirror (S, S, ...), as views; the first is ``picture`` itself."""
    for flipped in (picture, picture[:, ::-1]):
        for turns in range(4):
            yield np.rot90(flipped, turns)


def pixel_hash(picture: NDArray[np.uint8]) -> bytes:
    """16 bytes that are equal for pictures with equal pixels, however turned or mirrored.

    One orientation is chosen by the sums of the four corners, so that one hash is enough; where
    corners tie, the smallest hash of the candidates is taken.
    """
    half = SIDE // 2
    sums = np.array(
        [
            [picture[:half, :half].sum(), picture[:half, -half:].sum()],
            [picture[-half:, :half].sum(), picture[-half:, -half:].sum()],
        ],
        dtype=np.int64,
    )
    keys = [tuple(turned.ravel().tolist()) for turned in orientations(sums)]  # type: ignore[arg-type]  # sums turn as pixels do
    smallest = min(keys)
    return min(
        hashlib.blake2b(np.ascontiguousarray(turned).data, digest_size=16).digest()
        for key, turned in zip(keys, orientations(picture), strict=True)
        if key == smallest
    )


def texture(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fine texture: means of 5-pixel cells less those of their 15-pixel blocks, of unit length.

    (227, 227, 3) to (45, 45); zeros where there is no texture. Light and exposure fall out.
    """
    inner = picture[1:-1, 1:-1].reshape(_CELLS, 5, _CELLS * 5 * 3)  # (45, 5, 675)
    rows = inner.sum(axis=1, dtype=np.uint16)  # at most 5 * 255
    cells = rows.reshape(_CELLS, _CELLS, 15).sum(axis=2, dtype=np.float32)  # (45, 45)
    blocks = cells.reshape(_CELLS // 3, 3, _CELLS // 3, 3)
    fine = blocks - blocks.mean(axis=(1, 3), keepdims=True)
    cells = fine.reshape(_CELLS, _CELLS)
    length = float(np.linalg.norm(cells))
    # below half a grey level a cell it is the encoder's noise
    return cells / length if length > 0.5 * 75 * _CELLS else np.zeros_like(cells)


def fold(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of a texture no turn and no mirror changes: (45, 45) to (276,), of unit length."""
    total = np.zeros_like(fine)
    for flipped in (fine, fine[:, ::-1]):
        for turns in range(4):
            total += np.rot90(flipped, turns)
    middle = _CELLS // 2 + 1
    wedge = total[:middle, :middle][np.triu_indices(middle)]
    length = float(np.linalg.norm(wedge))
    return wedge / length if length > 1e-3 else np.zeros_like(wedge)


def texture_bits(folded: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The signs of folded textures (N, 276), packed: (N, 35).

    What of a picture can be kept to know it again by, without keeping the picture. All zero where
    there is no texture: such pictures are like none.
    """
    return np.packbits(folded > 0, axis=1)


def near_duplicates(some: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Pairs of one of ``some`` (N, 35) and one of ``others`` (M, 35) that are the same picture.

    Positions (P, 2), in order. Encoded or exposed anew, turned or mirrored pictures are found;
    that two pictures differ cannot be told for certain from so few bits.
    """
    strip = 512
    columns = np.unpackbits(others, axis=1, count=FOLDED).astype(np.float32) * 2 - 1
    columns[~others.any(axis=1)] = 0
    found = [np.empty((0, 2), np.intp)]
    for start in range(0, len(some), strip):
        part = some[start : start + strip]
        rows = np.unpackbits(part, axis=1, count=FOLDED).astype(np.float32) * 2 - 1
        rows[~part.any(axis=1)] = 0
        # the product of signs is the number of equal bits less that of differing ones
        pairs = np.argwhere(rows @ columns.T >= FOLDED - 2 * DIFFERING_BITS)
        pairs[:, 0] += start
        found.append(pairs)
    return np.concatenate(found)
