"""Models on disk: versions, cards, pointers, hashes; knows no library that trains or scores."""

from crackwatch.registry.card import (
    MODEL_FILE,
    SCALE,
    TILED_THRESHOLD,
    Card,
    DataOrigin,
    Decision,
    Drawn,
    Export,
    Fast,
    Golden,
    Guarantee,
    Threshold,
    TiledThreshold,
    new_id,
    read_card,
    runtime_key,
)
from crackwatch.registry.files import sha256_of
from crackwatch.registry.folder import Registry

__all__ = [
    "MODEL_FILE",
    "SCALE",
    "TILED_THRESHOLD",
    "Card",
    "DataOrigin",
    "Decision",
    "Drawn",
    "Export",
    "Fast",
    "Golden",
    "Guarantee",
    "Registry",
    "Threshold",
    "TiledThreshold",
    "new_id",
    "read_card",
    "runtime_key",
    "sha256_of",
]
