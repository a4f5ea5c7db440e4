"""Which picture a person means by a path or an inspection's id, and where it lies; reads no pixels.

A number is an id. A path is taken as typed and in the form that reports print; what exists under it
is meant, else what lies under it in one of the station's folders, else the inspection whose source
it is. What could be two pictures is refused: a label must not land on the wrong one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crackwatch.domain import Place
from crackwatch.errors import UsageError
from crackwatch.escaping import path_bytes, path_text
from crackwatch.store.inspected import Inspected
from crackwatch.store.reviews import ReviewBooks
from crackwatch.store.standing import Standing

_LAST_ID = 2**63 - 1  # SQLite's

_ENDED = {
    Standing.DELETED: 'it was deleted after its inspection (files.normal = "delete")',
    Standing.EXPIRED: "its file was removed when its time of keeping had ended",
    Standing.VANISHED: "its file is gone, and a person has accepted that",
    Standing.SUPERSEDED: "other content took its name before it was filed",
}


@dataclass(frozen=True, slots=True)
class Located:
    """A file that is meant. ``inspection`` is set where the file must have its bytes."""

    path: bytes
    inspection: Inspected | None


class Locator:
    """Finds pictures of one station, and any other file."""

    def __init__(
        self,
        books: ReviewBooks,
        inbox: bytes,
        folders: Mapping[Place, bytes],
        base: bytes,
        whereabouts: Callable[[Inspected], bytes],
    ) -> None:
        """``base`` is the folder of config.toml, ``whereabouts`` where an inspection's file is."""
        self._books = books
        self._inbox = inbox
        self._folders = folders
        self._base = base
        self._whereabouts = whereabouts

    def __call__(self, text: str) -> Located:
        """The picture meant by ``text``. Raises UsageError, saying what was looked for and where."""
        id = as_id(text)
        return self.by_path(text) if id is None else self.by_id(id)

    def by_id(self, id: int) -> Located:
        """The file of an inspection."""
        seen = self._books.inspection(id)
        if seen is None:
            raise UsageError(
                f"inspection {id}: this station has none of that number",
                "'crackwatch report --format csv' lists the numbers; for a file whose name is a "
                f"number write ./{id}.",
            )
        return self._of(seen)

    def by_path(self, text: str) -> Located:
        """The file of a path, as typed or as ``path_text`` shows it."""
        if not text or "\0" in text:
            raise UsageError(f"{text!r}: is not a path", "Name a picture, or an inspection's id.")
        spellings = [
            each
            for each in dict.fromkeys((os.fsencode(text), path_bytes(text)))
            if b"\0" not in each  # written as an escape; no file has such a name
        ]
        for path in spellings:
            if os.path.lexists(path):
                return self._on_disk(os.path.abspath(path))
        found: dict[bytes, Located] = {}
        for path in spellings:
            for located in self._in_station(path):
                found.setdefault(os.path.realpath(located.path), located)
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise UsageError(
                f"{path_text(os.fsencode(text))}: may be one of {len(found)} pictures: "
                + ", ".join(_named(each) for each in list(found.values())[:5]),
                "Name the one you mean by its inspection's id, or by its absolute path.",
            )
        raise UsageError(
            f"{path_text(os.fsencode(text))}: no such picture here, in the station's folders or "
            "among the sources of its inspections",
            "Give the path that 'crackwatch report' prints, or the inspection's id.",
        )

    def _in_station(self, path: bytes) -> list[Located]:
        """What a path can mean that does not exist as it is: below the folders, or as a source."""
        found: list[Located] = []
        source = path
        if os.path.isabs(path):
            if not path.startswith(self._inbox + b"/"):
                return []
            source = os.path.relpath(path, self._inbox)
        else:
            for folder in (self._inbox, *self._folders.values(), self._base):
                candidate = os.path.normpath(os.path.join(folder, path))
                if os.path.lexists(candidate):
                    found.append(self._on_disk(candidate))
        standing = self._books.of_source(os.path.normpath(source))
        there = [each for each in standing if each.standing not in _ENDED]
        if standing and not there and not found:
            raise _gone(standing[0])
        return found + [self._of(each) for each in there]

    def _on_disk(self, path: bytes) -> Located:
        """An existing file: one that was filed must still be the picture that was inspected."""
        for place, folder in self._folders.items():
            if path.startswith(folder + b"/"):
                return Located(
                    path, self._books.at_destination(place, os.path.relpath(path, folder))
                )
        return Located(path, None)

    def _of(self, seen: Inspected) -> Located:
        if seen.standing in _ENDED:
            raise _gone(seen)
        return Located(self._whereabouts(seen), seen)


def as_id(text: str) -> int | None:
    """The number of an inspection that ``text`` is; None if it is none."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"  # thousands of them are more than Python reads as a number
    return int(digits) if len(digits) < len(str(_LAST_ID)) else _LAST_ID


def _gone(seen: Inspected) -> UsageError:
    return UsageError(
        f"inspection {seen.id} ({path_text(seen.source)}): there is no file to copy: "
        f"{_ENDED[seen.standing]}",
        "Its row stays in the books; only a picture that is still there can be reviewed.",
    )


def _named(located: Located) -> str:
    shown = path_text(located.path)
    return f"{shown} (inspection {located.inspection.id})" if located.inspection else shown
