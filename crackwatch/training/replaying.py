"""What a challenger would have said of the last days' pictures; records nothing, moves nothing.

Of single pictures alone: to judge one photograph again takes as long as hundreds of them, where a
replay is to take seconds. How many photographs were left out is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset import Decode, Problem, read_and_decode
from crackwatch.escaping import path_text
from crackwatch.runtime import Classifier

AT_MOST = 5000  # pictures, the newest ones: about ten seconds
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Recent:
    """An inspection as the books have it, and where its picture is now.

    ``sha256`` is of the bytes that were inspected: what has their name by now may be another
    picture. None: nobody knows it.
    """

    id: int
    path: bytes
    score: float
    flagged: bool
    model: str
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Lately:
    """What was inspected lately, newest first, and how many more pictures are gone.

    ``photographs`` were judged in tiles, ``older`` pictures are more than ``AT_MOST``; neither are
    among the others.
    """

    pictures: Sequence[Recent]
    gone: int
    photographs: int = 0
    older: int = 0


@dataclass(frozen=True, slots=True)
class Flip:
    """A verdict that the challenger would not repeat."""

    id: int
    path: str
    was: str
    now: str
    score_was: float
    score_now: float
    model: str


@dataclass(frozen=True, slots=True)
class Replay:
    """``replayed`` pictures were scored again; ``missing`` are gone, have become others or can no
    longer be read.

    ``photographs`` were judged in tiles, and ``older`` pictures were too many; neither are judged
    again, nor in any other number. Where normals are deleted, only verdicts on anomalies can be seen
    to flip.
    """

    replayed: int
    missing: int
    flips: tuple[Flip, ...]
    photographs: int = 0
    older: int = 0

    def as_json(self, limit: int | None = None) -> dict[str, Any]:
        return {
            "replayed": self.replayed,
            "missing": self.missing,
            "photographs": self.photographs,
            "older": self.older,
            "flipped": len(self.flips),
            "flips": [asdict(flip) for flip in self.flips[:limit]],
        }


def replay(classifier: Classifier, threshold: float, lately: Lately, decode: Decode) -> Replay:
    """Scores the newest ``AT_MOST`` again, each against its own row; the largest change first."""
    flips: list[Flip] = []
    replayed = missing = 0
    batch: list[tuple[Recent, NDArray[np.uint8]]] = []

    def judge() -> None:
        nonlocal replayed
        if not batch:
            return
        scores = classifier.scores(np.stack([picture for _, picture in batch]))
        for (each, _), score in zip(batch, scores.tolist(), strict=True):
            flagged = score >= threshold
            if flagged != each.flagged:
                flips.append(
                    Flip(
                        each.id,
                        path_text(each.path),
                        _word(each.flagged),
                        _word(flagged),
                        each.score,
                        score,
                        each.model,
                    )
                )
        replayed += len(batch)
        batch.clear()

    for each in lately.pictures[:AT_MOST]:
        got = read_and_decode(each.path, decode)
        if isinstance(got, Problem):
            missing += 1
            continue
        if each.sha256 is not None and hashlib.sha256(got[0]).digest() != each.sha256:
            missing += 1  # an inbox's file that was replaced, and was not looked at again yet
            continue
        batch.append((each, got[1]))
        if len(batch) == _BATCH:
            judge()
    judge()
    flips.sort(key=lambda flip: -abs(flip.score_now - flip.score_was))
    older = lately.older + max(0, len(lately.pictures) - AT_MOST)
    return Replay(replayed, missing + lately.gone, tuple(flips), lately.photographs, older)


def _word(flagged: bool) -> str:
    return "anomaly" if flagged else "normal"
