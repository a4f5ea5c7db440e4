"""Everything that a station can be told: its keys, their limits and defaults; frozen.

``config_file`` reads them, and says what is wrong with one. An unknown key is an error, so that a
misspelt one is not silently ignored.
"""

from __future__ import annotations

import functools
import os
from datetime import time, tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from crackwatch.domain import ReviewBand

_LOCALTIME = Path("/etc/localtime")


def _as_path(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("has a NUL character, which no file's name can have")
    return Path(value) if isinstance(value, str) and value else value


Folder = Annotated[Path, BeforeValidator(_as_path)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@functools.cache
def _local_zone() -> ZoneInfo:
    if _LOCALTIME.exists():
        with _LOCALTIME.open("rb") as file:
            return ZoneInfo.from_file(file, key="local")
    return ZoneInfo("UTC")


class StationSettings(_Section):
    name: str = Field(default="station", min_length=1, max_length=64)
    timezone: str = "local"

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value == "local":
            return value
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as exc:
            raise ValueError(
                f"{value!r} is not a time zone; write a name such as 'Europe/Berlin', or 'local'"
            ) from exc
        return value

    @property
    def tz(self) -> tzinfo:
        """The zone in which this station's days begin."""
        return _local_zone() if self.timezone == "local" else ZoneInfo(self.timezone)


class FolderSettings(_Section):
    inbox: Folder = Path("inbox")
    flagged: Folder = Path("flagged")
    archive: Folder = Path("archive")
    quarantine: Folder = Path("quarantine")
    models: Folder = Path("models")
    dataset: Folder = Path("dataset")
    state: Folder = Path("state")

    @model_validator(mode="after")
    def _apart(self) -> FolderSettings:
        """No folder is another one, and nothing that crackwatch writes lies inside the inbox.

        Otherwise a flagged picture would arrive again, for ever.
        """
        named = [(name, Path(os.path.normpath(path))) for name, path in self]
        for index, (name, path) in enumerate(named):
            for other_name, other in named[index + 1 :]:
                if path == other:
                    raise ValueError(
                        f"folders.{name} and folders.{other_name} are the same folder, {path}; "
                        "give each its own"
                    )
        inbox = named[0][1]
        for name, path in named[1:]:
            if path.is_relative_to(inbox):
                raise ValueError(
                    f"folders.{name} ({path}) lies inside folders.inbox ({inbox}): its files would "
                    f"be inspected again; move folders.{name} out of the inbox"
                )
            if inbox.is_relative_to(path):
                raise ValueError(
                    f"folders.inbox ({inbox}) lies inside folders.{name} ({path}); "
                    "move the inbox out of it"
                )
        return self


class FileSettings(_Section):
    normal: Literal["keep", "archive", "delete"] = "keep"
    patterns: list[Annotated[str, Field(min_length=1, pattern=r"^[^/]*$")]] = Field(
        default=["*.jpg", "*.jpeg", "*.png", "*.bmp", "*.tif", "*.tiff", "*.webp"], min_length=1
    )
    recursive: bool = True
    max_bytes: int = Field(default=67_108_864, ge=1_024, le=2**31)
    max_pixels: int = Field(default=120_000_000, ge=227 * 227, le=2**31)


class ImageSettings(_Section):
    larger: Literal["tile", "resize", "quarantine"] = "tile"
    tile_overlap: int = Field(default=64, ge=0, le=200)  # pixels at the model's scale
    mm_per_px: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    overlay: bool = False


class WatchSettings(_Section):
    observer: Literal["auto", "inotify", "polling"] = "auto"
    settle_s: Seconds = 2.0
    incomplete_s: Seconds = 30.0
    rescan_s: Seconds = 60.0


class BatchSettings(_Section):
    max_size: int = Field(default=64, ge=1, le=1_024)
    max_wait_ms: int = Field(default=200, ge=0, le=60_000)
    queue_size: int = Field(default=512, ge=1, le=65_536)
    queue_bytes: int = Field(default=268_435_456, ge=1_048_576, le=2**36)


class ModelSettings(_Section):
    threshold: Literal["model"] | Annotated[float, Field(ge=0, le=1)] = "model"
    runtime: Literal["openvino", "keras"] = "openvino"
    precision: Literal["f32", "fast"] = "f32"
    tiled_threshold: Literal["model"] | Annotated[float, Field(ge=0, le=1)] = "model"
    min_tiles: Literal["model"] | Annotated[int, Field(ge=1, le=64)] = "model"
    golden_every_s: float = Field(default=3_600.0, ge=1, le=86_400)
    review_low: Annotated[float, Field(ge=0, le=1)] | None = None
    review_high: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _band_is_whole(self) -> ModelSettings:
        low, high = self.review_low, self.review_high
        if (low is None) is not (high is None):
            given, missing = ("review_low", "review_high")[:: 1 if high is None else -1]
            raise ValueError(
                f"model.{given} is given without model.{missing}; a review band has both ends: "
                "write both, or leave both out"
            )
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"model.review_low ({low}) is above model.review_high ({high}); "
                "a review band goes from the lower to the higher score"
            )
        return self

    @property
    def review_band(self) -> ReviewBand | None:
        """The scores that are marked for a person's eye; None where the station has no band."""
        if self.review_low is None or self.review_high is None:
            return None
        return ReviewBand(self.review_low, self.review_high)

    @model_validator(mode="after")
    def _fast_is_openvinos(self) -> ModelSettings:
        if self.precision == "fast" and self.runtime != "openvino":
            raise ValueError(
                f"model.precision = 'fast' is there with model.runtime = 'openvino' only, "
                f"not with {self.runtime!r}"
            )
        return self


class DatabaseSettings(_Section):
    url: str = ""  # empty: state/crackwatch.db

    @field_validator("url")
    @classmethod
    def _is_sqlite(cls, value: str) -> str:
        named = value.removeprefix("sqlite:///")
        if value and (named in (value, "", ":memory:") or "?" in named or "\0" in named):
            raise ValueError(
                "only SQLite in a file is supported; write 'sqlite:///FILE' or leave it empty"
            )
        return value


class ReportSettings(_Section):
    day_starts_at: str = "00:00"

    @field_validator("day_starts_at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        try:
            start = time.fromisoformat(value)
        except ValueError as exc:
            raise ValueError(
                f"{value!r} is not a time of day; write HH:MM, such as '06:00'"
            ) from exc
        if start.tzinfo is not None:
            raise ValueError("the zone is set by station.timezone; write HH:MM alone")
        return value

    @property
    def day_start(self) -> time:
        return time.fromisoformat(self.day_starts_at)


class RetrainSettings(_Section):
    recipe: Literal["notebook", "station"] = "station"
    seed: int = Field(default=20_261_101, ge=0, le=2**32 - 1)
    promote: Literal["auto", "always", "never"] = "auto"
    miss_costs: float = Field(default=10.0, gt=0, le=1_000_000)  # false alarms


class LimitSettings(_Section):
    min_free_bytes: int = Field(default=67_108_864, ge=0, le=2**50)  # 0: never pause for it
    quarantined_per_hour: int = Field(default=60, ge=0, le=10_000_000)  # 0: never warn of it


Days = Annotated[float, Field(gt=0, le=36_500)]
Bytes = Annotated[int, Field(ge=0, le=2**60)]


class RetentionSettings(_Section):
    """What may be deleted; without a key nothing is. Each place has three of its own."""

    archive_max_days: Days | None = None
    archive_max_bytes: Bytes | None = None
    archive_min_free_bytes: Bytes | None = None
    kept_max_days: Days | None = None
    kept_max_bytes: Bytes | None = None
    kept_min_free_bytes: Bytes | None = None
    quarantine_max_days: Days | None = None
    quarantine_max_bytes: Bytes | None = None
    quarantine_min_free_bytes: Bytes | None = None
    flagged_max_days: Days | None = None
    flagged_max_bytes: Bytes | None = None
    flagged_min_free_bytes: Bytes | None = None
    keep_reviewed: bool = True
    keep_awaiting_review: bool = True
    every_s: float = Field(default=3_600.0, ge=1, le=604_800)


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(_Section):
    """Everything a station is told. ``file`` is where it was read from."""

    file: Annotated[Path, Field(exclude=True)]
    station: StationSettings = StationSettings()
    folders: FolderSettings = FolderSettings()
    files: FileSettings = FileSettings()
    images: ImageSettings = ImageSettings()
    watch: WatchSettings = WatchSettings()
    batch: BatchSettings = BatchSettings()
    model: ModelSettings = ModelSettings()
    database: DatabaseSettings = DatabaseSettings()
    report: ReportSettings = ReportSettings()
    retrain: RetrainSettings = RetrainSettings()
    limits: LimitSettings = LimitSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @property
    def database_file(self) -> Path:
        """The SQLite file, absolute."""
        if self.database.url:
            named = Path(self.database.url.removeprefix("sqlite:///"))
            return named if named.is_absolute() else self.file.parent / named
        return self.folders.state / "crackwatch.db"
