"""What every plot of an evaluation is given, and the words that they share; draws no plot itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from crackwatch.evaluation import Measures
from crackwatch.evaluation.style import QUIET

PlotPlace = Figure | SubFigure


@dataclass(frozen=True, slots=True)
class Shown:
    """A model's scores of labelled pictures: ``scores`` 0..1 and ``labels``, (N,), N may be 0."""

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


def wants_both(axes: Axes) -> None:
    axes.text(
        0.5,
        0.5,
        "needs pictures of both classes",
        ha="center",
        va="center",
        transform=axes.transAxes,
        color=QUIET,
    )


def percent(share: float) -> str:
    """With so many digits that an error in ten thousand does not vanish."""
    text = f"{share:.2%}".replace("%", " %")
    return text.replace(".00 %", " %") if share in (0, 1) else text


def counted(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"
