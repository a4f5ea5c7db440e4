"""Gives a photograph and parts of it a person's labels: a part is cut out, and marked as a picture.

A photograph is judged in tiles, and what is learned are tiles: its label as a whole is recorded and
teaches nothing by itself. A box that a person names becomes a square of the model's scale, in a file
of its own, under the label of the box. Knows no decoder: it is handed one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset import name_of, pixel_hash
from crackwatch.domain import Cutout, Label, Photograph
from crackwatch.errors import Unreadable, UsageError
from crackwatch.escaping import path_text
from crackwatch.review.marking import Marked, Marker, Picture
from crackwatch.store.reviews import Review, ReviewBooks

Box = tuple[int, int, int, int]  # x, y, w, h in the photograph's own upright pixels

_NUMBERS = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*")

ASK_FOR_BOXES = (
    "Nothing is learned from a whole photograph: say where the crack is, with --box X,Y,W,H or, by "
    "the number of a box that 'report --format json' lists, --box N."
)


class Cuttable(Protocol):
    """A photograph that can be cut: see ``images.photographs.Photograph``."""

    @property
    def width(self) -> int: ...  # own pixels, upright
    @property
    def height(self) -> int: ...
    @property
    def side_px(self) -> int:
        """How many of its own pixels a tile's side shows."""
        ...

    def cut(self, boxes: NDArray[np.intp]) -> list[NDArray[np.uint8]]: ...


@dataclass(frozen=True, slots=True)
class Scissors:
    """``open`` takes a file's bytes and the scale at which it was judged, None if it never was."""

    open: Callable[[bytes, float | None], Cuttable]  # raises Unreadable
    encode: Callable[[NDArray[np.uint8]], bytes]  # the same bytes for the same pixels, for ever
    suffix: bytes  # of what encode makes


@dataclass(frozen=True, slots=True)
class MarkedPhotograph:
    """What became of a mark. ``whole`` is None where only parts were labelled.

    ``advice`` is for the person, where what was said teaches nothing.
    """

    whole: Marked | None
    parts: tuple[Marked, ...]
    advice: str | None

    @property
    def every(self) -> tuple[Marked, ...]:
        return self.parts if self.whole is None else (self.whole, *self.parts)

    @property
    def changed(self) -> bool:
        return any(each.changed for each in self.every)


class PhotographMarker:
    """Marks photographs of one station."""

    def __init__(self, marker: Marker, books: ReviewBooks, scissors: Scissors) -> None:
        self._marker = marker
        self._books = books
        self._scissors = scissors

    def mark(
        self,
        picture: Picture,
        label: Label,
        by: str,
        note: str | None,
        at: datetime | None = None,
        boxes: Sequence[str] = (),
        *,
        parts_speak: bool = False,
    ) -> MarkedPhotograph:
        """Labels ``boxes`` of a photograph, each "X,Y,W,H" or the number of a box of its row.

        A crack in a box is a crack in the photograph, which gets that label as well. Without boxes
        the whole is labelled: a crack, of which nothing can be learned; or ok, and then each tile
        that reached the threshold was a false alarm and is cut out as normal, and so is what
        somebody had called a crack in it. With ``at`` that was said earlier: a part that has been
        labelled since is left alone. ``parts_speak``: the labels of its parts come by themselves, so
        that none follows from that of the whole. Raises UsageError before anything is recorded
        where a box is none, else as ``Marker.mark``.
        """
        row = None
        if picture.inspection is not None:
            row = self._books.photograph(picture.inspection.id)
        known = self._books.cutouts(picture.sha256)
        parts: list[Picture] = []
        if boxes or not parts_speak:
            parts = self._cut_out(picture, row, known, label, boxes)
        if at is not None and not boxes:
            parts = [each for each in parts if not self._labelled_since(each, at)]
        whole = None
        if label is Label.ANOMALY or not boxes:
            whole = self._marker.mark(picture, label, by, note, at)
        marked = tuple(self._marker.mark(each, label, by, note, at) for each in parts)
        return MarkedPhotograph(whole, marked, _advice(label, boxes, row, marked))

    def _labelled_since(self, part: Picture, at: datetime) -> bool:
        return any(each.at >= at for each in self._books.history(part.sha256))

    def _cut_out(
        self,
        picture: Picture,
        row: Photograph | None,
        known: Sequence[Review],
        label: Label,
        boxes: Sequence[str],
    ) -> list[Picture]:
        """The squares that are to be labelled, as pictures of their own."""
        shown = path_text(picture.path)
        if not boxes and label is Label.ANOMALY:
            return []
        try:
            cuttable = self._scissors.open(picture.content, row.scale if row else None)
            if boxes:
                squares = [_square(each, row, cuttable, shown) for each in boxes]
            else:
                squares = [(each.x, each.y, each.w, each.h) for each in (row.boxes if row else ())]
                for each in known:
                    if each.label is Label.ANOMALY and each.cutout is not None:
                        at = each.cutout
                        squares.append((at.x, at.y, at.w, at.h))
            squares = list(dict.fromkeys(squares))
            tiles = cuttable.cut(np.array(squares, np.intp).reshape(-1, 4))
        except Unreadable as exc:
            raise UsageError(
                f"{shown}: cannot be used as a picture: {exc}",
                "A model can only learn from what the station can decode with its settings.",
            ) from exc
        return [
            self._as_picture(picture, square, tile)
            for square, tile in zip(squares, tiles, strict=True)
        ]

    def _as_picture(self, whole: Picture, square: Box, tile: NDArray[np.uint8]) -> Picture:
        content = self._scissors.encode(tile)
        x, y, w, h = square
        name = name_of(whole.path, whole.sha256, x, y, self._scissors.suffix)
        return replace(
            whole,
            path=os.path.join(os.path.dirname(whole.path), name),
            content=content,
            sha256=hashlib.sha256(content).digest(),
            pixels=pixel_hash(tile),
            photograph=False,
            cutout=Cutout(whole.sha256, x, y, w, h),
        )


def _square(text: str, row: Photograph | None, photograph: Cuttable, shown: str) -> Box:
    """The square of the model's scale that a person means by a box. Raises UsageError."""
    if text.strip().isdecimal():
        return _numbered(int(text), row, shown)
    found = _NUMBERS.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{shown}: {text!r} is not a box",
            "Give X,Y,W,H in pixels from the upper left corner of the upright photograph, or the "
            "number of a box that 'report --format json' lists, the first being 1.",
        )
    x, y, w, h = (int(each) for each in found.groups())
    if min(w, h) < 1 or x + w > photograph.width or y + h > photograph.height:
        raise UsageError(
            f"{shown}: the box {text.strip()} is not inside its {photograph.width} x "
            f"{photograph.height} pixels",
            "Count from the upper left corner of the upright photograph: X,Y,W,H.",
        )
    side = photograph.side_px
    if max(w, h) > side:
        raise UsageError(
            f"{shown}: the box {text.strip()} is larger than what the model sees at once, {side} x "
            f"{side} pixels of this photograph",
            "Give several boxes, each around a part of what you see: --box may be repeated.",
        )
    return (
        _start(x, w, side, photograph.width),
        _start(y, h, side, photograph.height),
        min(side, photograph.width),
        min(side, photograph.height),
    )


def _start(start: int, length: int, side: int, whole: int) -> int:
    """Where a stretch of ``side`` pixels begins that has another in its middle, inside ``whole``."""
    return max(0, min(start + length // 2 - side // 2, whole - side))


def _numbered(number: int, row: Photograph | None, shown: str) -> Box:
    if row is None:
        raise UsageError(
            f"{shown}: was not judged in tiles here, and its boxes have no numbers",
            "Give X,Y,W,H in pixels from the upper left corner of the upright photograph.",
        )
    if not 1 <= number <= len(row.boxes):
        there = f"has boxes 1 to {len(row.boxes)}" if row.boxes else "has no boxes"
        raise UsageError(
            f"{shown}: {there}, not {number}",
            "'crackwatch report --format json' lists them in this order; any other place is "
            "X,Y,W,H.",
        )
    box = row.boxes[number - 1]
    return box.x, box.y, box.w, box.h


def _advice(
    label: Label, boxes: Sequence[str], row: Photograph | None, parts: Sequence[Marked]
) -> str | None:
    if boxes or parts:
        return None
    if label is Label.ANOMALY:
        return ASK_FOR_BOXES
    if row is None:
        return (
            "Nothing is learned from it: it was not judged in tiles here, so that nobody knows what "
            "would be a false alarm in it. Name places with --box X,Y,W,H."
        )
    return (
        "Nothing is learned from it: no tile of it reached the threshold, so that there is no false "
        "alarm to unlearn. Name places with --box X,Y,W,H if they matter."
    )
