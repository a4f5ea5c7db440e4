"""Finds the quarantined pictures that a person means, for the way back into the inbox.

Knows how they may be named; moves nothing itself: ``departures`` does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from crackwatch.domain import Departure, DepartureKind, Place, QuarantineReason
from crackwatch.errors import UsageError
from crackwatch.escaping import path_bytes


class Picture(Protocol):
    """A quarantined picture: see ``store.departures.Filed``."""

    @property
    def id(self) -> int: ...
    @property
    def place(self) -> Place: ...
    @property
    def name(self) -> bytes: ...
    @property
    def source(self) -> bytes: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def sha256(self) -> bytes | None: ...
    @property
    def reason(self) -> QuarantineReason | None: ...


class Rows(Protocol):
    def quarantined(self, *, ids: Sequence[int]) -> Sequence[Picture]: ...
    def by_name(self, place: Place, names: Sequence[bytes]) -> Sequence[Picture]: ...


def named(rows: Rows, texts: Sequence[str], quarantine: bytes, inbox: bytes) -> set[int]:
    """The inspections of the quarantined pictures that ``texts`` name.

    Each is an inspection's number, the path of the file in ``quarantine``, or that which it had in
    ``inbox``; absolute, relative to the working folder or to those two; as ``path_text`` shows it or
    as it is. A path in the inbox can mean several. Raises UsageError for one that means none.
    """
    found: set[int] = set()
    for text in texts:
        mine: set[int] = set()
        if text.isascii() and text.isdigit() and len(text) < 19:
            mine = {each.id for each in rows.quarantined(ids=[int(text)])}
        if not mine:
            names = _names(text, quarantine, inbox)
            mine = {each.id for each in rows.by_name(Place.QUARANTINED, names)}
        if not mine:
            raise UsageError(
                f"{text}: is no quarantined picture of this station",
                "'crackwatch requeue --all --dry-run' lists those that there are; name one by its "
                "number, its path in the quarantine, or the path that it had in the inbox.",
            )
        found |= mine
    return found


def _names(text: str, quarantine: bytes, inbox: bytes) -> list[bytes]:
    names: list[bytes] = []
    for spelling in dict.fromkeys((os.fsencode(text), path_bytes(text))):
        names.append(os.path.normpath(spelling))
        absolute = os.path.normpath(os.path.join(os.getcwdb(), spelling))
        for folder in (quarantine, inbox):
            if absolute.startswith(os.path.join(folder, b"")):
                names.append(os.path.relpath(absolute, folder))
    return list(dict.fromkeys(names))


def departure_of(picture: Picture, kind: DepartureKind) -> Departure:
    """The departure that a picture is asked to make; ``begin`` gives it its number."""
    return Departure(
        0,
        kind,
        picture.id,
        picture.place,
        picture.name,
        picture.size_bytes,
        picture.mtime_ns,
        picture.sha256,
        None,
        0,
    )
