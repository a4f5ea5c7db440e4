"""A quick classifier and an exact one as one: what could decide anything is scored by the exact one.

The quick one's error was measured before the model was published (``measured``), in logits, where it
is about as large for small scores as for large ones; what is counted on is three times the largest
that was seen. Every picture whose quick score is above all that matters, less that margin, is scored
again. So each score that reaches a threshold is the exact one, and no verdict can differ from the
exact classifier's unless the quick one errs by more than the margin; the golden pictures, which both
score every hour, would tell. Knows no library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import Classifier, check_pictures

SAFETY: Final = 3.0  # times the largest difference that was seen is what is counted on
# and this at least: a model so sure of each picture that was compared shows next to no difference
LEAST_MARGIN: Final = 0.5
# Nearer to 0 or 1 a float32 score says nothing of its logit, and no threshold is.
_LEAST: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Strayed:
    """How far a quick classifier was from the exact one: the largest difference of a logit."""

    largest: float
    compared: int

    @property
    def margin(self) -> float:
        """What is counted on."""
        return max(SAFETY * self.largest, LEAST_MARGIN)


def logits(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of probabilities (N,), cut off where float32 has no more to say; NaN stays NaN."""
    cut = np.clip(np.asarray(scores, np.float64), _LEAST, 1 - _LEAST)
    return np.log(cut / (1 - cut))


def measured(quick: NDArray[np.float32], exact: NDArray[np.float32]) -> Strayed:
    """How far the quick scores of some pictures are from the exact ones, (N,) each, N >= 1."""
    return Strayed(float(np.max(np.abs(logits(quick) - logits(exact)))), len(exact))


def exact_of(classifier: Classifier) -> Classifier:
    """The half of it that gives each score exactly; itself, where all its scores are."""
    return classifier.exact if isinstance(classifier, FastClassifier) else classifier


class FastClassifier:
    """See ``runtime.Classifier``. Until it is ``aimed`` every score is the exact one.

    ``margin`` is in logits. ``exact_from`` is the quick score from which pictures are scored again;
    None: all are. ``again`` counts them.
    """

    def __init__(
        self,
        quick: Classifier,
        exact: Classifier,
        margin: float,
        exact_from: float | None = None,
    ) -> None:
        self.model_id = exact.model_id
        self.quick, self.exact = quick, exact
        self.margin = margin
        self.exact_from = exact_from
        self.again = 0

    def aimed(self, lines: Iterable[float]) -> FastClassifier:
        """The same, exact for every picture that could reach one of ``lines``, which are scores."""
        lowest = logits(np.array([min(lines)]))[0] - self.margin
        return FastClassifier(self.quick, self.exact, self.margin, float(1 / (1 + np.exp(-lowest))))

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``runtime.Classifier.scores``; each is the exact one where it could decide anything."""
        check_pictures(pictures)
        if self.exact_from is None:
            return self.exact.scores(pictures)
        scores = self.quick.scores(pictures)
        # not the other way round: a score that is no number is the exact one's to explain
        doubtful = np.flatnonzero(~(scores < self.exact_from))
        if len(doubtful):
            self.again += len(doubtful)
            scores[doubtful] = self.exact.scores(pictures[doubtful])
        return scores
