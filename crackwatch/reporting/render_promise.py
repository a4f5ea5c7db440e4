"""A threshold's promise as text for a person and as JSON; chooses nothing, changes no card."""

from __future__ import annotations

from dataclasses import asdict
from math import ceil, floor
from typing import Any

from crackwatch.bounds import Span
from crackwatch.promise import Promise, goal_text

# What was scored, for a person.
PICTURES, PHOTOGRAPHS = "pictures", "photographs"


def document(found: Promise, share_from: str) -> dict[str, Any]:
    """As ``tune --format json`` and the card's decisions have it.

    ``share_from`` says how the station's share of cracks is known.
    """
    forecast = found.forecast
    cost = None
    if found.cost is not None:
        cost = {
            **asdict(found.cost.span),
            "optimism": found.cost.optimism,
            "thresholds": list(found.cost.thresholds),
            "handful": found.cost.handful,
        }
    return {
        "recall": found.recall,
        "recall_bound": found.recall_bound,
        **asdict(found.pictures),
        "false_alarms_per_1000": found.false_alarms_per_1000,
        "false_alarms_per_1000_bound": found.false_alarms_per_1000_bound,
        "independent": asdict(found.independent),
        "station": {
            "prevalence": forecast.prevalence,
            "prevalence_from": share_from,
            "flagged_per_1000": asdict(forecast.flagged),
            "false_alarms_per_1000": asdict(forecast.false_alarms),
            "missed_per_1000": asdict(forecast.missed),
        },
        "cost": cost,
    }


def text(
    found: Promise, model: str, before: str, examples: str, share_from: str, things: str
) -> str:
    """For a person, without a newline at its end; ``before`` is the threshold ``model`` has now.

    ``examples`` says where the scores come from, ``share_from`` how the share of cracks is known;
    ``things`` were scored: pictures, or photographs.
    """
    seen, there = found.pictures, found.independent
    sure = f"at a confidence of {found.confidence:g}"
    rows = [
        ("model", model),
        ("scores", examples),
        ("cracks", how_many(seen.tp + seen.fn, there.tp + there.fn, things)),
        ("normals", how_many(seen.fp + seen.tn, there.fp + there.tn, things)),
        ("goal", goal_text(found.goal, found.confidence, normals_of(things))),
        # every digit: it lies a hair below the score of a crack, which it would miss rounded up
        ("threshold", f"{found.threshold!r}  (now {before})"),
        # a bound is rounded to the side on which it still holds
        ("recall", f"{found.recall:.4f}  at least {_down(found.recall_bound, 4)} {sure}"),
        (
            "false alarms per 1,000",
            f"{found.false_alarms_per_1000:.2f}  at most "
            f"{_up(found.false_alarms_per_1000_bound, 2)} {sure}",
        ),
        ("found (TP)", str(seen.tp)),
        ("escapes (FN)", str(seen.fn)),
        ("false alarms (FP)", str(seen.fp)),
        ("left alone (TN)", str(seen.tn)),
    ]
    if found.cost is not None:
        rows.append((f"cost a {things[:-1]}", f"{_span(found.cost.span, 4)}, bootstrap"))
        if found.cost.optimism:
            rows.append(("", f"chosen on these {things}: add about {found.cost.optimism:.2g}"))
    forecast = found.forecast
    lines = [
        *aligned(rows),
        "",
        f"Of 1,000 {things} at the station, {round(1000 * forecast.prevalence, 1):,g} of them with "
        "a crack",
        f"({share_from}):",
        *aligned(
            [
                ("flagged", _span(forecast.flagged, 1)),
                ("of these false", _span(forecast.false_alarms, 1)),
                ("cracks missed", _span(forecast.missed, 2)),
            ]
        ),
        f"All of this holds for {things} like those that were scored, and for no others.",
    ]
    if found.cost is not None:
        lines += [
            "",
            "The threshold was chosen by both kinds of errors: the bounds flatter a little.",
        ]
        if found.cost.handful:
            least, most = found.cost.thresholds
            lines += [
                f"A handful of {things} decided it (independent misses: {there.fn}, false alarms: "
                f"{there.fp}).",
                f"In resamples the best threshold lay between {least:.3g} and {most:.3g}.",
            ]
    return "\n".join(lines)


def normals_of(things: str) -> str:
    """What those without a crack are called."""
    return "normals" if things == PICTURES else f"{things} without a crack"


def how_many(count: int, independent: int, things: str = PICTURES) -> str:
    """Of one class: how many, and independent ones where these are fewer."""
    return f"{count:,} {things}" + (
        "" if count == independent else f", {independent:,} of them independent"
    )


def _down(value: float, digits: int) -> str:
    return f"{floor(value * 10**digits) / 10**digits:.{digits}f}"


def _up(value: float, digits: int) -> str:
    return f"{ceil(value * 10**digits) / 10**digits:.{digits}f}"


def _span(span: Span, digits: int) -> str:
    return f"{span.expected:.{digits}f}  ({span.low:.{digits}f} to {span.high:.{digits}f})"


def aligned(rows: list[tuple[str, str]]) -> list[str]:
    """A line for each name and value, values below one another."""
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]
