"""Which photograph a crop was cut from, as its file's name says it; looks at no pixels.

Crops of one photograph show one wall in one light, whether or not they overlap: a split that parts
them would let a model be tested on what it has all but seen.
"""

from __future__ import annotations

import os
import re

MARK_DIGITS = 16  # of the photograph's sha256
_NAME = re.compile(rb"-of-([0-9a-f]{16})-x[0-9]+-y[0-9]+")


def name_of(photograph: bytes, sha256: bytes, x: int, y: int, suffix: bytes) -> bytes:
    """The name of a crop's file: ``photograph`` is the path of where it comes from, ``sha256`` its
    bytes' (32 bytes); ``x`` and ``y`` are the crop's corner in its own upright pixels.
    """
    stem = os.path.splitext(os.path.basename(photograph))[0].lstrip(b".") or b"photograph"
    mark = f"-of-{sha256.hex()[:MARK_DIGITS]}-x{x}-y{y}".encode()
    return stem[: 200 - len(mark)] + mark + suffix


def photograph_of(path: bytes) -> bytes | None:
    """What tells a crop's photograph from others; None for a picture that is no such crop."""
    found = _NAME.search(os.path.basename(path))
    return found.group(1) if found else None
