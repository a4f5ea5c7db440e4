"""The bars of a report's picture: how many over time, and where each rectangle stands; draws nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from crackwatch.reported import Summary

WIDTH = 960.0
HEIGHT = 200.0  # of the bars alone; labels stand outside
_LABELS_AT_MOST = 12
_MOST_HOURS = 240
_MOST_DAYS = 400
_LEAST_HEIGHT = 1.5  # a single crack among thousands of normals must still be seen
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle in the chart's units; y grows downwards."""

    kind: str  # "anomaly" | "normal" | "quarantined"
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour, day or month; ``x`` and ``width`` in the chart's units."""

    name: str
    short: str  # "" where there is no room for a label
    x: float
    width: float
    normal: int
    anomaly: int
    quarantined: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across at a whole number of pictures."""

    text: str
    y: float


@dataclass(frozen=True, slots=True)
class Chart:
    unit: str  # "hour" | "day" | "month", by the station's calendar
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def chart(summary: Summary) -> Chart | None:
    """The whole window in the finest unit that is legible; None if nothing was inspected in it.

    Empty hours have their place as well: a camera that stood still is to be seen.
    """
    if not summary.hourly:
        return None
    since = min(summary.window.since.astimezone(UTC), summary.hourly[0].hour.astimezone(UTC))
    until = summary.window.until.astimezone(UTC)
    hours = (until - since) / _HOUR
    unit = "hour" if hours <= _MOST_HOURS else "day" if hours <= 24 * _MOST_DAYS else "month"
    slots: dict[tuple[str, str], list[int]] = {}
    if unit != "month":
        moment = since
        while moment < until:
            slots.setdefault(_names(moment.astimezone(summary.window.since.tzinfo), unit), _zero())
            moment += _HOUR
    for each in summary.hourly:
        counts = slots.setdefault(_names(each.hour, unit), _zero())
        for at, number in enumerate((each.anomaly, each.normal, each.quarantined)):
            counts[at] += number
    top = _ceiling(max(sum(counts) for counts in slots.values()))
    step = WIDTH / len(slots)
    every = -(-len(slots) // _LABELS_AT_MOST)
    return Chart(
        unit,
        tuple(
            Bar(
                name=name,
                short=short if at % every == 0 else "",
                x=round(at * step, 2),
                width=round(max(step * 0.8, 0.5), 2),
                anomaly=counts[0],
                normal=counts[1],
                quarantined=counts[2],
                pieces=_stacked(counts, top),
            )
            for at, ((name, short), counts) in enumerate(slots.items())
        ),
        tuple(
            Tick(f"{value:,}", round(HEIGHT * (1 - value / top), 2))
            for value in sorted({0, top // 2, top})
        ),
    )


def _zero() -> list[int]:
    return [0, 0, 0]


def _names(local: datetime, unit: str) -> tuple[str, str]:
    """(the full name of the slot that a moment belongs to, a short label)."""
    if unit == "month":
        return f"{local:%Y-%m}", f"{local:%Y-%m}"
    if unit == "day":
        return f"{local:%Y-%m-%d}", f"{local:%d %b}"
    hour = local.replace(minute=0, second=0, microsecond=0)
    # the offset tells apart the two hours that the clock shows alike when it is set back
    return hour.isoformat(sep=" ", timespec="minutes"), f"{hour:%H:%M}"


def _stacked(counts: list[int], top: int) -> tuple[Piece, ...]:
    """Anomalies at the bottom, where they can be compared, then normals, then quarantined."""
    pieces: list[Piece] = []
    below = 0.0
    for kind, count in zip(("anomaly", "normal", "quarantined"), counts, strict=True):
        if count:
            height = max(HEIGHT * count / top, _LEAST_HEIGHT)
            pieces.append(Piece(kind, round(HEIGHT - below - height, 2), round(height, 2)))
            below += height
    return tuple(pieces)


def _ceiling(most: int) -> int:
    """The next 1, 2 or 5 times a power of ten, so that ticks are round; at least 2."""
    scale = 1
    while True:
        for digit in (2, 5, 10):
            if digit * scale >= most:
                return digit * scale
        scale *= 10
