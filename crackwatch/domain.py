"""The facts that the parts exchange, and their names; knows nothing of files, databases or models.

Everything here is frozen. Times are timezone-aware, in UTC unless a name says otherwise; sizes are
bytes; paths of pictures are ``bytes``, because a file name on Linux need not be text: see
``escaping``. What only reports tell is in ``reported``.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

# ---------------------------------------------------------------------------------------- enums


class Label(enum.StrEnum):
    """What a picture shows; also the verdict: a prediction held against the threshold."""

    NORMAL = "normal"
    ANOMALY = "anomaly"


Verdict = Label

# Labels as a person may write them, on the command line and in a table.
LABEL_WORDS = {
    "crack": Label.ANOMALY,
    "ok": Label.NORMAL,
    "anomaly": Label.ANOMALY,
    "normal": Label.NORMAL,
}


class Outcome(enum.StrEnum):
    """How an inspection ended."""

    NORMAL = "normal"
    ANOMALY = "anomaly"
    QUARANTINED = "quarantined"


class Place(enum.StrEnum):
    """Where an inspected file belongs; the value is the word that ``audit`` counts under."""

    KEPT = "kept"
    FLAGGED = "flagged"
    ARCHIVED = "archived"
    DELETED = "deleted"
    QUARANTINED = "quarantined"


class QuarantineReason(enum.StrEnum):
    """Why a picture could not be inspected: always its own fault, never the station's."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    NOT_AN_IMAGE = "not_an_image"
    OVERSIZE = "oversize"  # more bytes or more pixels than the limits allow to decode
    TOO_LARGE = "too_large"  # decodable, but shrinking it to the model's input would hide cracks
    UNREADABLE = "unreadable"  # an image by its header, yet the decoder fails
    DECODER_CRASH = "decoder_crash"
    DECODER_TIMEOUT = "decoder_timeout"


class DriftFinding(enum.StrEnum):
    """What comparing a day's pictures with the training data came to."""

    ALIKE = "alike"
    DRIFT = "drift"
    TOO_FEW = "too_few"
    NO_REFERENCE = "no_reference"  # the model's card does not say what it learned from


class SettledBy(enum.StrEnum):
    """What proved that nobody is writing a file any more."""

    LEASE = "lease"
    EVENT = "event"
    TIME = "time"


# Beside a flagged photograph: its marked copy. No picture of a producer's, wherever one is sought.
OVERLAY_SUFFIX = b".overlay.jpg"


# ---------------------------------------------------------------------------------------- facts


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What ``stat`` says of a file: size and mtime are its identity, the rest are hints.

    Inode numbers are reused at once, device numbers may change at a reboot: hints only. Every
    number is folded into 64 signed bits, which is what a database holds: some file systems hash
    their inode numbers into all 64 bits, and a date after 2262 does not fit in nanoseconds.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Fingerprint:
        return cls(
            stat.st_size,
            _signed(stat.st_mtime_ns),
            _signed(stat.st_ctime_ns),
            _signed(stat.st_dev),
            _signed(stat.st_ino),
        )

    def same_identity(self, other: Fingerprint) -> bool:
        return self.size_bytes == other.size_bytes and self.mtime_ns == other.mtime_ns


_TWO_63 = 1 << 63


def _signed(number: int) -> int:
    """``number`` modulo 2**64, as a signed number: itself, wherever it fits."""
    if -_TWO_63 <= number < _TWO_63:
        return number
    return (number + _TWO_63) % (2 * _TWO_63) - _TWO_63


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file of the inbox that has settled.

    ``source`` is relative to the inbox. ``waited`` is true once it has also outlived the time that
    an incomplete file is given: what is missing from it now will not come any more.
    """

    source: bytes
    fingerprint: Fingerprint
    settled_at: datetime
    settled_by: SettledBy
    waited: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrivals that are inspected together, in the order in which they settled."""

    arrivals: tuple[Arrival, ...]
    closed_by: str  # "size" | "age" | "quiet" | "drain"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one picture: the calibrated probability of an anomaly, 0..1."""

    score: float


@dataclass(frozen=True, slots=True)
class Box:
    """A tile over the threshold: its place in the photograph's own upright pixels, its score."""

    x: int
    y: int
    w: int
    h: int
    score: float


@dataclass(frozen=True, slots=True)
class Cutout:
    """A part of a photograph that was labelled by itself, in the photograph's own upright pixels."""

    photograph: bytes  # sha256 of its file, 32 bytes
    x: int
    y: int
    w: int
    h: int


# A tile that scores so much is looked at again, where nobody asked for another score: of photographs
# without a crack one in six has such a tile, of those with one hardly any has none.
SECOND_LOOK_FROM = 0.05


@dataclass(frozen=True, slots=True)
class Photograph:
    """What is kept of a picture that was judged in tiles, beside its score: the highest tile's.

    ``min_tiles`` is the rule that was in force: an anomaly has a connected cluster of so many tiles
    that reach the threshold. Tiles that scored ``second_look_from`` or more were looked at again,
    and have the score of that; None: none was. The score map gives the boxes again, to the pixel: see ``score_map``.
    """

    width: int  # own pixels, upright
    height: int
    scale: float  # the model's pixels to one of its own
    overlap: int  # the model's pixels that neighbouring tiles share at least
    tiles: int
    tiles_over: int  # that reach the threshold
    min_tiles: int
    largest_cluster: int  # tiles
    boxes: tuple[Box, ...]  # of all tiles over the threshold, the highest score first
    score_map: bytes
    length_mm: float | None  # indicative, of the longest chain; None: no anomaly, or no mm_per_px
    second_look_from: float | None = None


@dataclass(frozen=True, slots=True)
class ReviewBand:
    """Scores from ``low`` to ``high``, both included, are for a person's eye as well."""

    low: float
    high: float

    def __contains__(self, score: float) -> bool:
        return self.low <= score <= self.high


@dataclass(frozen=True, slots=True)
class Light:
    """How bright and how sharp a picture is: see ``images.light``."""

    brightness: float  # mean grey level, 0..255
    sharpness: float  # variance of the Laplacian, grey levels squared


@dataclass(frozen=True, slots=True)
class Inspection:
    """The recorded fact: one row of the books."""

    id: int
    station: str
    source: bytes
    fingerprint: Fingerprint
    sha256: bytes | None  # 32 bytes; None where the file was too big to be read
    outcome: Outcome
    score: float | None
    threshold: float | None
    model: str | None
    reason: QuarantineReason | None
    detail: str | None
    place: Place
    destination: bytes | None  # relative to the place's folder
    duplicate_of: int | None
    inspected_at: datetime
    filed_at: datetime | None
    released_at: datetime | None
    superseded_at: datetime | None


# ------------------------------------------------------------- between pipeline, books and mover


@dataclass(frozen=True, slots=True)
class Draft:
    """An inspection about to be recorded."""

    arrival: Arrival
    sha256: bytes | None
    outcome: Outcome
    place: Place
    score: float | None = None
    threshold: float | None = None
    reason: QuarantineReason | None = None
    detail: str | None = None
    in_review_band: bool | None = None  # None: the station has no band, or there is no score
    brightness: float | None = None  # as in Light; None where nothing could be decoded
    sharpness: float | None = None
    photograph: Photograph | None = None  # None: it was judged as one picture


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What is recorded of the batch itself; durations are whole microseconds of wall time.

    ``classify_us`` is the model's, ``read_us`` what went by without it: decoding goes on while the
    model works. With precision "fast" every picture whose quick score was ``exact_from`` or more was
    scored again in f32; None: each score is f32's.
    """

    model_pk: int | None
    runtime: str
    precision: str
    closed_by: str
    read_us: int
    classify_us: int
    exact_from: float | None = None


@dataclass(frozen=True, slots=True)
class Filing:
    """A file that a committed row says must go somewhere."""

    id: int
    source: bytes
    fingerprint: Fingerprint
    sha256: bytes | None
    place: Place
    destination: bytes | None
    reason: QuarantineReason | None
    detail: str | None
    inspected_at: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a batch: the moves that its rows demand, and the files that stay."""

    batch_id: int
    filings: tuple[Filing, ...]
    kept: tuple[Arrival, ...]
    known: tuple[Arrival, ...]  # had a row already: nothing was inspected twice
    inspected: int  # normal and anomaly
    anomalies: int
    quarantined: int
    duplicates: int
    superseded: int
    in_review_band: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """The golden pictures scored once by the model in force; see ``heartbeat``."""

    model_pk: int
    runtime: str
    precision: str
    at: datetime
    good: bool
    largest_difference: float | None  # of a probability; None: a score was not a number
    flipped: int  # verdicts
    detail: str | None


@dataclass(frozen=True, slots=True)
class Closing:
    """A filing that is done and durable. ``superseded``: other content had taken its name."""

    id: int
    superseded: bool = False


class MoveResult(enum.Enum):
    """How a move ended."""

    DONE = "done"
    GONE = "gone"  # a producer took the file away after it was inspected
    REPLACED = "replaced"  # other content has its name; that content is in the inbox
    TAKEN = "taken"  # something stands in the way: choose another name, commit it, try again
    REFUSED = "refused"  # this one file cannot be moved now: try again later


@dataclass(frozen=True, slots=True)
class Filed:
    result: MoveResult
    detail: str = ""


class DepartureKind(enum.StrEnum):
    """Why a file leaves its place again."""

    RETURN = "return"  # back into the inbox, where it is a new arrival
    EXPIRY = "expiry"  # for good: its time is over


class DepartureResult(enum.StrEnum):
    """How it ended; what is not DONE stands where it stood, and its row as it was."""

    DONE = "done"
    GONE = "gone"  # it was not there
    CHANGED = "changed"  # something else stands under its name
    REFUSED = "refused"  # the rights or the names do not allow it
    TAKEN = "taken"  # the target has got a file meanwhile: another is to be chosen


@dataclass(frozen=True, slots=True)
class Departure:
    """A file that a committed row says must leave its place: see ``departures``."""

    id: int
    kind: DepartureKind
    inspection_id: int | None  # None: no row names the file
    place: Place
    name: bytes  # relative to the place's folder; of a kept picture, to the inbox
    size_bytes: int
    mtime_ns: int
    sha256: bytes | None  # 32 bytes; None: it was never read
    target: bytes | None  # its new name in the inbox
    newest_inspection: int  # when it was asked for
    expired: bool = False  # its row says so already: what is left of it may go
    tiled: bool = False  # it was judged in tiles: a marked copy may stand beside it


class Destinations(Protocol):
    """Chooses where a file goes, while its row is being written; see ``filing.names``."""

    def propose(self, place: Place, source: bytes, id: int, attempt: int) -> bytes | None:
        """The ``attempt``-th name (0, 1, ...) below the place's folder; None: it is not moved."""
        ...

    def taken(self, place: Place, destination: bytes) -> bool:
        """Whether something stands under that name already."""
        ...
