"""Gives a picture a person's label: reads and checks it, records the label, files the copy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset import pixel_hash, read_file
from crackwatch.domain import Cutout, Label
from crackwatch.errors import Unreadable, UsageError
from crackwatch.escaping import path_text
from crackwatch.review.copies import Copies
from crackwatch.review.locating import Located
from crackwatch.store.inspected import Inspected
from crackwatch.store.reviews import Review, ReviewBooks

Decode = Callable[[bytes], NDArray[np.uint8]]  # file bytes to (227, 227, 3) BGR, or Unreadable


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that can be reviewed: it was read, it decodes, and it is the one that was meant.

    A ``photograph`` is judged in tiles: nothing can be learned from it as a whole.
    """

    path: bytes
    content: bytes
    sha256: bytes
    pixels: bytes
    inspection: Inspected | None
    photograph: bool = False
    cutout: Cutout | None = None


@dataclass(frozen=True, slots=True)
class Marked:
    """What became of a mark. ``changed`` is false where the very label was there already."""

    review: Review
    inspection: Inspected | None
    changed: bool
    earlier: tuple[Review, ...]


def word(label: Label) -> str:
    """The label as people are shown it."""
    return "crack" if label is Label.ANOMALY else "ok"


class Marker:
    """Marks pictures of one station. ``now`` gives the time in UTC."""

    def __init__(
        self,
        books: ReviewBooks,
        copies: Copies,
        decode: Decode,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        is_photograph: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """``is_photograph`` tells by a file's bytes; it raises Unreadable as ``decode`` does."""
        self._is_photograph = is_photograph
        self._books = books
        self._copies = copies
        self._decode = decode
        self._now = now

    def read(self, located: Located) -> Picture:
        """Reads and checks a picture; changes nothing.

        Raises UsageError where it cannot be read or decoded, or is not the one that was inspected.
        """
        shown = path_text(located.path)
        try:
            content = read_file(located.path)
        except OSError as exc:
            raise UsageError(
                f"{shown}: cannot be read: {exc.strerror}",
                "Check that it is still there ('crackwatch audit') and may be read by this user.",
            ) from exc
        except ValueError as exc:
            raise UsageError(f"{shown}: {exc}", "Name a picture.") from exc
        sha256 = hashlib.sha256(content).digest()
        meant = located.inspection
        if meant is not None and meant.sha256 is not None and meant.sha256 != sha256:
            raise UsageError(
                f"{shown}: is not the picture that inspection {meant.id} saw: its bytes differ",
                "Nothing was marked. 'crackwatch audit --full' lists every file that has changed; "
                "a copy elsewhere can be marked by its own path.",
            )
        try:
            photograph = self._is_photograph(content)
            pixels = sha256[:16] if photograph else pixel_hash(self._decode(content))
        except Unreadable as exc:
            raise UsageError(
                f"{shown}: cannot be used as a picture: {exc}",
                "A model can only learn from what the station can decode with its settings.",
            ) from exc
        seen = meant or self._books.of_bytes(sha256)
        return Picture(located.path, content, sha256, pixels, seen, photograph)

    def mark(
        self, picture: Picture, label: Label, by: str, note: str | None, at: datetime | None = None
    ) -> Marked:
        """Records a label and files the copy; the same label by the same person is recorded once.

        With ``at`` it is a label given earlier, and counts only if no later one is there. Raises
        DatasetError, LockedError, SystemFault; called again, it takes up where it stopped.
        """
        with self._copies.locked():
            history = self._books.history(picture.sha256)
            new = Review(
                sha256=picture.sha256,
                inspection_id=picture.inspection.id if picture.inspection else None,
                label=label,
                by=by,
                at=at or self._now(),
                note=note,
                picture=b""
                if picture.photograph
                else self._copies.name_for(
                    label, os.path.basename(picture.path), picture.sha256, history
                ),
                pixels=picture.pixels,
                cutout=picture.cutout,
            )
            known = _already(history, new, given_earlier=at is not None)
            missing = known is None or not self._copies.there(history[-1].picture)
            if missing and not picture.photograph:
                self._copies.stage(picture.content, picture.sha256)
            recorded = known or self._books.add(new, counts=at is None)
            self._copies.settle(self._books.history(picture.sha256))
        return Marked(recorded, picture.inspection, known is None, tuple(history))


def _already(history: Sequence[Review], new: Review, *, given_earlier: bool) -> Review | None:
    """The row that says just this; of a label given now, only the one that counts can."""
    for each in history if given_earlier else history[-1:]:
        same = (each.label, each.by, each.note) == (new.label, new.by, new.note)
        if same and (each.at == new.at or not given_earlier):
            return each
    return None


def mend(books: ReviewBooks, copies: Copies) -> tuple[Review, ...]:
    """Files every copy where the latest label says, and tidies up after crashes.

    Gives the reviews that count and whose copy is lost; marking such a picture again makes a new
    one. Does nothing that is done already. Raises DatasetError, LockedError, SystemFault.
    """
    with copies.locked():
        histories = by_picture(books.all())
        lost = [each[-1] for each in histories.values() if not copies.settle(each)]
        copies.discard_staged(set(histories))
    return tuple(lost)


def by_picture(reviews: Sequence[Review]) -> dict[bytes, list[Review]]:
    """The labels of each picture, by its hash; ``reviews`` in the order in which they count."""
    found: dict[bytes, list[Review]] = {}
    for review in reviews:
        found.setdefault(review.sha256, []).append(review)
    return found
