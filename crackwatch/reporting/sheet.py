"""What a person is told of a summary, in order, as tables of text; how it is drawn is others' work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from crackwatch.domain import DriftFinding
from crackwatch.escaping import path_text
from crackwatch.health.drift import REMEDY, in_words
from crackwatch.reported import DayDrift, HourCount, ReviewTally, Summary
from crackwatch.reporting.tiles import found_text, judged_text

_HOURS_SHOWN = 48  # two days; beyond, the picture of the HTML report says more
_BAR_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Column:
    """``tone`` is what the numbers mean: "plain", "good", "bad", "odd" or "faint"."""

    title: str
    right: bool = False
    tone: str = "plain"
    path: bool = False  # may be long: it is folded, never cut


@dataclass(frozen=True, slots=True)
class Section:
    """A table with a title; ``more`` says what was left out."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    more: str = ""


def moment_text(moment: datetime, summary: Summary) -> str:
    """Date and time by the station's clock, to the second."""
    return moment.astimezone(summary.window.since.tzinfo).strftime("%Y-%m-%d %H:%M:%S")


def heading(summary: Summary, station: str) -> str:
    """Which station, and from when until when, with offsets."""
    since, until = (
        each.isoformat(sep=" ", timespec="minutes")
        for each in (summary.window.since, summary.window.until)
    )
    return f"{station}: {since} until {until}"


def totals(summary: Summary) -> tuple[tuple[str, str, str, str], ...]:
    """(what, how many, remark, tone) for each total."""
    rate = summary.anomaly_rate
    if summary.pending is None or summary.pending_as_of is None:
        pending, as_of = "unknown", ""
    else:
        pending = f"{summary.pending:,}"
        as_of = f"in the inbox, as of {moment_text(summary.pending_as_of, summary)}"
    found = [
        ("Inspected", f"{summary.inspected:,}", "", "plain"),
        ("  normal", f"{summary.normal:,}", "", "good"),
        ("  anomaly", f"{summary.anomaly:,}", "" if rate is None else f"{rate:.2%}", "bad"),
        ("Quarantined", f"{summary.quarantined:,}", "could not be inspected", "odd"),
        ("Superseded", f"{summary.superseded:,}", "replaced by other content, or requeued", "odd"),
        ("Pending", pending, as_of, "odd"),
        *_reviews(summary.reviews),
    ]
    return tuple(
        (what, count, remark, tone if count not in ("0", "unknown") else "faint")
        for what, count, remark, tone in found
        if what != "Superseded" or summary.superseded
    )


def _reviews(said: ReviewTally) -> list[tuple[str, str, str, str]]:
    """What people said; nothing where nobody said anything and nothing waits for it."""
    found: list[tuple[str, str, str, str]] = []
    if said.crack or said.ok:
        remark = (
            f"by people: {said.crack:,} crack, {said.ok:,} ok; {said.escapes:,} escaped, "
            f"{said.false_alarms:,} false alarms"
        )
        if said.contradictions:
            remark += f"; {said.contradictions:,} contradictory"
        found.append(("Reviewed", f"{said.crack + said.ok:,}", remark, "plain"))
    if said.waiting:
        found.append(
            ("For review", f"{said.waiting:,}", "doubtful: crackwatch review list --band", "odd")
        )
    return found


def sections(summary: Summary, hours_shown: int = _HOURS_SHOWN) -> tuple[Section, ...]:
    """The tables below the totals; those that would be empty are left out."""
    made = [
        _models(summary),
        _anomalies(summary),
        Section(
            "Quarantine, newest first",
            (Column("reason", tone="odd"), Column("file", path=True)),
            tuple((each.reason, path_text(each.path)) for each in summary.quarantine),
            _more(len(summary.quarantine), summary.quarantined),
        ),
    ]
    raised = tuple(each for each in summary.drift if each.raised)
    unknown = {each.model: each for each in summary.drift if _without_reference(each)}
    made.insert(
        1,
        Section(
            "Drift: unlike what the model learned from",
            (
                Column("day", tone="faint"),
                Column("pictures", right=True),
                Column("what", path=True),
            ),
            tuple((each.day.isoformat(), f"{each.n:,}", in_words(each)) for each in raised),
            REMEDY if raised else "",
        ),
    )
    made.insert(
        2,
        Section(
            "Drift: cannot be told",
            (Column("why", path=True),),
            tuple((in_words(each),) for each in unknown.values()),
        ),
    )
    if len(summary.hourly) <= hours_shown:
        made.insert(1, _hours(summary.hourly))
    return tuple(each for each in made if each.rows or each.more)


def _without_reference(found: DayDrift) -> bool:
    return found.finding is DriftFinding.NO_REFERENCE


def _models(summary: Summary) -> Section:
    """Where photographs were judged, what each threshold was for is said as well."""
    columns = [
        Column("model"),
        Column("threshold", right=True),
        Column("inspected", right=True),
        Column("anomaly", right=True),
    ]
    rows = [
        (each.id, f"{each.threshold:.4f}", f"{each.inspected:,}", f"{each.anomaly:,}")
        for each in summary.models
    ]
    if all(each.min_tiles is None for each in summary.models):
        return Section("Models", tuple(columns), tuple(rows))
    meant = [(judged_text(each.min_tiles),) for each in summary.models]
    return Section(
        "Models",
        (*columns, Column("of", path=True)),
        tuple(row + more for row, more in zip(rows, meant, strict=True)),
    )


def _anomalies(summary: Summary) -> Section:
    """Where one was judged in tiles, how many of them were over the threshold is said as well."""
    tiled = any(each.photograph for each in summary.anomalies)
    columns = [Column("inspected", tone="faint"), Column("score", right=True, tone="bad")]
    if tiled:
        columns.append(Column("over the threshold"))
    return Section(
        "Anomalies, newest first",
        (*columns, Column("file", path=True)),
        tuple(
            (
                moment_text(each.inspected_at, summary),
                f"{each.score:.4f}",
                *((found_text(each.photograph),) if tiled else ()),
                path_text(each.path),
            )
            for each in summary.anomalies
        ),
        _more(len(summary.anomalies), summary.anomaly),
    )


def _hours(hourly: tuple[HourCount, ...]) -> Section:
    most = max((each.normal + each.anomaly for each in hourly), default=0) or 1
    return Section(
        "By hour",
        (
            Column("hour", tone="faint"),
            Column("normal", right=True),
            Column("anomaly", right=True, tone="bad"),
            Column("quarantined", right=True, tone="odd"),
            Column("inspected"),
        ),
        tuple(
            (
                each.hour.isoformat(sep=" ", timespec="minutes"),
                f"{each.normal:,}",
                f"{each.anomaly:,}",
                f"{each.quarantined:,}",
                "#" * -(-(each.normal + each.anomaly) * _BAR_WIDTH // most),
            )
            for each in hourly
        ),
    )


def _more(shown: int, total: int) -> str:
    if shown >= total:
        return ""
    return f"and {total - shown:,} more: --limit {total}, or --format json or csv for all"
