"""Proves that everything that arrived is accounted for: the books against the folders, both ways.

Reads only. Sees the books as a Protocol and the folders through the operating system; at no time
does it hold more than a page of rows and what it found wrong.

The counts come from the rows, each of which has exactly one standing, plus the files of the inbox
that have no row yet. Then every row is held against its file, and every file against the rows:

- *missing*: a row's file is not where the row says it is, nor anywhere that a move could have left
  it; or it was sent back into the inbox and left it before it was inspected again. It stays missing
  until a person accepts that it is gone.
- *unexplained*: a file that no row explains, in a folder that only crackwatch fills.
- *changed*: the file is there, but it is not the picture that was inspected.

A file is taken for the inspected one if size and mtime are the row's and nothing hints at a swap;
else its hash decides. The inode is such a hint wherever a move keeps it (within a file system), the
ctime only for a kept file: a rename sets it anew.

**A kept file that was replaced by other content** is neither missing nor changed. Its row stands
(``kept``) until the daemon takes the new content in, and the new content is an arrival without a
row (``pending``): two arrivals, two places, the sum holds. The daemon then makes the old row
``superseded`` and records the new one, and the sum still holds. To the daemon other content is what
has another size, mtime or, where only hints differ, another hash, so it is the same here.

Hidden files that are not crackwatch's own (a file browser's, a network file system's) cannot be
pictures, for no hidden name is ever taken in: they are passed over.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from crackwatch import inbox as inbox_module
from crackwatch.audited import COUNTED, Audit, BooksLike, EntryLike, Finding, SnapshotLike
from crackwatch.domain import OVERLAY_SUFFIX, Departure, Fingerprint, Place
from crackwatch.inbox import NamePolicy
from crackwatch.on_disk import device_of, hash_of, lstat, names_below, refused

SECOND_LOOK_S = 1.0  # how long a move in progress beside a running daemon may take to be seen whole

_FILES_AT_ONCE = 500
# what may stand beside a picture that the books name: its reason, its marked copy
_BESIDE = {Place.QUARANTINED: b".json", Place.FLAGGED: OVERLAY_SUFFIX}
_OWN_NAME = re.compile(
    re.escape(inbox_module.OWN_PREFIX)
    + rb"([0-9]{1,18})\.(?:gone|part|json\.part|overlay\.part|back\.part)"
)
_MARKERS = (inbox_module.MARKER, inbox_module.FOLDER_MARKER)
_FILED_PLACES = {
    "flagged": Place.FLAGGED,
    "archived": Place.ARCHIVED,
    "quarantined": Place.QUARANTINED,
}

_ENDED = {
    "superseded": "was superseded",
    "expired": "was removed when its time was over",
    "vanished": "is gone, which a person has accepted",
}
_LOST_ON_THE_WAY = "it was sent back into the inbox and is gone, never inspected again"
T = TypeVar("T")


class Auditor:
    """Holds one station's folders against its books.

    ``folders`` maps each place to its absolute folder; ``policy`` says which names of the inbox are
    pictures. With ``full`` every file is hashed, whatever its size and times say. ``pause`` waits
    between the first look and the second; ``progress`` is told how many rows have been checked.
    """

    def __init__(
        self,
        books: BooksLike,
        inbox: bytes,
        folders: Mapping[Place, bytes],
        policy: NamePolicy,
        *,
        full: bool = False,
        pause: Callable[[], None] = lambda: time.sleep(SECOND_LOOK_S),
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._books = books
        self._inbox = inbox
        self._folders = folders
        self._policy = policy
        self._full = full
        self._pause = pause
        self._progress = progress
        # within a file system a move is a rename, and the inode stays
        self._keeps_inode = {
            place: device_of(folder) == device_of(inbox) for place, folder in folders.items()
        }

    def audit(self) -> Audit:
        """Looks at everything, and again at whatever seemed wrong: it counts if it still is.

        Raises StoreError, SystemFault where the inbox cannot be listed, UsageError where this user
        may not look.
        """
        with self._books.snapshot() as snapshot:
            rows, found = snapshot.total(), snapshot.counts()
            unrecorded = self._count_unrecorded(snapshot)
        counts = {word: found.get(word, 0) for word in COUNTED}
        counts["pending"] += unrecorded
        suspects = [
            *self._rows_against_files(),
            *self._files_against_rows(),
            *self._lost_on_the_way_back(),
        ]
        if suspects:
            self._pause()
            suspects = self._second_look(suspects)
        return Audit(rows, unrecorded, counts, tuple(suspects))

    # ------------------------------------------------------------------ what has no row yet

    def _count_unrecorded(self, snapshot: SnapshotLike) -> int:
        def count(entries: Sequence[inbox_module.Entry]) -> int:
            rows = snapshot.present([entry.source for entry in entries])
            return sum(not self._recorded(entry, rows.get(entry.source, ())) for entry in entries)

        return inbox_module.count_unrecorded(self._inbox, self._policy, count, _FILES_AT_ONCE)

    def _recorded(self, entry: inbox_module.Entry, rows: Sequence[EntryLike]) -> bool:
        """Whether the daemon would take the file for one that it has inspected."""
        if any(_untouched(entry.fingerprint, row.fingerprint) for row in rows):
            return True
        alike = [row for row in rows if entry.fingerprint.same_identity(row.fingerprint)]
        if not alike:
            return False
        hashed = hash_of(os.path.join(self._inbox, entry.source))
        # one that has gone meanwhile is no arrival; one that was never read has only its identity
        return not isinstance(hashed, bytes) or any(row.sha256 in (None, hashed) for row in alike)

    # ------------------------------------------------------------------- each row, its file

    def _rows_against_files(self) -> Iterator[Finding]:
        done = 0
        for page in self._books.pages():
            for row in page:
                finding = self._look_for(row)
                if finding is not None:
                    yield finding
            done += len(page)
            self._progress(done)

    def _look_for(self, row: EntryLike) -> Finding | None:
        """Where a row's file is not as the row says: what is wrong."""
        if row.standing == "kept":
            return self._kept(row)
        if row.standing in _FILED_PLACES:
            return self._filed(row, _FILED_PLACES[row.standing])
        if row.standing == "pending":
            return self._underway(row)
        if row.standing == "deleted":
            return self._deleted(row)
        if row.standing in COUNTED:
            return None  # it has ended; a file that is there all the same is looked at by itself
        return Finding(
            "unexplained",
            os.path.join(self._inbox, row.source),
            f"its row names a place, {row.standing!r}, that this version does not know",
            row.id,
        )

    def _kept(self, row: EntryLike) -> Finding | None:
        path = os.path.join(self._inbox, row.source)
        status = lstat(path)
        if status is None:
            return Finding("missing", path, "it was kept in the inbox and is gone", row.id)
        wrong = refused(status)
        if wrong:
            return Finding("missing", path, f"in its place there is {wrong}", row.id)
        if _untouched(Fingerprint.of(status), row.fingerprint):
            return self._changed(path, row) if self._full else None
        if self._policy.accepts(row.source):
            return None  # the daemon will look; if it is other content, it was counted as pending
        return self._changed(path, row)

    def _filed(self, row: EntryLike, place: Place) -> Finding | None:
        if row.destination is None:
            where = os.path.join(self._inbox, row.source)
            return Finding("missing", where, f"{row.standing}, but its row names no file", row.id)
        path = os.path.join(self._folders[place], row.destination)
        status = lstat(path)
        if status is None:
            return Finding("missing", path, f"it was {row.standing} and is gone", row.id)
        wrong = refused(status)
        if wrong:
            return Finding("changed", path, f"in its place there is {wrong}", row.id)
        found = Fingerprint.of(status)
        same = found.same_identity(row.fingerprint) and (
            found.inode == row.fingerprint.inode or not self._keeps_inode[place]
        )
        if same and not self._full:
            return None
        return self._changed(path, row)

    def _underway(self, row: EntryLike) -> Finding | None:
        """A move that is recorded and unfinished: the file must be at one of its ends.

        In the order in which a move goes, so that one that happens meanwhile is not missed. Other
        content at the source is enough: the daemon will see it and make the row superseded.
        """
        source = os.path.join(self._inbox, row.source)
        if lstat(source) is not None:
            return None
        gone = b"%s%d.gone" % (inbox_module.OWN_PREFIX, row.id)
        if row.place == Place.DELETED.value:
            return None  # deleted already, and not yet marked so
        if lstat(os.path.join(os.path.dirname(source), gone)) is not None:
            return None
        if row.destination is not None:
            folder = next(
                (path for place, path in self._folders.items() if place.value == row.place), b""
            )
            if lstat(os.path.join(folder, row.destination)) is not None:
                return None
        return Finding(
            "missing", source, "its move is unfinished and it is at neither end of it", row.id
        )

    def _deleted(self, row: EntryLike) -> Finding | None:
        path = os.path.join(self._inbox, row.source)
        if row.sha256 is None:
            return Finding(
                "unexplained", path, "deleted, but no hash tells what was deleted", row.id
            )
        status = lstat(path)
        if status is not None and _untouched(Fingerprint.of(status), row.fingerprint):
            # a rename on the way out would have set its ctime
            return Finding("unexplained", path, "deleted, says its row; it never was", row.id)
        return None

    def _changed(self, path: bytes, row: EntryLike) -> Finding | None:
        """Holds the content against the row's hash."""
        if row.sha256 is None:  # too big to have been read: there is nothing more to compare
            status = lstat(path)
            if status is None:
                return Finding("missing", path, "it is gone", row.id)
            if Fingerprint.of(status).same_identity(row.fingerprint):
                return None
            return Finding("changed", path, "its size or time is not what it was", row.id)
        hashed = hash_of(path)
        if hashed is None:
            return Finding("missing", path, "it is gone", row.id)
        if isinstance(hashed, str):
            return Finding("changed", path, f"cannot be read: {hashed}", row.id)
        if hashed == row.sha256:
            return None
        return Finding("changed", path, "its content is not what was inspected", row.id)

    def _lost_on_the_way_back(self) -> list[Finding]:
        """Pictures that were sent back into the inbox, and left it before they were inspected again."""
        found: list[Finding] = []
        for each in self._books.returned():
            if each.target is None:
                continue
            path = os.path.join(self._inbox, each.target)
            status = lstat(path)
            # a copy on a coarse disk has another time; other content is a loss by its size at least
            if status is None or status.st_size != each.size_bytes:
                found.append(Finding("missing", path, _LOST_ON_THE_WAY, each.inspection_id))
        return found

    # ------------------------------------------------------------------- each file, its row

    def _files_against_rows(self) -> Iterator[Finding]:
        for place in (Place.FLAGGED, Place.ARCHIVED, Place.QUARANTINED):
            for chunk in _chunks(names_below(self._folders[place])):
                yield from self._unexplained(place, chunk)
        own = (
            name
            for name in names_below(self._inbox, passing_over=True)
            if os.path.basename(name).startswith(inbox_module.OWN_PREFIX) and not _is_marker(name)
        )
        for chunk in _chunks(own):
            yield from self._leftovers(self._inbox, chunk)

    def _unexplained(self, place: Place, names: Sequence[bytes]) -> Iterator[Finding]:
        folder = self._folders[place]
        visible = [name for name in names if not os.path.basename(name).startswith(b".")]
        beside: dict[bytes, bytes] = {}  # and the picture that it is beside
        suffix = _BESIDE.get(place)
        if suffix is not None:
            beside = {name: name.removesuffix(suffix) for name in visible if name.endswith(suffix)}
        rows = self._books.holding(place, [*visible, *beside.values()])
        for name in visible:
            path = os.path.join(folder, name)
            row = rows.get(name)
            if row is not None and row.standing not in (place.value, "pending"):
                ended = _ENDED.get(row.standing, "is elsewhere")
                yield Finding("unexplained", path, f"its row says that it {ended}", row.id)
            elif row is None and beside.get(name) not in rows:
                yield Finding("unexplained", path, "no row names this file")
        own = [
            name
            for name in names
            if os.path.basename(name).startswith(inbox_module.OWN_PREFIX) and not _is_marker(name)
        ]
        yield from self._leftovers(folder, own)

    def _leftovers(self, folder: bytes, names: Sequence[bytes]) -> Iterator[Finding]:
        """Files under temporary names of ours: explained only by a move that is unfinished."""
        ids = {name: _own_id(name) for name in names}
        rows = self._books.by_ids([id for id in ids.values() if id is not None])
        for name, id in ids.items():
            row = rows.get(id) if id is not None else None
            if row is None or row.standing != "pending":
                yield Finding(
                    "unexplained",
                    os.path.join(folder, name),
                    "left over from a move that no row says is unfinished",
                    id if row is not None else None,
                )

    # ------------------------------------------------------------------------- second look

    def _second_look(self, suspects: Sequence[Finding]) -> list[Finding]:
        """Those that are still wrong, by fresh rows; a move may have been under way."""
        back = [each for each in suspects if each.reason == _LOST_ON_THE_WAY]
        still = self._lost_on_the_way_back() if back else []
        suspects = [each for each in suspects if each.reason != _LOST_ON_THE_WAY]
        leaving = list(self._books.departing())
        for some in _chunks(suspects):
            rows = self._books.by_ids([each.id for each in some if each.id is not None])
            for each in some:
                row = rows.get(each.id) if each.id is not None else None
                # a file first as a file: its row may be wrong for a reason of its own
                again = self._file_again(each) if each.kind == "unexplained" else None
                if again is None and row is not None:
                    again = self._look_for(row)
                if again is None:
                    again = self._file_again(each)
                if again is not None:
                    still.append(again)
        if still:
            leaving += self._books.departing()
        return [each for each in still if not self._departs(each, leaving)]

    def _departs(self, finding: Finding, leaving: Sequence[Departure]) -> bool:
        """Whether it is wrong only because its file is on its way out of its place.

        Or was when a process died: whoever moves files next finishes that.
        """
        if any(self._explains(each, finding) for each in leaving):
            return True
        if finding.id is None or all(each.inspection_id != finding.id for each in leaving):
            return False
        row = self._books.by_ids([finding.id]).get(finding.id)  # it has arrived meanwhile
        return (row is None or self._look_for(row) is None) and self._file_again(finding) is None

    def _explains(self, departure: Departure, finding: Finding) -> bool:
        """Whether a departure that has begun and not ended is why it is not as the books have it."""
        if (
            os.path.basename(finding.path)
            == inbox_module.OWN_PREFIX + b"%d.back.part" % departure.id
        ):
            return True
        if departure.inspection_id is None or finding.id != departure.inspection_id:
            return False
        at = os.path.join(self._folders.get(departure.place, self._inbox), departure.name)
        gone = inbox_module.OWN_PREFIX + b"%d.gone" % departure.inspection_id
        if lstat(os.path.join(os.path.dirname(at), gone)) is not None:
            return True
        if departure.target is None:
            return departure.expired and finding.path == at
        target = os.path.join(self._inbox, departure.target)
        return lstat(target) is not None or self._books.inspected_since(departure)

    def _file_again(self, finding: Finding) -> Finding | None:
        if lstat(finding.path) is None:
            return None
        for place, folder in self._folders.items():
            if finding.path.startswith(folder + b"/"):
                name = finding.path[len(folder) + 1 :]
                return next(self._unexplained(place, [name]), None)
        name = finding.path[len(self._inbox) + 1 :]
        if os.path.basename(name).startswith(inbox_module.OWN_PREFIX):
            return next(self._leftovers(self._inbox, [name]), None)
        return None


def _untouched(found: Fingerprint, row: Fingerprint) -> bool:
    """Whether not even a hint has changed; the device's number may, at a reboot."""
    return found.same_identity(row) and found.inode == row.inode and found.ctime_ns == row.ctime_ns


def _is_marker(name: bytes) -> bool:
    """Whether it says whose a folder is; folders that were moved here may have brought theirs."""
    return os.path.basename(name).removesuffix(b".part") in _MARKERS


def _own_id(name: bytes) -> int | None:
    match = _OWN_NAME.fullmatch(os.path.basename(name))
    return int(match[1]) if match else None


def _chunks(each: Iterable[T]) -> Iterator[list[T]]:
    held: list[T] = []
    for one in each:
        held.append(one)
        if len(held) == _FILES_AT_ONCE:
            yield held
            held = []
    if held:
        yield held
