"""The facts that reports show of a window of time; knows neither tables nor pages.

Everything here is frozen; times and names are as in ``domain``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from crackwatch.days import Window
from crackwatch.domain import DriftFinding, Photograph


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What one model did in a window, by one rule.

    ``min_tiles`` is None for pictures that were judged as one; else photographs were, of which so
    many connected tiles had to reach the threshold.
    """

    id: str
    inspected: int
    anomaly: int
    threshold: float
    min_tiles: int | None = None


@dataclass(frozen=True, slots=True)
class FoundAnomaly:
    """One anomaly of a report. ``path`` is where the file is now, absolute.

    ``threshold`` was in force; ``photograph`` is None where it was judged as one picture.
    """

    source: bytes
    path: bytes
    score: float
    inspected_at: datetime
    model: str
    in_review_band: bool | None = None  # None: the station had no band then
    threshold: float | None = None
    photograph: Photograph | None = None


@dataclass(frozen=True, slots=True)
class QuarantinedPicture:
    """One picture of a report that could not be inspected."""

    source: bytes
    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class HourCount:
    """Counts of one hour of the station's own clock."""

    hour: datetime
    normal: int
    anomaly: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class DayDrift:
    """How far one measure of one model's pictures of a day is from what that model learned from.

    ``n`` pictures were compared: all, or a sample of the day's. ``distance`` is Kolmogorov's and
    Smirnov's, 0..1; ``larger``: the day's values are the larger ones. Without a comparison
    everything from there on is None.
    """

    day: date
    model: str
    measure: str  # "brightness", "sharpness" or "score"
    n: int
    finding: DriftFinding
    distance: float | None = None
    p: float | None = None
    median: float | None = None
    expected_median: float | None = None  # of training data with the day's share of anomalies
    larger: bool | None = None

    @property
    def raised(self) -> bool:
        return self.finding is DriftFinding.DRIFT


@dataclass(frozen=True, slots=True)
class ReviewTally:
    """What people said of the pictures inspected in a window; each picture counts once."""

    crack: int  # by the latest label
    ok: int
    contradictions: int  # of these, pictures that were given both labels
    escapes: int  # cracks that an inspection of the window called normal
    false_alarms: int  # pictures without one that an inspection of the window called an anomaly
    waiting: int  # in the review band, without a review


@dataclass(frozen=True, slots=True)
class Summary:
    """What a report says of a window; ``inspected`` = ``normal`` + ``anomaly``."""

    window: Window
    normal: int
    anomaly: int
    quarantined: int
    superseded: int
    pending: int | None  # None: nobody could count them
    pending_as_of: datetime | None
    models: tuple[ModelUse, ...]
    anomalies: tuple[FoundAnomaly, ...]
    quarantine: tuple[QuarantinedPicture, ...]
    hourly: tuple[HourCount, ...]
    drift: tuple[DayDrift, ...] = ()
    reviews: ReviewTally = ReviewTally(0, 0, 0, 0, 0, 0)

    @property
    def inspected(self) -> int:
        return self.normal + self.anomaly

    @property
    def anomaly_rate(self) -> float | None:
        """Anomalies per inspected picture; None where nothing was inspected."""
        return self.anomaly / self.inspected if self.inspected else None
