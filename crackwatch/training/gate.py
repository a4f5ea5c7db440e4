"""Whether a challenger may take the champion's place: paired tests on the same pictures; arithmetic.

Every picture is judged by scores that are honest for both models: out of fold where a model learned
from it, its own where it did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

SIGNIFICANCE = 0.05
RESAMPLES = 2000

# With fewer of a class, a model that misses every third crack looks like one that misses none.
ENOUGH_TO_COMPARE = 10

# A reviewed label is contradicted where the score, out of fold, gives at least these odds against
# it. Where surely more than this part of them is, somebody should look before they are believed.
CONTRADICTED_FROM = 0.95
CONTRADICTED_AT_MOST = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """Champion and challenger on the same pictures, each at its own threshold.

    ``only_champion`` and ``only_challenger`` count the pictures that only this one judged rightly,
    ``places_champion`` and ``places_challenger`` the groups of pictures of the same concrete of
    which it judged more rightly. ``mcnemar_p`` is two-sided and exact over these groups (McNemar
    1947; the binomial form): pictures of one group are right or wrong together, and would else
    count as so many witnesses. ``f1_difference`` is the challenger's less the champion's, its
    interval a 95 % bootstrap over groups.
    """

    anomalies: int
    normals: int
    champion_escapes: int
    challenger_escapes: int
    champion_false_alarms: int
    challenger_false_alarms: int
    only_champion: int
    only_challenger: int
    places_champion: int
    places_challenger: int
    mcnemar_p: float
    f1_difference: float
    f1_interval: tuple[float, float]

    def objections(self) -> list[str]:
        """Why the challenger must not be promoted, for a person; empty if nothing speaks against it."""
        found = []
        if min(self.anomalies, self.normals) < ENOUGH_TO_COMPARE:
            found.append(
                f"{self.anomalies} cracks and {self.normals} normals have an honest score of both: "
                f"fewer than {ENOUGH_TO_COMPARE} of a class prove nothing (--promote always takes it "
                "unproved)"
            )
        if self.challenger_escapes > self.champion_escapes:
            found.append(
                f"it misses {self.challenger_escapes} of {self.anomalies} known cracks, "
                f"the champion {self.champion_escapes}"
            )
        if self.places_champion > self.places_challenger and self.mcnemar_p < SIGNIFICANCE:
            found.append(
                f"it judges worse: {self.only_champion} pictures only the champion judges rightly, "
                f"{self.only_challenger} only the challenger (in {self.places_champion} and "
                f"{self.places_challenger} places; McNemar's exact test, p = {self.mcnemar_p:.2g})"
            )
        if self.f1_interval[1] < 0:
            found.append(
                f"its F1 is lower by {-self.f1_difference:.4f} (95 % interval "
                f"{-self.f1_interval[1]:.4f} to {-self.f1_interval[0]:.4f})"
            )
        return found


def compare(
    labels: NDArray[np.int8],
    champion: NDArray[np.bool_],
    challenger: NDArray[np.bool_],
    groups: NDArray[np.integer[Any]],
    seed: int,
) -> Comparison:
    """All arguments (N,): labels 1 for an anomaly, what each model flags, which belong together."""
    anomaly = labels == 1
    champion_right, challenger_right = champion == anomaly, challenger == anomaly
    _, place = np.unique(groups, return_inverse=True)
    better = np.bincount(
        place, weights=challenger_right.astype(np.int8) - champion_right.astype(np.int8)
    )
    places_champion, places_challenger = int((better < 0).sum()), int((better > 0).sum())
    differ = places_champion + places_challenger
    difference, interval = _f1_difference(anomaly, champion, challenger, groups, seed)
    return Comparison(
        anomalies=int(anomaly.sum()),
        normals=int((~anomaly).sum()),
        champion_escapes=int((anomaly & ~champion).sum()),
        challenger_escapes=int((anomaly & ~challenger).sum()),
        champion_false_alarms=int((~anomaly & champion).sum()),
        challenger_false_alarms=int((~anomaly & challenger).sum()),
        only_champion=int((champion_right & ~challenger_right).sum()),
        only_challenger=int((challenger_right & ~champion_right).sum()),
        places_champion=places_champion,
        places_challenger=places_challenger,
        mcnemar_p=float(binomtest(places_champion, differ).pvalue) if differ else 1.0,
        f1_difference=difference,
        f1_interval=interval,
    )


def _f1_difference(
    anomaly: NDArray[np.bool_],
    champion: NDArray[np.bool_],
    challenger: NDArray[np.bool_],
    groups: NDArray[np.integer[Any]],
    seed: int,
) -> tuple[float, tuple[float, float]]:
    """Challenger's F1 less the champion's, and a 95 % percentile interval over resampled groups.

    Each group enters a resample a Poisson-distributed number of times, mean 1 (Hanley and MacGibbon
    2006): groups that count towards neither F1 need not be drawn at all.
    """
    _, member = np.unique(groups, return_inverse=True)
    counts = np.stack(
        [
            np.bincount(member, weights=flags)
            for flagged in (champion, challenger)
            for flags in (anomaly & flagged, anomaly ^ flagged)
        ],
        axis=1,
    )  # (groups, 4): hits and mistakes of the champion, then of the challenger

    def difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        twice = 2 * sums[..., [0, 2]]
        f1 = twice / np.maximum(twice + sums[..., [1, 3]], 1)
        return np.asarray(f1[..., 1] - f1[..., 0])

    relevant = counts[counts.any(axis=1)]
    drawn = np.random.default_rng(seed).poisson(1.0, (RESAMPLES, len(relevant))).astype(np.float64)
    low, high = np.quantile(difference(drawn @ relevant), [0.025, 0.975])
    return float(difference(counts.sum(axis=0))), (float(low), float(high))


@dataclass(frozen=True, slots=True)
class LabelAudit:
    """Labels that the scores, out of fold, speak against (confident learning, Northcutt et al. 2021).

    ``suspects`` are positions, the most doubtful first; ``of`` is how many labels were looked at.
    """

    suspects: NDArray[np.intp]
    of: int

    def objection(self) -> str | None:
        """Why labels of this kind must not be believed, or None."""
        if not self.of:
            return None
        test = binomtest(len(self.suspects), self.of)
        surely = float(test.proportion_ci(0.9, method="exact").low)  # one-sided 95 %
        if surely <= CONTRADICTED_AT_MOST:
            return None
        return (
            f"{len(self.suspects)} of {self.of} reviewed labels contradict what the models see in "
            "pictures that they have not learned from; look at them before they are believed"
        )


def audit_labels(
    probabilities: NDArray[np.float64], labels: NDArray[np.int8], looked_at: NDArray[np.bool_]
) -> LabelAudit:
    """``probabilities`` of an anomaly, out of fold, and ``labels``, (N,); ``looked_at`` chooses."""
    of_label = np.where(labels == 1, probabilities, 1 - probabilities)
    doubtful = np.flatnonzero(looked_at & (of_label <= 1 - CONTRADICTED_FROM))
    return LabelAudit(doubtful[np.argsort(of_label[doubtful])], int(looked_at.sum()))
