"""The station's working days, and spans of its time; knows no clock but what it is handed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, ``until`` exclusive; both ends timezone-aware, in the station's zone."""

    since: datetime
    until: datetime


def working_day(moment: datetime, zone: tzinfo, day_start: time) -> date:
    """The day that ``moment`` belongs to where days begin at ``day_start`` of the station's clock.

    A night shift's pictures at 02:00 belong to the day before when days begin at 06:00. Where the
    clocks are turned at just that hour the instant of ``day_begins`` decides, not what they show.
    """
    day = moment.astimezone(zone).date() + timedelta(days=1)
    while day_begins(day, zone, day_start) > moment:
        day -= timedelta(days=1)
    return day


def day_begins(day: date, zone: tzinfo, day_start: time) -> datetime:
    """The instant, in UTC, at which the working day ``day`` begins."""
    return datetime.combine(day, day_start, zone).astimezone(UTC)
