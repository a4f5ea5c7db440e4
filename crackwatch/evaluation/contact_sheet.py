"""The pictures that a model got wrong, on sheets, beside where it looked; judges nothing.

Pictures come from the files again, through the decoder that is handed in; what a heat map looks
like is the caller's business.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from crackwatch.dataset import Decode, Problem, Progress, no_progress, read_and_decode
from crackwatch.errors import DatasetError
from crackwatch.escaping import path_text
from crackwatch.evaluation import Scored
from crackwatch.evaluation.curves import logits
from crackwatch.evaluation.style import (
    ANOMALY,
    INK,
    MONO,
    NORMAL,
    QUIET,
    house_style,
    printable,
    rendered,
    save,
)
from crackwatch.runtime import SIDE

SHEET = "errors.png"  # further pages: errors-2.png and so on
PER_PAGE = 24
MOST_PAGES = 4  # a model that is wrong more often has other troubles than these pictures
FEW_ERRORS = 5  # with fewer, the closest calls are shown as well,
CLOSEST = 12  # so many of them

NAME_LENGTH = 54  # characters of a file's name under its picture

Explain = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # both (227, 227, 3) BGR


class Kind(Enum):
    """Why a picture is on the sheet: its words there, and its colour."""

    ESCAPE = ("escape", ANOMALY)
    FALSE_ALARM = ("false alarm", NORMAL)
    CLOSE_CALL = ("close call", QUIET)


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of the sheet; ``position`` is its place among the scored ones."""

    kind: Kind
    position: int


def choose_tiles(
    scores: NDArray[np.floating], labels: NDArray[np.int8], threshold: float
) -> list[Tile]:
    """What is shown, in order: escapes, the lowest score first; false alarms, the highest first.

    With fewer than ``FEW_ERRORS`` errors the ``CLOSEST`` right ones follow, the nearest to the
    threshold first. At most ``MOST_PAGES`` pages; false alarms have at least a quarter of them, if
    there are so many.
    """
    exact = scores.astype(np.float64)
    order = np.argsort(exact, kind="stable")
    is_anomaly, flagged = labels == 1, exact >= threshold
    escapes = [int(at) for at in order if is_anomaly[at] and not flagged[at]]
    alarms = [int(at) for at in order[::-1] if flagged[at] and not is_anomaly[at]]
    room = PER_PAGE * MOST_PAGES
    escapes_shown = escapes[: max(room - len(alarms), room * 3 // 4)]
    tiles = [Tile(Kind.ESCAPE, at) for at in escapes_shown]
    tiles += [Tile(Kind.FALSE_ALARM, at) for at in alarms[: room - len(escapes_shown)]]
    if len(escapes) + len(alarms) < FEW_ERRORS:
        distance = np.abs(logits(exact) - logits(np.array([threshold])))
        wrong = {*escapes, *alarms}
        near = [int(at) for at in np.argsort(distance, kind="stable") if int(at) not in wrong]
        tiles += [Tile(Kind.CLOSE_CALL, at) for at in near[:CLOSEST]]
    return tiles


def write_contact_sheets(
    folder: Path,
    scored: Scored,
    threshold: float,
    title: str,
    decode: Decode,
    explain: Explain | None = None,
    progress: Progress = no_progress,
) -> list[Path]:
    """Writes ``errors.png`` and, for more than 24 pictures, ``errors-2.png`` and so on.

    Each tile is the picture as it was judged and, if there is ``explain``, what that makes of it.
    A file that can no longer be read is shown as such. Sheets of an earlier evaluation in
    ``folder`` are removed, so that no page is a stranger's. Returns the paths. Raises DatasetError
    where the folder cannot be written.
    """
    tiles = choose_tiles(scored.scores, scored.labels, threshold)
    pages = [tiles[start : start + PER_PAGE] for start in range(0, len(tiles), PER_PAGE)] or [[]]
    headline = heading(scored, threshold, tiles)
    _remove_pages(folder)
    written: list[Path] = []
    with house_style():
        for number, page in enumerate(pages, 1):
            drawn = []
            for tile in page:
                drawn.append(_drawn(scored.paths[tile.position], decode, explain))
                progress((number - 1) * PER_PAGE + len(drawn), len(tiles))
            of = f"{title}, page {number} of {len(pages)}" if len(pages) > 1 else title
            sheet = _page(page, drawn, scored, headline, of, with_heat=explain is not None)
            written += save(folder, {SHEET if number == 1 else f"errors-{number}.png": sheet})
    return written


def heading(scored: Scored, threshold: float, tiles: Sequence[Tile]) -> str:
    """How many errors there are, and what of them the sheets show."""
    flagged = scored.scores.astype(np.float64) >= threshold
    escapes = int(((scored.labels == 1) & ~flagged).sum())
    alarms = int(((scored.labels == 0) & flagged).sum())
    every = f"{len(scored.scores):,} pictures"
    if not escapes + alarms:
        calls = "; the closest calls" if tiles else ""
        return f"No errors among {every} at threshold {threshold:.4g}{calls}"
    parts = []
    for kind, count in ((Kind.ESCAPE, escapes), (Kind.FALSE_ALARM, alarms)):
        shown = sum(tile.kind is kind for tile in tiles)
        name = kind.value[0] + ("" if count == 1 else "s")
        worst = f" (the worst {shown} shown)" if shown < count else ""
        parts.append(f"{count:,} {name}{worst}")
    calls = "; the closest calls as well" if tiles[-1].kind is Kind.CLOSE_CALL else ""
    return f"{' and '.join(parts)} among {every} at threshold {threshold:.4g}{calls}"


def _remove_pages(folder: Path) -> None:
    try:
        for name in os.listdir(folder):
            if re.fullmatch(r"errors(-[0-9]+)?\.png", name):
                (folder / name).unlink()
    except FileNotFoundError:
        return  # the folder is not there yet, or somebody else tidied up
    except OSError as exc:
        raise DatasetError(
            f"{folder}: earlier sheets cannot be removed: {exc.strerror}",
            "Name another folder: --plots DIR.",
        ) from exc


# ---------------------------------------------------------------------------------------- drawing

_DPI = 100
_COLUMNS = 4
_MARGIN, _GAP = 30, 22  # pixels
_HEAD, _CAPTION = 116, 54
_STRIPE = 5


_Drawn = tuple[NDArray[np.uint8], NDArray[np.uint8] | None] | Problem


def _drawn(path: bytes, decode: Decode, explain: Explain | None) -> _Drawn:
    got = read_and_decode(path, decode)
    if isinstance(got, Problem):
        return got
    return got[1], None if explain is None else explain(got[1])


def _page(
    tiles: Sequence[Tile],
    drawn: Sequence[_Drawn],
    scored: Scored,
    headline: str,
    title: str,
    *,
    with_heat: bool,
) -> NDArray[np.uint8]:
    """One sheet, RGB. matplotlib writes the words; pictures keep their own pixels."""
    across = (2 if with_heat else 1) * SIDE
    down = _STRIPE + SIDE + _CAPTION
    rows = -(-len(tiles) // _COLUMNS)
    # at least as wide as its heading, however few and narrow the tiles
    width = 2 * _MARGIN + max(_COLUMNS * across + (_COLUMNS - 1) * _GAP, 1100)
    height = _HEAD + rows * (down + _GAP) + _MARGIN
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    pasted: list[tuple[int, int, NDArray[np.uint8]]] = []  # top, left, RGB

    def write(x: int, y: int, text: str, size: float, **look: Any) -> None:
        figure.text(x / width, 1 - y / height, text, va="top", fontsize=size, **look)

    write(_MARGIN, 22, printable(headline), 17, fontweight="bold")
    write(_MARGIN, 58, printable(title), 10.5, color=QUIET)
    if with_heat and tiles:
        how = (
            "Left: as it was judged. Right: where the model saw what speaks for a crack (HiResCAM)."
        )
        write(_MARGIN, 80, how, 10.5, color=QUIET)
    for place, (tile, picture) in enumerate(zip(tiles, drawn, strict=True)):
        row, column = divmod(place, _COLUMNS)
        x, y = _MARGIN + column * (across + _GAP), _HEAD + row * (down + _GAP)
        words, colour = tile.kind.value
        stripe = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], np.uint8)
        pasted.append((y, x, np.broadcast_to(stripe, (_STRIPE, across, 3))))
        top = y + _STRIPE
        if isinstance(picture, Problem):
            corner = (x / width, 1 - (top + SIDE) / height)
            size = (across / width, SIDE / height)
            figure.add_artist(Rectangle(corner, *size, facecolor="#eeeeee", zorder=0))
            why = textwrap.wrap(printable(picture.reason), across // 9, max_lines=6)
            write(x + 12, top + 12, "\n".join(["read once, but not again:", *why]), 9.5)
        else:
            for at, each in enumerate(picture):
                if each is not None:
                    pasted.append((top, x + at * SIDE, each[..., ::-1]))
        score = float(scored.scores[tile.position])
        label = "anomaly" if scored.labels[tile.position] else "normal"
        caption = f"{words.upper()}   score {score_text(score)}"
        letters = 10.5 if with_heat else 9.5  # what a single picture's width allows
        write(x, top + SIDE + 7, caption, letters, color=colour, fontweight="bold")
        if with_heat:
            said = f"labelled {label}"
            write(x + across, top + SIDE + 7, said, 10.5, color=QUIET, ha="right")
        name = tile_name(scored.paths[tile.position], NAME_LENGTH if with_heat else 27)
        write(x, top + SIDE + 29, name, 9.5, color=INK, family=MONO)
    sheet = rendered(figure)
    for top, left, pixels in pasted:
        sheet[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return sheet


def score_text(score: float) -> str:
    """A score in a few characters, so that one near 0 or near 1 is neither."""
    if 0 < score < 0.001:
        return f"{score:.1e}"
    if 0.999 < score < 1:
        return f"{score:.6f}".rstrip("0") if score < 0.9999995 else "0.999999+"
    return f"{score:.4f}"


def tile_name(path: bytes, length: int = NAME_LENGTH) -> str:
    """Folder and name of a file, at most ``length`` printable characters; the middle goes first."""
    folder, name = os.path.split(path)
    return _shortened(
        printable(path_text(os.path.join(os.path.basename(folder), name)), MONO), length
    )


def _shortened(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    tail = (length - 1) * 2 // 3  # the end of a name is what tells it from others
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"
