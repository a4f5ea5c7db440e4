"""The tables as SQLAlchemy sees them; ``migrations/`` makes them, and a test holds the two equal.

Times are whole microseconds since 1970 in UTC (``UtcMicroseconds``): they sort, they index, and no
clock change in the station's zone can move them. File names are bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator

# The revision that this code was written for; a test holds it equal to alembic's head.
HEAD = "0006"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(moment: datetime) -> int:
    """Exact, where multiplying a float timestamp would not be."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    return _EPOCH + value * _MICROSECOND


class UtcMicroseconds(TypeDecorator[datetime]):
    """A timezone-aware datetime, kept as an integer."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002 (SQLAlchemy's signature)
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy's signature)
        return None if value is None else from_microseconds(value)


metadata = MetaData()

models = Table(
    "models",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("sha256", Text, nullable=False),  # of lenet.keras, hex
    Column("card", Text, nullable=False),  # card.json as it was when first used here
    Column("first_used_at", UtcMicroseconds, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_pk", ForeignKey("models.pk")),
    Column("runtime", Text, nullable=False),  # "openvino" | "keras"
    Column("precision", Text, nullable=False),  # "f32" | "fast"
    Column("closed_by", Text, nullable=False),  # "size" | "age" | "quiet" | "drain"
    Column("size", Integer, nullable=False),
    Column("recorded_at", UtcMicroseconds, nullable=False),
    # wall time: the model's, and what went by without it; decoding goes on while the model works
    Column("read_us", Integer, nullable=False),
    Column("classify_us", Integer, nullable=False),
    # "fast": pictures with this quick score or more were scored again in f32; NULL: all were f32's
    Column("exact_from", Float),
)

inspections = Table(
    "inspections",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("station", Text, nullable=False),
    # identity: the path relative to the inbox, size and mtime; the rest are hints
    Column("source", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("ctime_ns", BigInteger, nullable=False),
    Column("device", BigInteger, nullable=False),
    Column("inode", BigInteger, nullable=False),
    Column("sha256", LargeBinary),  # 32 bytes, over the very bytes classified; NULL: never read
    # the inspection
    Column("outcome", Text, nullable=False),  # domain.Outcome
    Column("score", Float),
    Column("threshold", Float),
    Column("model_pk", ForeignKey("models.pk")),
    Column("batch_id", ForeignKey("batches.id"), nullable=False),
    Column("reason", Text),  # domain.QuarantineReason
    Column("detail", Text),
    Column("duplicate_of", ForeignKey("inspections.id")),
    Column("settled_at", UtcMicroseconds, nullable=False),
    Column("settled_by", Text, nullable=False),  # domain.SettledBy
    Column("inspected_at", UtcMicroseconds, nullable=False),
    # where the file belongs, chosen before it is moved; relative to the place's folder
    Column("place", Text, nullable=False),  # domain.Place
    Column("destination", LargeBinary),
    # what became of it; NULL until it happened
    Column("filed_at", UtcMicroseconds),  # the move is done and durable
    Column("released_at", UtcMicroseconds),  # the file is no longer in the inbox
    # other content took its name before it was filed, or a person sent it back into the inbox
    Column("superseded_at", UtcMicroseconds),
    Column("expired_at", UtcMicroseconds),  # retention removed the file
    Column("vanished_at", UtcMicroseconds),  # a person accepted that it is gone
    Column("vanished_by", Text),
    # of the decoded picture; NULL where it could not be, or was inspected before they were measured
    Column("brightness", Float),  # mean grey level, 0..255
    Column("sharpness", Float),  # variance of the Laplacian: ``images.light``
    Column("in_review_band", Boolean),  # NULL: the station had no band then
    # one unreleased row per file of the inbox
    Index(
        "uq_inspections_present",
        "station",
        "source",
        "size_bytes",
        "mtime_ns",
        unique=True,
        sqlite_where=text("released_at IS NULL"),
    ),
    Index("ix_inspections_window", "inspected_at", "outcome", "model_pk", "threshold"),
    Index("ix_inspections_sha256", "sha256", sqlite_where=text("sha256 IS NOT NULL")),
    Index(
        "uq_inspections_destination",
        "place",
        "destination",
        unique=True,
        sqlite_where=text("destination IS NOT NULL"),
    ),
    Index("ix_inspections_unfiled", "id", sqlite_where=text("filed_at IS NULL")),
    Index("ix_inspections_review_band", "inspected_at", sqlite_where=text("in_review_band = 1")),
    sqlite_autoincrement=True,  # an id is never used twice: destinations carry it
)

# What is kept of an inspection that judged a photograph in tiles: domain.Photograph.
photographs = Table(
    "photographs",
    metadata,
    Column("inspection_id", ForeignKey("inspections.id"), primary_key=True),
    Column("width", Integer, nullable=False),  # own pixels, upright
    Column("height", Integer, nullable=False),
    Column("scale", Float, nullable=False),  # the model's pixels to one of its own
    Column("overlap", Integer, nullable=False),  # the model's pixels
    Column("tiles", Integer, nullable=False),
    Column("tiles_over", Integer, nullable=False),  # that reach inspections.threshold
    Column("min_tiles", Integer, nullable=False),  # the rule that was in force
    Column("largest_cluster", Integer, nullable=False),
    Column("boxes", Text, nullable=False),  # JSON: [[x, y, w, h, score], ...], highest score first
    Column("score_map", LargeBinary, nullable=False),  # crackwatch.score_map
    Column("length_mm", Float),  # indicative; NULL: no anomaly, or mm_per_px was not known
    # tiles that scored so much were looked at again; NULL: none was
    Column("second_look_from", Float),
)

# Every label that a person ever gave: rows are added and never changed, the latest counts.
reviews = Table(
    "reviews",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", LargeBinary, nullable=False),  # 32 bytes: which picture
    Column("inspection_id", ForeignKey("inspections.id")),  # NULL: it was never inspected here
    Column("label", Text, nullable=False),  # domain.Label
    Column("reviewed_by", Text, nullable=False),
    Column("reviewed_at", UtcMicroseconds, nullable=False),
    Column("note", Text),
    # its copy under this label, relative to dataset/reviewed
    Column("picture", LargeBinary, nullable=False),
    Column("pixels", LargeBinary, nullable=False),  # 16 bytes: ``dataset.pixel_hash``
    # of a cut-out of a photograph: which one (32 bytes), and where in its own upright pixels; NULL
    # for a picture as a whole. A photograph as a whole has no copy: its picture is empty, and its
    # pixels are the first half of its hash.
    Column("photograph", LargeBinary),
    Column("x", Integer),
    Column("y", Integer),
    Column("w", Integer),
    Column("h", Integer),
    Index("ix_reviews_photograph", "photograph", sqlite_where=text("photograph IS NOT NULL")),
    Index("ix_reviews_sha256", "sha256", "id"),
    Index("ix_reviews_inspection", "inspection_id"),
    Index("ix_reviews_pixels", "pixels"),
)

# Each time the model in force scored its golden pictures, and whether as it did when published.
heartbeats = Table(
    "heartbeats",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("station", Text, nullable=False),
    Column("model_pk", ForeignKey("models.pk"), nullable=False),
    Column("runtime", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("beat_at", UtcMicroseconds, nullable=False),
    Column("good", Boolean, nullable=False),
    Column("largest_difference", Float),  # NULL: there were no scores
    Column("flipped", Integer),
    Column("detail", Text),
    # the newest inspection then, 0 before the first: no clock has a say in what came before a beat
    Column("newest_inspection", Integer, nullable=False),
    Index("ix_heartbeats_beat_at", "beat_at"),
)

# Files that are to leave their places again, from before the first rename until after the last
# sync: domain.Departure. Those that led back into the inbox stay, as who asked for what and when.
departures = Table(
    "departures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("station", Text, nullable=False),
    Column("kind", Text, nullable=False),  # domain.DepartureKind
    Column("inspection_id", ForeignKey("inspections.id")),  # NULL: no row names the file
    Column("place", Text, nullable=False),  # domain.Place: where it stands
    Column("name", LargeBinary, nullable=False),  # relative to the place's folder
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sha256", LargeBinary),  # 32 bytes; NULL: never read
    Column("target", LargeBinary),  # its new name in the inbox; NULL: it goes for good
    # the newest inspection then: whether the file has been inspected again since, no clock says
    Column("newest_inspection", Integer, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", UtcMicroseconds, nullable=False),
    Column("ended_at", UtcMicroseconds),
    Column("outcome", Text),  # domain.DepartureResult; NULL until it has ended
    Index("ix_departures_open", "id", sqlite_where=text("ended_at IS NULL")),
)
