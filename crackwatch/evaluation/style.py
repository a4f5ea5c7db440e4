"""How every picture of an evaluation looks: colours, type, sizes, saving; knows no measure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import imsave
from numpy.typing import NDArray

from crackwatch.errors import DatasetError

# Colours that stay apart for colour-blind readers (Okabe and Ito).
NORMAL = "#0072B2"
ANOMALY = "#D55E00"
GOOD = "#009E73"
INK = "#222222"
QUIET = "#5f5f5f"
FAINT = "#d9d9d9"

SANS = "DejaVu Sans"  # both come with matplotlib: the same letters everywhere
MONO = "DejaVu Sans Mono"

DPI = 120

_STYLE = {
    "font.family": SANS,
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a file name may hold dollars
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "lines.solid_capstyle": "round",
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Within it, every figure looks alike, whatever settings of matplotlib this machine has."""
    with style.context(["default", _STYLE]):
        yield


def new_figure(width_in: float, height_in: float, dpi: int = DPI) -> Figure:
    """A figure that no window and no list of matplotlib's holds: it goes when it is let go."""
    return Figure(figsize=(width_in, height_in), dpi=dpi, layout="constrained")


def only_axes(place: Figure | SubFigure) -> Axes:
    axes: Axes = place.subplots()
    return axes


def printable(text: str, family: str = SANS) -> str:
    r"""``text`` with what the font cannot show as ``\uNNNN``: no empty boxes, no warning."""
    known = _letters(family)
    return "".join(
        char if ord(char) in known else char.encode("ascii", "backslashreplace").decode("ascii")
        for char in text
    )


@cache
def _letters(family: str) -> frozenset[int]:
    return frozenset(get_font(findfont(family)).get_charmap())


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """What ``figure`` looks like, RGB, (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib ships no type for it
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]  # the same
    return pixels


def save(folder: Path, pictures: Mapping[str, Figure | NDArray[np.uint8]]) -> list[Path]:
    """Writes figures, and pictures as uint8 (height, width, 3) RGB, under their names, as PNG.

    Files of these names are replaced. Returns the paths. Raises DatasetError where the folder
    cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            if isinstance(picture, Figure):
                picture.savefig(folder / name, dpi=picture.dpi)
            else:
                imsave(folder / name, picture, format="png", pil_kwargs={"compress_level": 4})
    except OSError as exc:
        raise DatasetError(
            f"{folder}: plots cannot be written: {exc.strerror}",
            "Name another folder: --plots DIR.",
        ) from exc
    return [folder / name for name in pictures]
