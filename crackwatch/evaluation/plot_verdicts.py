"""What the scores are, and what the verdicts at the threshold came to: three plots, no numbers."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from crackwatch.evaluation.curves import error_intervals, histogram, logits, reliability
from crackwatch.evaluation.shown import PlotPlace, Shown, counted, percent
from crackwatch.evaluation.style import ANOMALY, FAINT, INK, NORMAL, QUIET, only_axes

# ------------------------------------------------------------------------------------- confusion


def confusion(place: PlotPlace, shown: Shown) -> None:
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
                lines.append(f"{percent(share)} of the {name}")
                low, high = errors[row]
                if column == row:  # the right ones are what the wrong ones leave
                    low, high = 1 - high, 1 - low
                lines.append(f"({percent(low)} to {percent(high)})")
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
        f"{counted(found.fp, 'false alarm')} on {shown.sound:,} sound"
    )


def _cell(column: int, row: int, colour: str, strength: float) -> Rectangle:
    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=strength, edgecolor="white", lw=4
    )


# --------------------------------------------------------------------------------------- histogram

_SCORES_NAMED = (1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999999)


def score_histogram(place: PlotPlace, shown: Shown) -> None:
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
            counted(wrong, "false alarm" if is_wrong_right else "escape"),
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


def _sides(shown: Shown) -> str:
    errors, every = shown.measures.fn + shown.measures.fp, shown.measures.n
    if not every:
        return "No pictures, no scores"
    if errors:
        return f"{errors:,} of {every:,} scores on the wrong side of the threshold"
    return f"All {every:,} scores on the right side of the threshold"


# ------------------------------------------------------------------------------------ reliability


def reliability_diagram(place: PlotPlace, shown: Shown) -> None:
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
