"""Recall and false alarms over the threshold, with the operating point: a drawing, no choice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from crackwatch.evaluation.curves import logits
from crackwatch.evaluation.style import (
    ANOMALY,
    FAINT,
    INK,
    NORMAL,
    QUIET,
    house_style,
    new_figure,
    printable,
)

# Where the axis of thresholds, which is one of logits, is labelled.
_NAMED = (1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999999)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The operating point: rates as they were seen, and their one-sided bounds."""

    threshold: float
    recall: float
    recall_bound: float
    false_alarms_per_1000: float
    false_alarms_per_1000_bound: float
    confidence: float


def write_operating_plot(
    file: Path,
    thresholds: NDArray[np.float64],
    recall: NDArray[np.float64],
    false_alarms_per_1000: NDArray[np.float64],
    chosen: Chosen,
    title: str,
    subtitle: str,
) -> None:
    """Writes a PNG, replacing ``file``. The arrays are (M,), ``thresholds`` rising.

    Raises OSError where the file cannot be written.
    """
    with house_style():
        figure = new_figure(7.5, 6.0)
        figure.suptitle(printable(f"{title}\n{subtitle}"), x=0.02, ha="left", fontsize=10)
        above, below = figure.subplots(2, 1, sharex=True)
        at = float(logits(np.array([chosen.threshold]))[0])
        places = logits(thresholds)
        sure = f"confidence {chosen.confidence:g}"
        # a rate holds for every threshold above the score before it, up to this score
        above.step(places, recall, where="pre", color=ANOMALY, lw=1.8)
        _point(above, at, chosen.recall, chosen.recall_bound, ANOMALY)
        above.set_title(f"Recall {chosen.recall:.4f}, at least {chosen.recall_bound:.4f} ({sure})")
        above.set_ylabel("recall")
        lowest = min(chosen.recall_bound, chosen.recall)
        bottom = next((mark for mark in (0.9, 0.7, 0.4) if lowest > mark + 0.02), 0.0)
        above.set_ylim(bottom - 0.02 * (1 - bottom), 1 + 0.02 * (1 - bottom))

        below.step(places, false_alarms_per_1000, where="pre", color=NORMAL, lw=1.8)
        _point(below, at, chosen.false_alarms_per_1000, chosen.false_alarms_per_1000_bound, NORMAL)
        below.set_title(
            f"False alarms {chosen.false_alarms_per_1000:.2f} per 1,000, at most "
            f"{chosen.false_alarms_per_1000_bound:.2f} ({sure})"
        )
        below.set_ylabel("false alarms per 1,000 normals")
        below.set_yscale("symlog", linthresh=1.0)  # zero has its place on it
        below.set_ylim(-0.1, 1000)
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        below.yaxis.set_minor_locator(NullLocator())
        marks = logits(np.array(_NAMED))
        below.set_xticks(marks.tolist(), [f"{score:g}" for score in _NAMED])
        below.set_xlim(min(float(marks[0]), at) - 1, max(float(marks[-1]), at) + 1)
        below.set_xlabel("threshold (score, on an axis of logits)")
        figure.savefig(file, format="png", dpi=figure.dpi)


def _point(axes: Axes, at: float, seen: float, bound: float, colour: str) -> None:
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.axvline(at, color=INK, ls="--", lw=1.2)
    axes.plot([at, at], [seen, bound], color=colour, lw=4, alpha=0.45)
    axes.plot(at, seen, "o", color=colour, markersize=7, clip_on=False, zorder=3)
    axes.annotate(
        "chosen",
        (at, 0.04),
        xytext=(4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=QUIET,
        fontsize=9,
    )
