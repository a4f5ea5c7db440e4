"""Measures as pictures that a quality engineer can read; the numbers come from ``curves``.

Each title says what the plot shows, in figures. Bars and bands are exact 95 % intervals (Clopper
and Pearson). One colour is one class everywhere: blue for sound concrete, vermilion for cracks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crackwatch.evaluation import Measures
from crackwatch.evaluation.plot_tradeoffs import cost_curve, precision_recall_curve, roc_curve
from crackwatch.evaluation.plot_verdicts import confusion, reliability_diagram, score_histogram
from crackwatch.evaluation.shown import PlotPlace, Shown
from crackwatch.evaluation.style import QUIET, house_style, new_figure, printable, save

OVERVIEW_PLOT = "overview.png"
CONFUSION_PLOT = "confusion.png"
PRECISION_RECALL_PLOT = "precision_recall.png"
ROC_PLOT = "roc.png"
RELIABILITY_PLOT = "reliability.png"
COST_PLOT = "cost.png"
HISTOGRAM_PLOT = "scores.png"

_DRAWN: dict[str, Callable[[PlotPlace, Shown], None]] = {
    CONFUSION_PLOT: confusion,
    PRECISION_RECALL_PLOT: precision_recall_curve,
    ROC_PLOT: roc_curve,
    HISTOGRAM_PLOT: score_histogram,
    RELIABILITY_PLOT: reliability_diagram,
    COST_PLOT: cost_curve,
}


def write_plots(
    folder: Path,
    scores: NDArray[np.floating],
    labels: NDArray[np.int8],
    measures: Measures,
    title: str,
) -> list[Path]:
    """Writes seven PNG files into ``folder`` (made if need be) and returns their paths.

    ``overview.png`` shows the other six on one page. ``scores`` (N,), 0..1, and ``labels`` (N,) are
    what ``measures`` was made of; N may be 0. Files of these names are replaced. Opens no window.
    Raises DatasetError where the folder cannot be written.
    """
    shown = Shown(scores.astype(np.float64), labels, measures)
    title = printable(title)
    with house_style():
        figures = {OVERVIEW_PLOT: _overview(shown, title)}
        for name, draw in _DRAWN.items():
            figure = new_figure(7.4, 5.6)
            draw(figure, shown)
            figure.text(0.995, 0.005, title, ha="right", va="bottom", fontsize=7.5, color=QUIET)
            figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.98))  # type: ignore[union-attr, call-arg]  # new_figure gave it the constrained one
            figures[name] = figure
        return save(folder, figures)


def _overview(shown: Shown, title: str) -> Figure:
    found = shown.measures
    figure = new_figure(19.0, 11.4, dpi=100)
    head, body = figure.subfigures(2, 1, height_ratios=(0.9, 11), squeeze=False).flat
    head.text(0.012, 0.62, title, fontsize=19, fontweight="bold", va="center")
    facts = [
        f"{found.n:,} pictures: {shown.cracks:,} with a crack, {shown.sound:,} without",
        f"anomaly from a score of {found.threshold:.4g}",
    ]
    for name, value, interval in (
        ("recall", found.recall, found.recall_interval),
        ("precision", found.precision, found.precision_interval),
    ):
        if value is not None and interval is not None:
            facts.append(f"{name} {value:.4f} ({interval[0]:.3f} to {interval[1]:.3f})")
    if found.f1 is not None:
        facts.append(f"F1 {found.f1:.4f}")
    facts.append("bars, bands, brackets: exact 95 % intervals")
    head.text(0.012, 0.08, "   ·   ".join(facts), fontsize=11, color=QUIET, va="center")
    places = body.subfigures(2, 3, wspace=0.03, hspace=0.04)
    for place, draw in zip(places.flat, _DRAWN.values(), strict=True):
        draw(place, shown)
    return figure
