"""Cuts labelled crops from photographs, by masks or by boxes; knows no decoder and no model.

With a mask every tile of the model's scale gets its label from the crack that the mask has in it.
A box only says that a crack is somewhere in it: the square around it is an anomaly, what touches it
is left out, and the rest is normal.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset.folders import Problem, Progress, no_progress, read_file
from crackwatch.dataset.importing import Intake
from crackwatch.dataset.origins import name_of
from crackwatch.domain import LABEL_WORDS, Label
from crackwatch.errors import DatasetError, Unreadable
from crackwatch.escaping import path_bytes, path_text
from crackwatch.runtime import SIDE

# A crack that goes through so many rows or columns of a tile makes it an anomaly: a third of the
# side. It is what the verdict's figures take for a tile with a crack in it (photographs-verdict.md),
# a length rather than an area, so that hairlines count as much as gaps. What has less shows the tip
# of a crack, of which nobody could say whether a model should have seen it: it is no example.
CRACK_PX = SIDE // 3

NORMALS_PER_PHOTOGRAPH = 40  # more of one wall in one light teach little, and weigh on the others
SUFFIX = b".bmp"

Box = tuple[int, int, int, int]  # x, y, w, h in own upright pixels
_COLUMNS = ("file", "x", "y", "w", "h", "label")
_SHOWN_ERRORS = 20


class Cuttable(Protocol):
    """A photograph that can be cut: see ``images.photographs.Photograph``."""

    @property
    def width(self) -> int: ...  # own pixels, upright
    @property
    def height(self) -> int: ...
    @property
    def scale(self) -> float: ...  # the model's pixels to one of its own
    @property
    def side_px(self) -> int: ...  # own pixels that a tile's side shows
    @property
    def boxes(self) -> NDArray[np.intp]: ...  # (N, 4): what each tile shows
    def tiles(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]: ...
    def cut(self, boxes: NDArray[np.intp]) -> list[NDArray[np.uint8]]: ...
    def crops(self, boxes: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Number and own pixels of each box, in any order; not fitted to any side."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What cutting needs of a decoder; both ``open`` raise Unreadable, or ValueError for a crop.

    ``open_mask`` also refuses what cannot be a mask. ``encode`` gives the same bytes for the same
    pixels, for ever, so that nothing is taken in twice.
    """

    open: Callable[[bytes], Cuttable]
    open_mask: Callable[[bytes], Cuttable]
    encode: Callable[[NDArray[np.uint8]], bytes]


@dataclass(frozen=True, slots=True)
class Marks:
    """What is said of one photograph: ``cracks`` and, if not empty, the only places that are ok."""

    cracks: tuple[Box, ...] = ()
    fine: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class CutOut:
    """What an import did. ``anomaly`` and ``normal`` count what the dataset holds afterwards.

    ``between`` tiles have too little of a crack, or may have some; ``spared`` ones are normal like
    those that were taken from the same photograph.
    """

    photographs: int
    imported: int
    duplicates: int
    anomaly: int
    normal: int
    between: int
    spared: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Crops with labels, and how many tiles there are none of."""

    crops: list[tuple[Label, Box, NDArray[np.uint8]]]
    between: int
    spared: int


def import_photographs(
    source: Path,
    destination: Path,
    tools: Tools,
    *,
    masks: Path | None = None,
    boxes: Mapping[bytes, Marks] | None = None,
    normals: int = NORMALS_PER_PHOTOGRAPH,
    progress: Progress = no_progress,
) -> CutOut:
    """Cuts the photographs below ``source`` into ``destination``'s ``anomaly/`` and ``normal/``.

    Give ``masks``, a folder with a picture of the same stem for each, or ``boxes`` by paths relative
    to ``source`` (``read_boxes``); of photographs without either nothing is known. At most
    ``normals`` tiles without a crack are taken of each. A photograph that cannot be used is in
    ``problems``. Nothing is overwritten; run again, it takes in nothing twice. Raises DatasetError.
    """
    if masks is not None and not masks.is_dir():
        raise DatasetError(
            f"{masks}: is not a folder" if masks.exists() else f"{masks}: does not exist",
            "Name the folder that holds the masks.",
        )
    intake = Intake(source, destination)
    files = list(photographs_in(source, masks))
    photographs = between = spared = 0
    problems: list[Problem] = []
    named = set(boxes or ())
    for done, path in enumerate(files, start=1):
        relative = os.path.relpath(path, os.fsencode(source))
        named.discard(relative)
        try:
            content = read_file(path)
            photograph = tools.open(content)
            if masks is not None:
                chosen = _by_mask(photograph, tools.open_mask(_mask_of(path, masks)), normals)
            elif boxes is not None and relative in boxes:
                chosen = _by_boxes(photograph, boxes[relative], normals)
            else:
                raise ValueError("the table of boxes does not name it: nobody knows what it shows")
        except OSError as exc:
            problems.append(Problem(path_text(path), f"cannot be read: {exc.strerror}"))
        except (ValueError, Unreadable) as exc:
            problems.append(Problem(path_text(path), str(exc)))
        else:
            photographs += 1
            between += chosen.between
            spared += chosen.spared
            sha256 = hashlib.sha256(content).digest()
            for label, (x, y, _, _), tile in chosen.crops:
                intake.take(tools.encode(tile), label, name_of(path, sha256, x, y, SUFFIX), path)
        progress(done, len(files))
    problems += [
        Problem(path_text(each), f"the table of boxes names it, and it is not in {source}")
        for each in sorted(named)
    ]
    return CutOut(
        photographs=photographs,
        imported=intake.imported,
        duplicates=intake.duplicates,
        anomaly=intake.present[Label.ANOMALY],
        normal=intake.present[Label.NORMAL],
        between=between,
        spared=spared,
        problems=(*problems, *intake.problems),
    )


def photographs_in(source: Path, masks: Path | None = None) -> Iterator[bytes]:
    """Every file below a folder, hidden ones and those of ``masks`` left out, in order.

    Raises DatasetError.
    """
    if not source.is_dir():
        raise DatasetError(
            f"{source}: is not a folder" if source.exists() else f"{source}: does not exist",
            "Name the folder that holds the photographs.",
        )
    failed: list[OSError] = []
    for parent, folders, names in os.walk(os.fsencode(source), onerror=failed.append):
        folders[:] = sorted(
            each
            for each in folders
            if not each.startswith(b".")
            and (masks is None or not os.path.samefile(os.path.join(parent, each), masks))
        )
        for name in sorted(names):
            if not name.startswith(b"."):
                yield os.path.join(parent, name)
    if failed:
        raise DatasetError(
            f"{failed[0].filename!r}: cannot be listed: {failed[0].strerror}",
            "Check its permissions.",
        )


# -------------------------------------------------------------------------------------- labels


def _by_mask(photograph: Cuttable, mask: Cuttable, normals: int) -> _Chosen:
    if (mask.width, mask.height) != (photograph.width, photograph.height):
        raise ValueError(
            f"is {photograph.width} x {photograph.height} pixels, upright, and its mask "
            f"{mask.width} x {mask.height}: they must be equal"
        )
    places = photograph.boxes
    extents = np.zeros(len(places), np.intp)
    for number, crop in mask.crops(places):
        there = np.asarray((crop > 0).any(axis=2))
        extents[number] = max(int(there.any(axis=0).sum()), int(there.any(axis=1).sum()))
    cracked = extents * photograph.scale >= CRACK_PX
    return _tiles(photograph, cracked, extents == 0, normals)


def _by_boxes(photograph: Cuttable, marks: Marks, normals: int) -> _Chosen:
    side, width, height = photograph.side_px, photograph.width, photograph.height
    squares: list[Box] = []
    for x, y, w, h in (*marks.cracks, *marks.fine):
        if min(w, h) < 1 or x + w > width or y + h > height:
            raise ValueError(f"the box {x},{y},{w},{h} is not inside its {width} x {height} pixels")
    for x, y, w, h in marks.cracks:
        if max(w, h) > side:
            raise ValueError(
                f"the box {x},{y},{w},{h} is larger than the {side} x {side} pixels that a crop "
                "shows: nobody knows where in it the crack is; draw several, or a mask"
            )
        left, top = _start(x, w, side, width), _start(y, h, side, height)
        squares.append((left, top, min(side, width), min(side, height)))
    squares = list(dict.fromkeys(squares))
    places = photograph.boxes
    touched = np.zeros(len(places), bool)
    for box in marks.cracks:
        touched |= _touching(places, box)
    fine = np.ones(len(places), bool)
    if marks.fine:
        fine = np.zeros(len(places), bool)
        for box in marks.fine:
            fine |= _inside(places, box)
    chosen = _tiles(photograph, np.zeros(len(places), bool), fine & ~touched, normals)
    cut = photograph.cut(np.array(squares, np.intp).reshape(-1, 4))
    cracks = [(Label.ANOMALY, each, tile) for each, tile in zip(squares, cut, strict=True)]
    return _Chosen(cracks + chosen.crops, chosen.between, chosen.spared)


def _tiles(
    photograph: Cuttable, cracked: NDArray[np.bool_], fine: NDArray[np.bool_], normals: int
) -> _Chosen:
    """The crops of the tiles that are ``cracked`` (N,), and of ``normals`` of those ``fine`` (N,)."""
    places = [_box(each) for each in photograph.boxes]
    spread = np.flatnonzero(fine)
    if len(spread) > normals:
        # evenly over the photograph, from its first tile to its last
        spread = spread[np.linspace(0, len(spread) - 1, normals).round().astype(np.intp)]
    wanted = set(spread.tolist())
    crops: list[tuple[Label, Box, NDArray[np.uint8]]] = []
    if wanted or cracked.any():
        for numbers, tiles in photograph.tiles():
            for number, tile in zip(numbers.tolist(), tiles, strict=True):
                if cracked[number] or number in wanted:
                    label = Label.ANOMALY if cracked[number] else Label.NORMAL
                    crops.append((label, places[number], tile.copy()))
    between = int((~cracked & ~fine).sum())
    return _Chosen(crops, between, int(fine.sum()) - len(wanted))


def _start(start: int, length: int, side: int, whole: int) -> int:
    return max(0, min(start + length // 2 - side // 2, whole - side))


def _touching(places: NDArray[np.intp], box: Box) -> NDArray[np.bool_]:
    x, y, w, h = box
    left, top, width, height = places.T
    found: NDArray[np.bool_] = (
        (left < x + w) & (x < left + width) & (top < y + h) & (y < top + height)
    )
    return found


def _inside(places: NDArray[np.intp], box: Box) -> NDArray[np.bool_]:
    x, y, w, h = box
    left, top, width, height = places.T
    found: NDArray[np.bool_] = (
        (left >= x) & (left + width <= x + w) & (top >= y) & (top + height <= y + h)
    )
    return found


def _box(numbers: NDArray[np.intp]) -> Box:
    x, y, w, h = (int(each) for each in numbers)
    return x, y, w, h


# --------------------------------------------------------------------------------- what is given


def _mask_of(path: bytes, masks: Path) -> bytes:
    """The bytes of the mask with a photograph's stem. Raises ValueError, OSError."""
    stem = os.path.splitext(os.path.basename(path))[0]
    folder = os.fsencode(masks)
    found = sorted(
        name
        for name in os.listdir(folder)
        if os.path.splitext(name)[0] == stem and not name.startswith(b".")
    )
    if len(found) != 1:
        raise ValueError(
            f"there are {len(found)} masks named {path_text(stem)} in {masks}, not one"
        )
    mask = os.path.join(folder, found[0])
    if os.path.realpath(mask) == os.path.realpath(path):
        raise ValueError("it would be its own mask: put masks into a folder of their own")
    return read_file(mask)


def read_boxes(table: Path) -> dict[bytes, Marks]:
    """What a CSV file says of photographs, by their paths relative to the folder of photographs.

    Columns file, x, y, w, h and label (crack or ok); comma, semicolon or tab. With empty x, y, w
    and h a photograph is ok as a whole. Raises DatasetError that names file and line of everything
    that is wrong (the first 20).
    """
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise DatasetError(f"{table}: cannot be read: {exc.strerror}", "Name a CSV file.") from exc
    except UnicodeDecodeError as exc:
        raise DatasetError(f"{table}: is not UTF-8", "Save the table as 'CSV UTF-8'.") from exc
    header = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True
    )
    said: dict[bytes, tuple[list[Box], list[Box]]] = {}
    wrong: list[str] = []
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        if not set(_COLUMNS) <= set(columns):
            raise DatasetError(
                f"{table}: line 1: the columns are {', '.join(columns)}",
                f"Its first line must name {','.join(_COLUMNS)}.",
            )
        for cells in reader:
            if any(cell.strip() for cell in cells):
                try:
                    _read_row(dict(zip(columns, cells, strict=False)), said)
                except ValueError as exc:
                    wrong.append(f"{table}: line {reader.line_num}: {exc}")
    except csv.Error as exc:
        raise DatasetError(
            f"{table}: line {reader.line_num}: is not CSV: {exc}", "Mend that line."
        ) from exc
    if wrong:
        more = len(wrong) - _SHOWN_ERRORS
        raise DatasetError(
            "\n".join(wrong[:_SHOWN_ERRORS]),
            (f"and {more} more. " if more > 0 else "") + "Nothing was cut: mend the table first.",
        )
    return {file: Marks(tuple(cracks), tuple(fine)) for file, (cracks, fine) in said.items()}


def _read_row(cells: Mapping[str, str], said: dict[bytes, tuple[list[Box], list[Box]]]) -> None:
    """Adds what one row says. Raises ValueError where it says nothing."""
    word = cells.get("label", "").strip().lower()
    if word not in LABEL_WORDS:
        raise ValueError(f"the label {word!r} is none of {', '.join(LABEL_WORDS)}")
    file = cells.get("file", "")
    if not file.strip():
        raise ValueError("column file is empty")
    numbers = [cells.get(name, "").strip() for name in ("x", "y", "w", "h")]
    cracks, fine = said.setdefault(os.path.normpath(path_bytes(file)), ([], []))
    if not any(numbers):
        if LABEL_WORDS[word] is Label.ANOMALY:
            raise ValueError("says that there is a crack, and not where: fill in x, y, w and h")
        return
    if not all(each.isascii() and each.isdigit() and len(each) <= 9 for each in numbers):
        raise ValueError(f"{','.join(numbers)} are not four whole numbers: x,y,w,h")
    x, y, w, h = map(int, numbers)
    (cracks if LABEL_WORDS[word] is Label.ANOMALY else fine).append((x, y, w, h))
