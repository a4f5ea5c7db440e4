"""Measures as pictures that a quality engineer can read; the numbers come from ``curves``.

Each title says what the plot shows, in figures. Bars and bands are exact 95 % intervals (Clopper
and Pearson). One colour is one class everywhere: blue for sound concrete, vermilion for cracks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from crackwatch.evaluation import Measures
from crackwatch.evaluation.curves import (
    costs,
    error_intervals,
    histogram,
    iso_f1,
    logits,
    precision_recall,
    reliability,
    roc,
)
from crackwatch.evaluation.style import (
    ANOMALY,
    FAINT,
    GOOD,
    INK,
    NORMAL,
    QUIET,
    house_style,
    new_figure,
    only_axes,
    printable,
    save,
)

OVERVIEW_PLOT = "overview.png"
CONFUSION_PLOT = "confusion.png"
PRECISION_RECALL_PLOT = "precision_recall.png"
ROC_PLOT = "roc.png"
RELIABILITY_PLOT = "reliability.png"
COST_PLOT = "cost.png"
HISTOGRAM_PLOT = "scores.png"

# The cost axis is read at this rarity: one picture in so many has a crack. Another rarity shifts
# the axis and nothing else.
RARITY = 100

_Place = Figure | SubFigure


@dataclass(frozen=True, slots=True)
class _Shown:
    scores: NDArray[np.float64]
    labels: NDArray[np.int8]
    measures: Measures

    @property
    def cracks(self) -> int:
        return self.measures.tp + self.measures.fn

    @property
    def sound(self) -> int:
        return self.measures.fp + self.measures.tn

    @property
    def threshold(self) -> str:
        return f"threshold {self.measures.threshold:.4g}"


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
    shown = _Shown(scores.astype(np.float64), labels, measures)
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


def _overview(shown: _Shown, title: str) -> Figure:
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


# ------------------------------------------------------------------------------------- confusion


def _confusion(place: _Place, shown: _Shown) -> None:
    found, axes = shown.measures, only_axes(place)
    cells = [[found.tn, found.fp], [found.fn, found.tp]]
    words = [["left alone", "false alarms"], ["escapes", "found"]]
    missed, alarmed = error_intervals(found)
    errors = [alarmed, missed]
    for row, name in enumerate(("sound", "cracked")):
        total, colour = sum(cells[row]), (NORMAL, ANOMALY)[row]
        for column in range(2):
            share = cells[row][column] / total if total else 0.0
            axes.add_patch(_cell(column, row, colour, 0.07 + 0.93 * share))
            ink = "white" if share > 0.5 else INK
            number = f"{cells[row][column]:,}"
            axes.text(column, row - 0.16, number, ha="center", va="center", size=26, color=ink)
            lines = [words[row][column]]
            if total:
                lines.append(f"{_percent(share)} of the {name}")
                low, high = errors[row]
                if column == row:  # the right ones are what the wrong ones leave
                    low, high = 1 - high, 1 - low
                lines.append(f"({_percent(low)} to {_percent(high)})")
            axes.text(
                column, row + 0.2, "\n".join(lines), ha="center", va="center", size=10, color=ink
            )
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
    axes.set_xticks([0, 1], ["normal", "anomaly"], size=10)
    axes.set_yticks([0, 1], ["normal", "anomaly"], size=10, rotation=90, va="center")
    axes.set_xlabel("verdict of the model")
    axes.set_ylabel("label by a person")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"{found.tp:,} of {shown.cracks:,} cracks found, "
        f"{_count(found.fp, 'false alarm')} on {shown.sound:,} sound"
    )


def _cell(column: int, row: int, colour: str, strength: float) -> Rectangle:
    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=strength, edgecolor="white", lw=4
    )


# ------------------------------------------------------------------------------- precision-recall


def _precision_recall(place: _Place, shown: _Shown) -> None:
    found, axes = shown.measures, only_axes(place)
    curve = precision_recall(shown.scores, shown.labels)
    low = _lower_limit(
        [found.recall_interval, found.precision_interval], None if curve is None else found.pr_auc
    )
    _square(axes, low, "recall: share of the cracks that are found")
    axes.set_ylabel("precision: share of the flagged that have a crack")
    _iso_f1_lines(axes, low)
    if curve is None:
        _wants_both(axes)
    else:
        axes.step(curve.x, curve.y, where="pre", color=INK, lw=1.8, label="all thresholds")
    if found.precision is not None and found.recall is not None:
        _operating_point(
            axes,
            (found.recall, found.precision),
            (found.recall_interval, found.precision_interval),
            shown,
        )
        axes.legend(loc="lower left")
    if found.precision is None or found.recall is None:
        axes.set_title(f"Nothing is flagged at {shown.threshold}: no precision")
    else:
        area = "" if found.pr_auc is None else f", area {found.pr_auc:.4f}"
        axes.set_title(f"Precision {found.precision:.3f} at recall {found.recall:.3f}{area}")


def _iso_f1_lines(axes: Axes, low: float) -> None:
    """Lines of equal F1, named on the diagonal."""
    levels = {0.0: (0.2, 0.4, 0.6, 0.8), 0.5: (0.6, 0.7, 0.8, 0.9), 0.7: (0.8, 0.85, 0.9, 0.95)}
    recall = np.linspace(low, 1, 400)
    for level in levels.get(low, (0.92, 0.94, 0.96, 0.98)):
        axes.plot(recall, iso_f1(level, recall), color=FAINT, lw=1, zorder=0)
        if level > low + 0.4 * (1 - low):  # further down lies the legend
            axes.text(
                level,  # where precision and recall are equal, F1 is what they are
                level,
                f"F1 {level:g}",
                ha="center",
                va="center",
                size=8,
                color=QUIET,
                rotation=-38,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
                zorder=1,
            )


def _lower_limit(intervals: list[tuple[float, float] | None], area: float | None) -> float:
    """Where the axes begin: a curve in the last tenth would be a corner of the whole square."""
    lows = [interval[0] for interval in intervals if interval is not None]
    for limit in (0.9, 0.7, 0.5):
        if lows and area is not None and min(lows) > limit + 0.01 and area > limit:
            return limit
    return 0.0


def _square(axes: Axes, low: float, name: str) -> None:
    high = 1 + 0.015 * (1 - low)  # a line at 1 stays in sight
    axes.set(xlim=(low, high), ylim=(low, high), xlabel=name)


def _operating_point(
    axes: Axes,
    point: tuple[float, float],
    intervals: tuple[tuple[float, float] | None, tuple[float, float] | None],
    shown: _Shown,
) -> None:
    axes.plot(
        *point,
        "o",
        color=ANOMALY,
        markeredgecolor="white",
        markersize=10,
        clip_on=False,
        zorder=5,
        label=shown.threshold,
    )
    for interval, across in zip(intervals, (True, False), strict=True):
        if interval is not None:
            axes.plot(
                interval if across else [point[0]] * 2,
                [point[1]] * 2 if across else interval,
                color=ANOMALY,
                lw=2.2,
                alpha=0.65,
                clip_on=False,
                zorder=4,
                label="its exact 95 % intervals" if across else None,
            )


# -------------------------------------------------------------------------------------------- ROC


def _roc(place: _Place, shown: _Shown) -> None:
    """False alarms in a thousand on a logarithmic axis, which begins with none at all.

    Of a thousand pictures a handful are flagged wrongly: on the usual axis from 0 to 1 every good
    model is a corner.
    """
    found, axes = shown.measures, only_axes(place)
    curve = roc(shown.scores, shown.labels)
    missed, alarmed = error_intervals(found)
    recall = None if curve is None else (1 - missed[1], 1 - missed[0])
    low = _lower_limit([recall], found.roc_auc)
    one = 1000 / max(shown.sound, 1)  # a single picture, in pictures of a thousand
    axes.set_xscale("symlog", linthresh=one, linscale=0.4)
    ticks = [0.0] + [tick for tick in (0.1, 1.0, 10.0, 100.0, 1000.0) if tick >= one]
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(
        xlim=(-one * 0.15, 1000),
        ylim=(low, 1 + 0.015 * (1 - low)),
        xlabel="false alarms among 1,000 sound pictures",
        ylabel="recall: share of the cracks that are found",
    )
    axes.grid(True)
    if curve is None or found.recall is None:
        _wants_both(axes)
        axes.set_title("No ROC without pictures of both classes")
        return
    axes.step(curve.x * 1000, curve.y, where="post", color=INK, lw=1.8, label="all thresholds")
    if low == 0:
        chance = np.geomspace(1e-5, 1, 400)
        axes.plot(chance * 1000, chance, color=QUIET, lw=1, ls=":", label="flagging by chance")
    alarms = found.fp / shown.sound * 1000
    bars = ((alarmed[0] * 1000, alarmed[1] * 1000), recall)
    _operating_point(axes, (alarms, found.recall), bars, shown)
    axes.legend(loc="lower right")
    axes.set_title(
        f"{_percent(found.recall)} found at {alarms:.3g} false alarms in 1,000, "
        f"area {found.roc_auc:.4f}"
    )


# ------------------------------------------------------------------------------------ reliability


def _reliability(place: _Place, shown: _Shown) -> None:
    found, axes = shown.measures, only_axes(place)
    axes.plot([0, 1], [0, 1], color=QUIET, lw=1, ls="--", label="score = frequency")
    first = True
    for bin_ in reliability(shown.scores, shown.labels):
        if bin_.low > 0:
            axes.axvline(bin_.low, color=FAINT, lw=0.7, zorder=0)
        axes.text(
            (bin_.low + bin_.high) / 2,
            1.045,
            f"{bin_.count:,}",
            ha="center",
            va="center",
            size=8.5,
            color=INK if bin_.count else QUIET,
        )
        if bin_.mean_score is None or bin_.rate is None or bin_.interval is None:
            continue
        axes.plot(
            [bin_.mean_score] * 2,
            bin_.interval,
            color=ANOMALY,
            lw=2.2,
            alpha=0.65,
            label="exact 95 % interval" if first else None,
        )
        axes.plot(
            bin_.mean_score,
            bin_.rate,
            "o",
            color=ANOMALY,
            markeredgecolor="white",
            markersize=9,
            clip_on=False,
            zorder=5,
            label="pictures of a bin" if first else None,
        )
        first = False
    axes.text(0.004, 1.105, "pictures in each bin:", size=8.5, color=QUIET, va="center")
    axes.set(
        xlim=(0, 1),
        ylim=(-0.02, 1.26),  # above 1 there is no share, but room for counts and legend
        xlabel="score (mean of a bin)",
        ylabel="share that has a crack",
    )
    ticks = np.linspace(0, 1, 6)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    if shown.measures.n:
        axes.legend(loc="upper left", ncols=3, borderaxespad=0)
    if found.ece is None or found.brier is None:
        axes.set_title("No pictures: nothing to compare scores with")
    else:
        axes.set_title(
            f"Scores and frequencies differ by {found.ece:.4f} (ECE), Brier {found.brier:.4f}"
        )


# ------------------------------------------------------------------------------------------- cost


def _cost(place: _Place, shown: _Shown) -> None:
    """Drummond and Holte's cost curves (2006), with the axis in a station's own words.

    Their probability-cost joins how rare cracks are and how dear an escape is. Here its odds are
    the axis, and they are written as the price of an escape in false alarms, at a rarity of one in
    ``RARITY``; a station with cracks ten times rarer reads ten times further left. Below both grey
    lines the model is worth having; where its line leaves the best one, another threshold is due.
    """
    axes = only_axes(place)
    found = costs(shown.scores, shown.labels, shown.measures)
    ratio_of = RARITY - 1  # sound pictures for each crack
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(1e-4, 8.0),  # above 1 there is no cost, but room for the legend
        xlabel=f"what one escape costs, in false alarms, if 1 picture in {RARITY} has a crack",
        ylabel="expected cost, all wrong = 1",
    )
    axes.grid(True)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.1, 100_000)
    axes.set_yticks([1e-4, 1e-3, 1e-2, 0.1, 1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if found is None:
        _wants_both(axes)
        axes.set_title("No costs without pictures of both classes")
        return
    price = found.weight * ratio_of
    axes.plot(price, found.flag_nothing, color=QUIET, lw=1.2, ls="--", label="flag nothing")
    axes.plot(price, found.flag_everything, color=QUIET, lw=1.2, ls=":", label="flag everything")
    axes.fill_between(
        price, found.low, found.high, color=ANOMALY, alpha=0.18, lw=0, label="its 95 % intervals"
    )
    axes.plot(price, found.at_threshold, color=ANOMALY, lw=2.2, label=shown.threshold)
    least_cost = "best threshold for each price" if found.best.any() else "best threshold: costs 0"
    axes.plot(price, found.best, color=GOOD, lw=1.6, label=least_cost)
    axes.legend(loc="upper left", ncols=3, columnspacing=1.2, handlelength=1.6)
    if found.worthwhile is None:
        axes.set_title("At this threshold it is better to flag nothing, or everything")
        return
    least, most = (weight * ratio_of for weight in found.worthwhile)
    if np.isinf(most):
        span = f"{_rounded(least)} alarms or more" if least else "anything at all"
    else:
        span = f"{_rounded(least)} to {_rounded(most)} alarms"
    axes.set_title(f"Worth having if an escape costs {span}")


def _rounded(value: float) -> str:
    """Two significant digits, without an exponent."""
    if value == 0:
        return "0"
    digits = 1 - int(np.floor(np.log10(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


# --------------------------------------------------------------------------------------- histogram

_SCORES_NAMED = (1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999999)


def _histogram(place: _Place, shown: _Shown) -> None:
    """Each class by itself, on an axis of logits: nearly all scores crowd at 0 and at 1."""
    found = shown.measures
    bins = histogram(shown.scores, shown.labels, found.threshold)
    line = float(logits(np.array([found.threshold]))[0])
    upper, lower = place.subplots(2, 1, sharex=True)
    for axes, counts, name, colour, total, wrong, is_wrong_right in (
        (upper, bins.normal, "sound", NORMAL, shown.sound, found.fp, True),
        (lower, bins.anomaly, "cracked", ANOMALY, shown.cracks, found.fn, False),
    ):
        axes.set_yscale("log")
        axes.set_ylim(0.7, max(10, int(counts.max(initial=0)) * 4))
        flagged = bins.edges[:-1] >= line - 1e-9
        for is_error in (False, True):
            chosen = flagged == (is_wrong_right == is_error)
            axes.bar(
                bins.edges[:-1][chosen],
                counts[chosen],
                width=np.diff(bins.edges)[chosen],
                align="edge",
                facecolor=colour,
                alpha=1.0 if is_error else 0.45,
                edgecolor=colour,
                lw=0.8,
            )
        axes.axvline(line, color=INK, lw=1.4, ls="--")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylabel(f"{total:,} {name}")
        side = "right" if is_wrong_right else "left"
        axes.annotate(
            _count(wrong, "false alarm" if is_wrong_right else "escape"),
            (line, 1),
            (6 if is_wrong_right else -6, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if side == "right" else "right",
            va="top",
            weight="bold",
            color=colour,
        )
    ticks = [(float(logits(np.array([score]))[0]), f"{score:g}") for score in _SCORES_NAMED]
    ticks = [tick for tick in ticks if bins.edges[0] <= tick[0] <= bins.edges[-1]]
    lower.set_xticks([value for value, _ in ticks], [name for _, name in ticks])
    lower.set_xlim(bins.edges[0], bins.edges[-1])
    lower.set_xlabel(f"score (logarithmic towards 0 and 1); dashed: {shown.threshold}")
    upper.tick_params(axis="x", labelbottom=False)
    upper.set_title(_sides(shown))


def _sides(shown: _Shown) -> str:
    errors, every = shown.measures.fn + shown.measures.fp, shown.measures.n
    if not every:
        return "No pictures, no scores"
    if errors:
        return f"{errors:,} of {every:,} scores on the wrong side of the threshold"
    return f"All {every:,} scores on the right side of the threshold"


# ------------------------------------------------------------------------------------------ words


def _wants_both(axes: Axes) -> None:
    axes.text(
        0.5,
        0.5,
        "needs pictures of both classes",
        ha="center",
        va="center",
        transform=axes.transAxes,
        color=QUIET,
    )


def _percent(share: float) -> str:
    """With so many digits that an error in ten thousand does not vanish."""
    text = f"{share:.2%}".replace("%", " %")
    return text.replace(".00 %", " %") if share in (0, 1) else text


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


_DRAWN: dict[str, Callable[[_Place, _Shown], None]] = {
    CONFUSION_PLOT: _confusion,
    PRECISION_RECALL_PLOT: _precision_recall,
    ROC_PLOT: _roc,
    HISTOGRAM_PLOT: _histogram,
    RELIABILITY_PLOT: _reliability,
    COST_PLOT: _cost,
}
