"""What people said as JSON, as CSV and as lines for a person; reads no books and no picture."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, tzinfo
from typing import Any, TextIO

from crackwatch.escaping import path_text
from crackwatch.review.copies import Copies
from crackwatch.review.exchange import box_text, guarded
from crackwatch.review.listing import Reviewed
from crackwatch.review.marking import Marked, word
from crackwatch.review.photographs import MarkedPhotograph
from crackwatch.store.inspected import Inspected
from crackwatch.store.reviews import Review

REVIEW_COLUMNS = (
    "inspection", "path", "label", "by", "at", "note", "score", "threshold", "verdict", "agrees",
    "contradictory", "in_conflict", "copy_lost", "picture", "sha256", "box", "photograph",
)  # fmt: skip
BAND_COLUMNS = (
    "inspection", "path", "inspected_at", "score", "threshold", "verdict", "model", "source",
    "sha256",
)  # fmt: skip

_NO_FILE = frozenset({"deleted", "superseded", "expired", "vanished"})


class Documents:
    """Reviews and inspections as JSON has them; times are of ``zone``.

    ``whereabouts`` tells where an inspection's file is now.
    """

    def __init__(
        self, copies: Copies, whereabouts: Callable[[Inspected], bytes], zone: tzinfo
    ) -> None:
        self._copies = copies
        self._whereabouts = whereabouts
        self._zone = zone

    def marked(self, marked: Marked, path: bytes) -> dict[str, Any]:
        review, seen = marked.review, marked.inspection
        return {
            **self._label(review),
            "changed": marked.changed,
            **self._inspection(seen),
            "path": path_text(path),
            **self._copy(review),
            "agrees": _agrees(review, seen),
            "earlier": [self._label(each) for each in marked.earlier],
        }

    def reviewed(self, each: Reviewed, lost: frozenset[bytes]) -> dict[str, Any]:
        review = each.latest
        return {
            **self._label(review),
            **self._inspection(each.inspection),
            **self._copy(review),
            "agrees": each.agrees,
            "contradictory": each.contradictory,
            "in_conflict": each.in_conflict,
            "copy_lost": review.sha256 in lost,
            "labels": [{**self._label(one), "sha256": one.sha256.hex()} for one in each.labels],
        }

    def photograph(self, marked: MarkedPhotograph, path: bytes) -> dict[str, Any]:
        """Of a photograph, or of parts of it alone."""
        return {
            **self.marked(marked.every[0], path),
            **({} if marked.whole else _of_no_whole(marked)),
            "changed": marked.changed,
            "recorded": marked.whole is not None,
            "boxes": [
                {
                    **(
                        asdict(each.review.cutout)
                        | {"photograph": each.review.cutout.photograph.hex()}
                    ),
                    "changed": each.changed,
                    "picture": path_text(self._copies.path(each.review.picture)),
                    "sha256": each.review.sha256.hex(),
                }
                for each in marked.parts
                if each.review.cutout is not None
            ],
            "advice": marked.advice,
        }

    def _copy(self, review: Review) -> dict[str, Any]:
        """Where the copy is, what it holds, and where in a photograph it comes from."""
        cutout = review.cutout
        return {
            "picture": path_text(self._copies.path(review.picture)) if review.picture else None,
            "sha256": review.sha256.hex(),
            "box": box_text(cutout) if cutout else None,
            "photograph": cutout.photograph.hex() if cutout else None,
        }

    def waiting(self, seen: Inspected) -> dict[str, Any]:
        document = self._inspection(seen)
        document["model"] = seen.model
        document["sha256"] = seen.sha256.hex() if seen.sha256 else None
        return document

    def _label(self, review: Review) -> dict[str, Any]:
        return {
            "label": word(review.label),
            "by": review.by,
            "at": self._iso(review.at),
            "note": review.note,
        }

    def _inspection(self, seen: Inspected | None) -> dict[str, Any]:
        there = seen is not None and seen.standing not in _NO_FILE
        return {
            "inspection": seen.id if seen else None,
            "inspected_at": self._iso(seen.inspected_at) if seen else None,
            "source": path_text(seen.source) if seen else None,
            "path": path_text(self._whereabouts(seen)) if seen and there else None,
            "score": seen.score if seen else None,
            "threshold": seen.threshold if seen else None,
            "verdict": seen.outcome.value if seen else None,
        }

    def _iso(self, moment: datetime) -> str:
        return moment.astimezone(self._zone).isoformat()


def _agrees(review: Review, seen: Inspected | None) -> bool | None:
    if seen is None or seen.score is None or review.cutout is not None:
        return None
    return review.label.value == seen.outcome.value


def _of_no_whole(marked: MarkedPhotograph) -> dict[str, Any]:
    """What a document says of the photograph where its parts alone were labelled."""
    cutout = marked.parts[0].review.cutout
    return {
        "sha256": cutout.photograph.hex() if cutout else None,
        **dict.fromkeys(("picture", "box", "photograph", "agrees")),
        "earlier": [],
    }


# -------------------------------------------------------------------------------- for a person


def marked_lines(shown: Mapping[str, Any]) -> list[str]:
    """What was said of one picture; ``shown`` is of ``Documents.marked``."""
    verb = "marked" if shown["changed"] else "was marked already"
    lines = [f"{verb} {shown['label']} by {plain(shown['by'])}: {shown['path']}"]
    if shown["inspection"] is not None:
        score = "" if shown["score"] is None else f", score {shown['score']:.4f}"
        opinion = {True: "agrees", False: "DISAGREES", None: "has no verdict"}[shown["agrees"]]
        lines.append(f"inspection {shown['inspection']} {opinion}: {shown['verdict']}{score}")
    for each in shown["earlier"]:
        if each["label"] != shown["label"]:
            lines.append(f"earlier label {each['label']} by {plain(each['by'])}, {each['at']}")
    if shown["picture"] is not None:
        lines.append(f"to learn from: {shown['picture']}")
    return lines


def photograph_lines(shown: Mapping[str, Any]) -> list[str]:
    """The same of a photograph; ``shown`` is of ``Documents.photograph``."""
    lines = marked_lines(shown) if shown["recorded"] else [f"parts of {shown['path']}:"]
    for each in shown["boxes"]:
        verb = "marked" if each["changed"] else "was marked already"
        lines.append(
            f"{verb} {shown['label']}: {each['w']} x {each['h']} at {each['x']},{each['y']}; to "
            f"learn from: {each['picture']}"
        )
    if shown["advice"] is not None:
        lines.append(shown["advice"])
    return lines


def band_lines(shown: Sequence[Mapping[str, Any]], total: int) -> list[str]:
    """What waits for a person's eye; ``shown`` are of ``Documents.waiting``, ``total`` wait."""
    lines = [f"{total:,} waiting for a person's eye"]
    for each in shown:
        lines.append(
            f"  {each['inspection']:>8}  {each['score']:.4f}  {each['verdict']:<8}{each['path']}"
        )
    lines += _more(total, len(shown))
    if shown:
        lines.append(f"Say what one shows: crackwatch review mark {shown[0]['inspection']} ok")
    return lines


def review_lines(
    shown: Sequence[Mapping[str, Any]], counts: Mapping[str, int], total: int
) -> list[str]:
    """Reviewed pictures; ``shown`` are of ``Documents.reviewed``, ``counts`` of all ``total``."""
    lines = [
        f"{total:,} reviewed: {counts['crack']:,} crack, {counts['ok']:,} ok; "
        f"{counts['disagreeing']:,} against the verdict, {counts['contradictions']:,} contradictory"
    ]
    for each in shown:
        score = "" if each["score"] is None else f"{each['score']:.4f}"
        opinion = {True: "agrees", False: "DISAGREES", None: ""}[each["agrees"]]
        lines.append(
            f"  {each['at'][:16].replace('T', ' ')}  {each['label']:<6}{plain(each['by']):<12} "
            f"{score:<7}{each['verdict'] or '':<9}{opinion:<10} {_what(each)}"
        )
        if each["note"]:
            lines.append(f"      note: {plain(each['note'])}")
        if each["contradictory"]:
            lines.append("      both labels were given:")
            for one in each["labels"]:
                lines.append(f"        {one['label']:<6}{plain(one['by'])}, {one['at']}")
        if each["in_conflict"]:
            lines.append("      a file with equal pixels has the other label: retrain uses neither")
        if each["copy_lost"]:
            lines.append("      its copy is gone: mark it again")
    return lines + _more(total, len(shown))


def _what(shown: Mapping[str, Any]) -> str:
    """Which picture was reviewed, for a line."""
    if shown["box"] is not None:
        return f"{shown['picture']} ({shown['box']} of {shown['path'] or 'a photograph'})"
    return str(shown["path"] or shown["picture"] or "a photograph that has no row here")


def plain(text: str) -> str:
    """Text of a person in one line of a table, with nothing in it that moves a cursor."""
    return path_text(os.fsencode(" ".join(text.split())))


def _more(total: int, shown: int) -> list[str]:
    if total <= shown:
        return []
    return [f"and {total - shown:,} more: --limit {total}, or --format json or csv for all"]


# ------------------------------------------------------------------------------ for a spreadsheet


def write_csv(
    stream: TextIO, documents: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> None:
    """Writes a header and a line for each document. Raises OSError."""
    writer = csv.writer(stream, lineterminator="\n")
    # "id", so that 'review import' takes the list once it has labels
    writer.writerow("id" if column == "inspection" else column for column in columns)
    for each in documents:
        cells = (each[column] for column in columns)
        writer.writerow(guarded(cell) if isinstance(cell, str) else cell for cell in cells)
