"""A summary as one JSON document; its keys are a contract, times are ISO 8601 with offset."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

from crackwatch.escaping import path_text
from crackwatch.health import drift
from crackwatch.reported import Summary
from crackwatch.reporting import tiles


def document(summary: Summary) -> dict[str, Any]:
    """The summary as ``json`` can write it, times in the window's zone.

    Names appear as ``path_text`` shows them. A rate or a count that is unknown is null.
    """
    zone = summary.window.since.tzinfo
    return {
        "since": _iso(summary.window.since, zone),
        "until": _iso(summary.window.until, zone),
        "inspected": summary.inspected,
        "normal": summary.normal,
        "anomaly": summary.anomaly,
        "quarantined": summary.quarantined,
        "superseded": summary.superseded,
        "pending": summary.pending,
        "pending_as_of": _iso(summary.pending_as_of, zone) if summary.pending_as_of else None,
        "anomaly_rate": summary.anomaly_rate,
        "models": [
            {
                "id": each.id,
                "inspected": each.inspected,
                "anomaly": each.anomaly,
                "threshold": each.threshold,
                "min_tiles": each.min_tiles,
            }
            for each in summary.models
        ],
        "anomalies": [
            {
                "source": path_text(each.source),
                "path": path_text(each.path),
                "score": each.score,
                "inspected_at": _iso(each.inspected_at, zone),
                "model": each.model,
                "in_review_band": each.in_review_band,
                "threshold": each.threshold,
                **(tiles.document(each.photograph) if each.photograph else {}),
            }
            for each in summary.anomalies
        ],
        "quarantine": [
            {
                "source": path_text(each.source),
                "path": path_text(each.path),
                "reason": each.reason,
            }
            for each in summary.quarantine
        ],
        "hourly": [
            {
                "hour": each.hour.isoformat(),
                "normal": each.normal,
                "anomaly": each.anomaly,
                "quarantined": each.quarantined,
            }
            for each in summary.hourly
        ],
        "reviewed": {
            "crack": summary.reviews.crack,
            "ok": summary.reviews.ok,
            "contradictions": summary.reviews.contradictions,
            "escapes": summary.reviews.escapes,
            "false_alarms": summary.reviews.false_alarms,
        },
        "review_band": {"waiting": summary.reviews.waiting},
        "drift": [drift.document(each) for each in summary.drift],
    }


def _iso(moment: datetime, zone: tzinfo | None) -> str:
    return moment.astimezone(zone).isoformat()
