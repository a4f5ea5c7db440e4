"""What the threshold gives and what others would give: three plots over all thresholds, no numbers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from crackwatch.evaluation.curves import costs, error_intervals, iso_f1, precision_recall, roc
from crackwatch.evaluation.shown import PlotPlace, Shown, percent, wants_both
from crackwatch.evaluation.style import ANOMALY, FAINT, GOOD, INK, QUIET, only_axes

# The cost axis is read at this rarity: one picture in so many has a crack. Another rarity shifts
# the axis and nothing else.
RARITY = 100

# ------------------------------------------------------------------------------- precision-recall


def precision_recall_curve(place: PlotPlace, shown: Shown) -> None:
    found, axes = shown.measures, only_axes(place)
    curve = precision_recall(shown.scores, shown.labels)
    low = _lower_limit(
        [found.recall_interval, found.precision_interval], None if curve is None else found.pr_auc
    )
    _square(axes, low, "recall: share of the cracks that are found")
    axes.set_ylabel("precision: share of the flagged that have a crack")
    _iso_f1_lines(axes, low)
    if curve is None:
        wants_both(axes)
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
    shown: Shown,
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


def roc_curve(place: PlotPlace, shown: Shown) -> None:
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
        wants_both(axes)
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
        f"{percent(found.recall)} found at {alarms:.3g} false alarms in 1,000, "
        f"area {found.roc_auc:.4f}"
    )


# ------------------------------------------------------------------------------------------- cost


def cost_curve(place: PlotPlace, shown: Shown) -> None:
    """Drummond and Holte's cost curves (2006), with the axis in a station's own words.

    Their probability-cost joins how rare cracks are and how dear an escape is. Here its odds are
    the axis, and they are written as the price of an escape in false alarms, at a rarity of one in
    ``RARITY``; a station with cracks ten times rarer reads ten times further left. Where its band is below both
    grey lines, the model is proved worth having; where its line leaves the best one, another threshold is due.
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
        wants_both(axes)
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
        axes.set_title("Not proved better than to flag nothing, or everything")
        return
    least, most = (weight * ratio_of for weight in found.worthwhile)
    axes.set_title(
        f"Proved worth having if an escape costs {_rounded(least)} to {_rounded(most)} alarms"
    )


def _rounded(value: float) -> str:
    """Two significant digits, without an exponent."""
    if value == 0:
        return "0"
    digits = 1 - int(np.floor(np.log10(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"
