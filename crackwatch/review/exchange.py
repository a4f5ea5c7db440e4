"""Reviews as CSV: written so that a spreadsheet runs nothing, read back as it was written.

Also reads what a person makes of ``report --format csv`` by adding a column ``label``.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import TextIO

from crackwatch.dataset import Progress, no_progress
from crackwatch.domain import LABEL_WORDS, Cutout, Label
from crackwatch.errors import UsageError
from crackwatch.escaping import path_bytes, path_text
from crackwatch.people import checked_name, checked_note
from crackwatch.review.copies import Copies
from crackwatch.review.locating import Located, Locator, as_id
from crackwatch.review.marking import Marker, Picture, word
from crackwatch.review.photographs import PhotographMarker
from crackwatch.store.reviews import Review, ReviewBooks

# column: what it holds; ``review export --help`` lists them.
COLUMNS = {
    "id": "number of the inspection; empty if the picture was never inspected here",
    "path": "where the copy lies",
    "label": "crack or ok",
    "by": "who gave the label",
    "at": "when, ISO 8601 with offset",
    "note": "what was noted",
    "sha256": "of the picture's bytes",
    "box": "of a cut-out: X,Y,W,H in the photograph's own upright pixels",
    "photograph": "of a cut-out: sha256 of the photograph's bytes",
}
_DELIMITERS = ",;\t"
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)  # a moment that no zone can put out of a calendar
_SHOWN_ERRORS = 20

# A spreadsheet takes a cell that begins with one of these for a formula, and runs it. An apostrophe
# is put before it, and before a cell that begins with such apostrophes already, so that what is
# written can be told from what was there.
_BOX = re.compile(r"\d{1,9}(,\d{1,9}){3}")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


@dataclass(frozen=True, slots=True)
class Row:
    """One label as a table gives it; ``line`` is where it begins."""

    line: int
    id: int | None
    path: str | None
    label: Label
    by: str | None
    at: datetime | None
    note: str | None
    sha256: bytes | None
    box: str | None = None  # of a photograph
    photograph: bytes | None = None  # the picture is that box of it, cut out already


@dataclass(frozen=True, slots=True)
class Table:
    """The labels of a file, checked one by one; rows with an empty label are only counted."""

    rows: tuple[Row, ...]
    without_label: int
    ignored_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A row whose picture cannot be marked."""

    line: int
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did; ``unchanged`` rows were in the books already."""

    marked: int
    unchanged: int
    refused: tuple[Refused, ...]
    contradictory: int  # pictures of the table that people have called both by now


def write(stream: TextIO, reviews: Iterable[Review], copies: Copies, zone: tzinfo) -> None:
    """Writes a header and a line for each label that was given. Raises OSError."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for review in reviews:
        writer.writerow(
            [
                review.inspection_id,
                guarded(path_text(copies.path(review.picture)) if review.picture else ""),
                word(review.label),
                guarded(review.by),
                review.at.astimezone(zone).isoformat(),
                guarded(review.note or ""),
                review.sha256.hex(),
                box_text(review.cutout) if review.cutout else "",
                review.cutout.photograph.hex() if review.cutout else "",
            ]
        )


def box_text(cutout: Cutout) -> str:
    """Where in its photograph a cut-out lies, as ``--box`` takes it."""
    return f"{cutout.x},{cutout.y},{cutout.w},{cutout.h}"


def guarded(cell: str) -> str:
    """The cell with an apostrophe before it if a spreadsheet would take it for a formula."""
    return "'" + cell if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The cell that ``guarded`` made this of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


# ------------------------------------------------------------------------------------- reading


def parse(content: bytes, name: str, zone: tzinfo) -> Table:
    """The labels of a CSV file in UTF-8, with or without a byte order mark; columns are separated
    by comma, semicolon or tab. A time without offset is the station's, ``zone``.

    Raises UsageError that names line and column of everything that is wrong (the first 20).
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise UsageError(
            f"{name}: line {line}: is not UTF-8", "Save the table as 'CSV UTF-8'."
        ) from exc
    header_line = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    rows: list[Row] = []
    wrong: list[str] = []
    without_label = 0
    line = 1
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _header(cells, f"{name}: line {begins}")
                continue
            if len(cells) > len(columns):
                wrong.append(f"line {begins}: {len(cells)} cells, but {len(columns)} columns")
                continue
            named = {key: unguarded(cell) for key, cell in zip(columns, cells, strict=False)}
            if not named.get("label", "").strip():
                without_label += 1
                continue
            row, complaints = _row(begins, named, zone)
            wrong += complaints
            if row is not None:
                rows.append(row)
    except csv.Error as exc:
        raise UsageError(
            f"{name}: line {reader.line_num}: is not CSV: {exc}", "Mend that line."
        ) from exc
    if not columns:
        raise UsageError(f"{name}: is empty", "Its first line names the columns: path,label.")
    if wrong:
        more = len(wrong) - _SHOWN_ERRORS
        raise UsageError(
            "\n".join(f"{name}: {each}" for each in wrong[:_SHOWN_ERRORS]),
            (f"and {more} more. " if more > 0 else "")
            + "Nothing was marked: mend the table first.",
        )
    ignored = tuple(each for each in columns if each not in COLUMNS)
    return Table(tuple(rows), without_label, ignored)


def _header(cells: Sequence[str], where: str) -> list[str]:
    columns = [cell.strip().lower() for cell in cells]
    twice = sorted({each for each in columns if each and columns.count(each) > 1})
    if twice:
        raise UsageError(f"{where}: column {twice[0]} is there twice", "Leave one of them out.")
    if "label" not in columns or not {"path", "id"} & set(columns):
        raise UsageError(
            f"{where}: the columns are {', '.join(columns)}; label, and path or id are needed",
            "The first line names the columns, for instance: path,label,by,note.",
        )
    return columns


def _row(line: int, cells: dict[str, str], zone: tzinfo) -> tuple[Row | None, list[str]]:
    """One row, or everything that is wrong with it."""
    wrong: list[str] = []

    def complain(column: str, what: str) -> None:
        wrong.append(f"line {line}, column {column}: {what}")

    def cell(column: str) -> str:
        return cells.get(column, "").strip()

    label = LABEL_WORDS.get(cell("label").lower())
    if label is None:
        complain("label", f"{cell('label')!r} is none of {', '.join(LABEL_WORDS)}")
    id: int | None = None
    if cell("id"):
        id = as_id(cell("id"))
        if id is None:
            complain("id", f"{cell('id')!r} is not the number of an inspection")
    path = cells.get("path") or None  # blanks can be part of a name
    if path is not None and b"\0" in path_bytes(path):
        complain("path", "has a NUL character")
    if id is None and path is None and not cell("sha256") and not wrong:
        complain("path", "is empty, and so is id")
    at: datetime | None = None
    if cell("at"):
        try:
            at = datetime.fromisoformat(cell("at"))
        except ValueError:
            complain("at", f"{cell('at')!r} is not an ISO 8601 time: 2026-11-23T14:30:00+01:00")
        else:
            at = at if at.tzinfo else at.replace(tzinfo=zone)
            if at < _FIRST:
                complain("at", f"{cell('at')!r} lies before 1970")

    def digest(column: str) -> bytes | None:
        if not cell(column):
            return None
        if re.fullmatch(r"[0-9a-fA-F]{64}", cell(column)):
            return bytes.fromhex(cell(column))
        complain(column, "is not 64 hexadecimal digits")
        return None

    sha256, photograph = digest("sha256"), digest("photograph")
    if photograph is not None and not _BOX.fullmatch(cell("box")):
        complain("box", f"{cell('box')!r} is not X,Y,W,H, which a cut-out must have")
    by = _checked(checked_name, cell("by"), "by", complain)
    note = _checked(checked_note, cell("note"), "note", complain)
    if wrong or label is None:
        return None, wrong
    return Row(line, id, path, label, by, at, note, sha256, cell("box") or None, photograph), []


def _checked(
    check: Callable[[str], str | None],
    text: str,
    column: str,
    complain: Callable[[str, str], None],
) -> str | None:
    if not text:
        return None
    try:
        return check(text)
    except UsageError as exc:
        complain(column, exc.problem)
        return None


# ----------------------------------------------------------------------------------- importing


class Importer:
    """Marks the pictures of a table."""

    def __init__(
        self,
        books: ReviewBooks,
        copies: Copies,
        locator: Locator,
        marker: Marker,
        by: str,
        photographs: PhotographMarker,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``by`` is who is meant where a row names nobody; ``photographs`` marks those."""
        self._now = now
        self._photographs = photographs
        self._books = books
        self._copies = copies
        self._locator = locator
        self._marker = marker
        self._by = by
        self._cut: frozenset[bytes] = frozenset()  # photographs whose cut-outs have rows themselves

    def __call__(self, rows: Sequence[Row], progress: Progress = no_progress) -> Imported:
        """Finds, reads and checks every picture first, then marks those that can be.

        Raises DatasetError, LockedError, SystemFault; called again, it takes up where it stopped.
        """
        self._cut = frozenset(row.photograph for row in rows if row.photograph is not None)
        steps = 2 * len(rows)
        found: list[tuple[Row, Located, bytes]] = []
        refused: list[Refused] = []
        for done, row in enumerate(rows, start=1):
            try:
                picture = self._picture(row)
                found.append((row, Located(picture.path, picture.inspection), picture.sha256))
            except UsageError as exc:
                refused.append(_refusal(row, exc))
            progress(done, steps)
        marked = unchanged = 0
        for done, (row, located, sha256) in enumerate(found, start=len(rows) + 1):
            try:
                # again, and not kept: a thousand photographs need not fit into memory
                picture = self._reread(row, located, sha256)
            except UsageError as exc:
                refused.append(_refusal(row, exc))
            else:
                try:
                    changed = self._mark(picture, row)
                except UsageError as exc:  # a box that is none
                    refused.append(_refusal(row, exc))
                else:
                    marked += changed
                    unchanged += not changed
            progress(done, steps)
        progress(steps, steps)
        told = tuple(sorted(refused, key=lambda each: each.line))
        return Imported(marked, unchanged, told, self._called_both(each for _, _, each in found))

    def _called_both(self, pictures: Iterable[bytes]) -> int:
        labels = ({each.label for each in self._books.history(one)} for one in set(pictures))
        return sum(len(each) > 1 for each in labels)

    def _mark(self, picture: Picture, row: Row) -> bool:
        """Whether anything is recorded that was not there before. Raises UsageError."""
        by = row.by or self._by
        self._refuse_future(picture, row)
        if row.photograph is not None and row.box is not None:
            x, y, w, h = map(int, row.box.split(","))
            cutout = Cutout(row.photograph, x, y, w, h)
            seen = self._books.of_bytes(row.photograph)
            picture = replace(picture, cutout=cutout, inspection=seen)
        elif picture.photograph:
            boxes = [row.box] if row.box else []
            said = self._photographs.mark(
                picture,
                row.label,
                by,
                row.note,
                row.at,
                boxes,
                parts_speak=picture.sha256 in self._cut,
            )
            return said.changed
        elif row.box is not None:
            raise UsageError(
                f"{path_text(picture.path)}: is a single picture, and has no boxes",
                "Leave column box empty.",
            )
        return self._marker.mark(picture, row.label, by, row.note, row.at).changed

    def _refuse_future(self, picture: Picture, row: Row) -> None:
        """A label of tomorrow would count above every label of today.

        One that is in the books already may stay: the clock was wrong when it was given.
        """
        if row.at is None or row.at <= self._now():
            return
        if not any(each.at == row.at for each in self._books.history(picture.sha256)):
            raise UsageError(
                f"column at: {row.at.isoformat()} lies in the future",
                "Write down when it was given, or leave the cell empty: it is then given now.",
            )

    def _picture(self, row: Row) -> Picture:
        """The picture of a row: the first of its id, its path and its copy that has its hash."""
        complaint: UsageError | None = None
        for locate in self._ways(row):
            try:
                picture = self._marker.read(locate())
            except UsageError as exc:
                complaint = complaint or exc
                continue
            if row.sha256 in (None, picture.sha256):
                return picture
            complaint = complaint or UsageError(
                f"{path_text(picture.path)}: is not the picture of column sha256",
                "It has changed, or the table comes from another station.",
            )
        raise complaint or UsageError(
            "nothing says where the picture is, and no copy of it is here",
            "Fill in path or id.",
        )

    def _ways(self, row: Row) -> list[Callable[[], Located]]:
        ways: list[Callable[[], Located]] = []
        id, path, sha256 = row.id, row.path, row.sha256
        if id is not None:
            ways.append(lambda: self._locator.by_id(id))
        if path is not None and (id is None or sha256 is not None):
            ways.append(lambda: self._locator.by_path(path))
        if sha256 is not None:
            history = self._books.history(sha256)
            if history and history[-1].picture:
                ways.append(lambda: Located(self._copies.path(history[-1].picture), None))
            if path is not None:  # an export names the copy where this label had it
                name = os.path.basename(path_bytes(path))
                ways += [partial(self._copy, label, name) for label in Label]
        return ways

    def _copy(self, label: Label, name: bytes) -> Located:
        return Located(self._copies.path(os.path.join(label.encode(), name)), None)

    def _reread(self, row: Row, located: Located, sha256: bytes) -> Picture:
        """The picture that was checked; found anew where this very table has moved its copy."""
        try:
            picture = self._marker.read(located)
        except UsageError:
            picture = self._picture(row)
        if picture.sha256 != sha256:
            raise UsageError(f"{path_text(picture.path)}: changed while it was looked at")
        return picture


def _refusal(row: Row, exc: UsageError) -> Refused:
    what = row.path or (str(row.id) if row.id is not None else (row.sha256 or b"").hex())
    return Refused(row.line, what, exc.problem)
