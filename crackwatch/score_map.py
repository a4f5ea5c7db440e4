"""The scores of a photograph's tiles as a few hundred bytes, and back; knows no picture, no verdict.

Sixteen bits a tile: on which side of the threshold the score lies, and its logit on an even scale.
What was decided at the threshold is thereby kept exactly, however close a score was to it; at any
other threshold it is kept but for scores within ERROR of that one.

A map is a version byte and a zlib stream of: rows and columns (two bytes each, big-endian), the
threshold (eight, IEEE 754), then the sides as packed bits, the high bytes of all logits, the low
ones. Taken apart like this neighbours are more alike, and it packs better.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERSION = 1
# A score is wrong by at most this: half a step in logits, at 0.5 where the curve is steepest; one
# below expit(-20) by less than 3e-9.
ERROR = 1.6e-4

_LIMIT = 20.0  # logits; from 17 on a float32 is 1
_STEPS = (1 << 15) - 1
_HEAD = struct.Struct(">HHd")
_MOST_SIDE = 0xFFFF


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """``scores`` (rows, columns) float64, 0..1; ``threshold`` is the one they were held against."""

    scores: NDArray[np.float64]
    threshold: float


def encode(scores: NDArray[np.floating], threshold: float) -> bytes:
    """Packs ``scores`` (rows, columns), 0..1. Raises ValueError for anything else."""
    if scores.ndim != 2 or not 0 < min(scores.shape) <= max(scores.shape) <= _MOST_SIDE:
        raise ValueError(f"scores of shape {scores.shape} are no map")
    exact = scores.astype(np.float64)  # else NumPy rounds the threshold to the scores' type
    if not (((exact >= 0) & (exact <= 1)).all() and 0 <= threshold <= 1):
        raise ValueError("scores and thresholds are probabilities")
    with np.errstate(divide="ignore"):  # the logits of 0 and 1 are clipped like other far ones
        logits = np.clip(np.log(exact) - np.log1p(-exact), -_LIMIT, _LIMIT)
    steps = np.rint((logits + _LIMIT) / (2 * _LIMIT) * _STEPS).astype(np.uint16).ravel()
    body = (
        _HEAD.pack(*scores.shape, threshold)
        + np.packbits(exact >= threshold).tobytes()
        + (steps >> 8).astype(np.uint8).tobytes()
        + (steps & 0xFF).astype(np.uint8).tobytes()
    )
    return bytes([VERSION]) + zlib.compress(body, 9)


def decode(packed: bytes) -> ScoreMap:
    """The map that ``encode`` packed: the same sides of the threshold, scores within ERROR.

    Raises ValueError where it is damaged or of another version.
    """
    if packed[:1] != bytes([VERSION]):
        raise ValueError(f"no score map of version {VERSION}: it begins with {packed[:1]!r}")
    stream = zlib.decompressobj()
    try:
        head = stream.decompress(packed[1:], _HEAD.size)
        rows, columns, threshold = _HEAD.unpack(head)
        tiles = rows * columns
        sides = -(-tiles // 8)
        # one byte more than there may be: a damaged map must not unpack to gigabytes
        body = stream.decompress(stream.unconsumed_tail, sides + 2 * tiles + 1)
        whole = stream.eof and not stream.unused_data and len(body) == sides + 2 * tiles
    except (zlib.error, struct.error) as exc:
        raise ValueError(f"a damaged score map: {exc}") from exc
    if not (whole and tiles and 0 <= threshold <= 1):
        raise ValueError("a damaged score map")
    packed_bits = np.frombuffer(body, np.uint8, sides)
    over = np.unpackbits(packed_bits, count=tiles).astype(np.bool_)
    high, low = np.frombuffer(body, np.uint8, offset=sides).reshape(2, tiles).astype(np.uint16)
    logits = ((high << 8) | low) / _STEPS * (2 * _LIMIT) - _LIMIT
    scores = 1 / (1 + np.exp(-logits))
    below = np.nextafter(threshold, -1.0)
    scores = np.where(over, np.maximum(scores, threshold), np.minimum(scores, below))
    return ScoreMap(np.maximum(scores, 0.0).reshape(rows, columns), threshold)
