"""Measures as pictures: confusion matrix, precision-recall, scores by class; measures nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from crackwatch.errors import DatasetError
from crackwatch.evaluation import Measures

CONFUSION_PLOT = "confusion.png"
PRECISION_RECALL_PLOT = "precision_recall.png"
HISTOGRAM_PLOT = "scores.png"

# Colours that stay apart for colour-blind readers (Okabe and Ito).
_NORMAL_COLOUR = "#0072B2"
_ANOMALY_COLOUR = "#D55E00"
_LINE_COLOUR = "#333333"


def write_plots(
    folder: Path,
    scores: NDArray[np.floating],
    labels: NDArray[np.int8],
    measures: Measures,
    title: str,
) -> list[Path]:
    """Writes three PNG files into ``folder`` (made if need be) and returns their paths.

    Confusion matrix, precision-recall with the operating point, histogram of scores by class.
    Files of these names are replaced. Raises DatasetError where the folder cannot be written.
    """
    exact = scores.astype(np.float64)
    figures = {
        CONFUSION_PLOT: _confusion_figure(measures, title),
        PRECISION_RECALL_PLOT: _precision_recall_figure(exact, labels, measures, title),
        HISTOGRAM_PLOT: _histogram_figure(exact, labels, measures, title),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=144)
    except OSError as exc:
        raise DatasetError(
            f"{folder}: plots cannot be written: {exc.strerror}",
            "Name another folder: --plots DIR.",
        ) from exc
    return [folder / name for name in figures]


def _figure(width_in: float, height_in: float, title: str, subtitle: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Axes = figure.subplots()
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title(subtitle, loc="left", fontsize=9, color="#555555")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _confusion_figure(measures: Measures, title: str) -> Figure:
    figure, axes = _figure(
        5.0, 4.6, title, f"{measures.n} pictures at threshold {measures.threshold:.4g}"
    )
    cells = [[measures.tn, measures.fp], [measures.fn, measures.tp]]
    words = [["normal, left alone", "false alarm"], ["escape", "found"]]
    for row, label in enumerate(("normal", "anomaly")):
        total = sum(cells[row])
        colour = _NORMAL_COLOUR if row == 0 else _ANOMALY_COLOUR
        for column in range(2):
            share = cells[row][column] / total if total else 0.0
            axes.add_patch(_cell(column, row, colour, 0.06 + 0.84 * share))
            ink = "white" if share > 0.5 else "#222222"
            axes.text(
                column, row - 0.08, f"{cells[row][column]:,}", ha="center", fontsize=22, color=ink
            )
            axes.text(
                column,
                row + 0.2,
                f"{words[row][column]}\n{share:.1%} of {label}" if total else words[row][column],
                ha="center",
                va="center",
                fontsize=9,
                color=ink,
            )
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), aspect="equal")
    axes.set_xticks([0, 1], ["normal", "anomaly"])
    axes.set_yticks([0, 1], ["normal", "anomaly"], rotation=90, va="center")
    axes.set_xlabel("verdict")
    axes.set_ylabel("label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _cell(column: int, row: int, colour: str, strength: float) -> Rectangle:
    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=strength, edgecolor="white", lw=3
    )


def _precision_recall_figure(
    scores: NDArray[np.float64], labels: NDArray[np.int8], measures: Measures, title: str
) -> Figure:
    area = "not defined" if measures.pr_auc is None else f"{measures.pr_auc:.4f}"
    figure, axes = _figure(6.0, 4.6, title, f"area {area}, {measures.tp + measures.fn} anomalies")
    if measures.pr_auc is not None:
        precision, recall, _ = precision_recall_curve(labels == 1, scores)
        axes.step(recall, precision, where="post", color=_LINE_COLOUR, lw=1.5)
    else:
        axes.text(0.5, 0.5, "needs pictures of both classes", ha="center", va="center")
    if measures.precision is not None and measures.recall is not None:
        axes.plot(
            measures.recall,
            measures.precision,
            "o",
            color=_ANOMALY_COLOUR,
            markersize=8,
            clip_on=False,
            zorder=3,
            label=f"threshold {measures.threshold:.4g}: "
            f"precision {measures.precision:.4f}, recall {measures.recall:.4f}",
        )
        for interval, is_recall in (
            (measures.recall_interval, True),
            (measures.precision_interval, False),
        ):
            assert interval is not None  # a rate that exists has an interval
            axes.plot(
                interval if is_recall else [measures.recall] * 2,
                [measures.precision] * 2 if is_recall else interval,
                color=_ANOMALY_COLOUR,
                lw=1.5,
                alpha=0.7,
                clip_on=False,
                label="exact 95 % intervals" if is_recall else None,
            )
        axes.legend(loc="lower left", frameon=False, fontsize=9)
    low = _lower_limit(measures)
    high = 1 + 0.02 * (1 - low)  # a line at 1 stays in sight
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="recall", ylabel="precision")
    axes.grid(color="#dddddd", lw=0.6)
    return figure


def _lower_limit(measures: Measures) -> float:
    """Where the axes begin: a curve in the last tenth would be a corner of the whole square."""
    lows = [
        interval[0]
        for interval in (measures.recall_interval, measures.precision_interval)
        if interval is not None
    ]
    for limit in (0.9, 0.7, 0.5):
        if lows and min(lows) > limit + 0.02 and (measures.pr_auc or 0) > limit:
            return limit
    return 0.0


def _histogram_figure(
    scores: NDArray[np.float64], labels: NDArray[np.int8], measures: Measures, title: str
) -> Figure:
    figure, axes = _figure(
        6.4, 4.2, title, "pictures a bin, logarithmic; left of the line: normal, right: anomaly"
    )
    edges = np.linspace(0, 1, 51)
    for value, name, colour in ((0, "normal", _NORMAL_COLOUR), (1, "anomaly", _ANOMALY_COLOUR)):
        chosen = scores[labels == value]
        if not len(chosen):
            continue  # a logarithmic axis cannot show nothing
        axes.hist(
            chosen,
            bins=edges.tolist(),
            histtype="stepfilled",
            facecolor=(colour, 0.35),
            edgecolor=colour,
            lw=1.2,
            label=f"{name} ({len(chosen):,})",
        )
    axes.axvline(
        measures.threshold,
        color=_LINE_COLOUR,
        ls="--",
        lw=1.2,
        label=f"threshold {measures.threshold:.4g}",
    )
    if len(scores):
        axes.set_yscale("log")
    axes.set(xlim=(0, 1), ylim=(0.7, None if len(scores) else 1), xlabel="score", ylabel="pictures")
    axes.legend(loc="upper center", facecolor="white", framealpha=1, edgecolor="none", fontsize=9)
    return figure
