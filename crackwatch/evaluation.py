"""How good scores are: counts, rates with exact intervals, plots; knows no model and no registry."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from crackwatch.dataset import (
    Decode,
    LabelledFile,
    Problem,
    Progress,
    no_progress,
    read_and_decode,
)
from crackwatch.domain import Label
from crackwatch.errors import DatasetError
from crackwatch.runtime import Classifier

CONFIDENCE = 0.95
ECE_BINS = 10  # of equal width over 0..1
CONFUSION_PLOT = "confusion.png"
PRECISION_RECALL_PLOT = "precision_recall.png"
HISTOGRAM_PLOT = "scores.png"

_CHUNK = 64  # pictures scored at once
_THREADS = 2

# Colours that stay apart for colour-blind readers (Okabe and Ito).
_NORMAL_COLOUR = "#0072B2"
_ANOMALY_COLOUR = "#D55E00"
_LINE_COLOUR = "#333333"


# --------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of a labelled folder. ``problems`` are the files that could not be scored."""

    labels: NDArray[np.int8]  # (N,), 1 for an anomaly
    scores: NDArray[np.float32]  # (N,), 0..1
    paths: tuple[bytes, ...]
    problems: tuple[Problem, ...]


def score_files(
    files: Sequence[LabelledFile],
    decode: Decode,
    classifier: Classifier,
    progress: Progress = no_progress,
) -> Scored:
    """Scores every file, a chunk at a time, so that memory does not grow with their number.

    ``decode`` is called from two threads. A file that cannot be used is listed, never dropped.
    """
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    labels: list[int] = []
    paths: list[bytes] = []
    scores = [np.empty(0, np.float32)]
    problems: list[Problem] = []
    done = 0
    with ThreadPoolExecutor(_THREADS, "decode") as pool:
        ahead = [pool.submit(_decode_chunk, chunk, decode) for chunk in chunks[:_THREADS]]
        for number, chunk in enumerate(chunks):
            usable, pictures, unusable = ahead.pop(0).result()
            if number + _THREADS < len(chunks):
                ahead.append(pool.submit(_decode_chunk, chunks[number + _THREADS], decode))
            if len(usable):
                scores.append(classifier.scores(pictures))
            labels.extend(int(file.label is Label.ANOMALY) for file in usable)
            paths.extend(file.path for file in usable)
            problems.extend(unusable)
            done += len(chunk)
            progress(done, len(files))
    return Scored(
        np.array(labels, dtype=np.int8), np.concatenate(scores), tuple(paths), tuple(problems)
    )


def _decode_chunk(
    files: Sequence[LabelledFile], decode: Decode
) -> tuple[list[LabelledFile], NDArray[np.uint8], list[Problem]]:
    usable: list[LabelledFile] = []
    pictures: list[NDArray[np.uint8]] = []
    problems: list[Problem] = []
    for file in files:
        got = read_and_decode(file.path, decode)
        if isinstance(got, Problem):
            problems.append(got)
        else:
            usable.append(file)
            pictures.append(got[1])
    return usable, np.stack(pictures) if pictures else np.empty(0, np.uint8), problems


# ------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Measures:
    """How scores fare against labels at a threshold; all rates are of the anomaly class, 0..1.

    None where a rate does not exist, for want of pictures that it could be of. Intervals are exact
    95 % ones (Clopper and Pearson 1934): they hold for pictures drawn like these, one independent
    of the other, and say nothing of another surface or camera.
    """

    threshold: float
    n: int
    tp: int
    fn: int
    fp: int
    tn: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    pr_auc: float | None  # average precision: the area as a step function
    roc_auc: float | None
    brier: float | None
    ece: float | None  # expected calibration error, 10 bins of equal width
    recall_interval: tuple[float, float] | None
    precision_interval: tuple[float, float] | None

    def as_json(self) -> dict[str, Any]:
        """The measures under the keys of ``evaluate --format json``."""
        document = asdict(self)
        for key in ("recall_interval", "precision_interval"):
            document[key] = list(document[key]) if document[key] else None
        return document


def measure(scores: NDArray[np.floating], labels: NDArray[np.int8], threshold: float) -> Measures:
    """Holds ``scores`` (N,), 0..1, against ``labels`` (N,), 1 for an anomaly; N may be 0."""
    exact = scores.astype(np.float64)  # a score is compared as the station compares it
    is_anomaly, flagged = labels == 1, exact >= threshold
    tp, fn = int((is_anomaly & flagged).sum()), int((is_anomaly & ~flagged).sum())
    fp, tn = int((~is_anomaly & flagged).sum()), int((~is_anomaly & ~flagged).sum())
    ranked = bool(is_anomaly.any() and not is_anomaly.all())
    return Measures(
        threshold=threshold,
        n=len(scores),
        tp=tp,
        fn=fn,
        fp=fp,
        tn=tn,
        accuracy=_rate(tp + tn, len(scores)),
        precision=_rate(tp, tp + fp),
        recall=_rate(tp, tp + fn),
        f1=_rate(2 * tp, 2 * tp + fp + fn),
        pr_auc=float(average_precision_score(is_anomaly, exact)) if ranked else None,
        roc_auc=float(roc_auc_score(is_anomaly, exact)) if ranked else None,
        brier=float(((exact - is_anomaly) ** 2).mean()) if len(scores) else None,
        ece=_calibration_error(exact, is_anomaly) if len(scores) else None,
        recall_interval=exact_interval(tp, tp + fn),
        precision_interval=exact_interval(tp, tp + fp),
    )


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def exact_interval(successes: int, trials: int) -> tuple[float, float] | None:
    """The exact 95 % interval of a rate (Clopper and Pearson); None without trials."""
    if trials == 0:
        return None
    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def _calibration_error(scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> float:
    """Mean distance of score and frequency over bins of equal width, weighted by their pictures."""
    bins = np.minimum((scores * ECE_BINS).astype(np.intp), ECE_BINS - 1)
    expected = np.bincount(bins, weights=scores, minlength=ECE_BINS)
    observed = np.bincount(bins, weights=is_anomaly, minlength=ECE_BINS)
    return float(np.abs(expected - observed).sum() / len(scores))


# -------------------------------------------------------------------------------------- plotting


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
