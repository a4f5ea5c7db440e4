"""The inbox as a folder: which of its files are pictures to inspect, and how one is opened safely.

Knows names, kinds and permissions; nothing of watching, settling or the books. Never writes.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from crackwatch.domain import Fingerprint, QuarantineReason
from crackwatch.errors import PartlyUnreadable, ReadFault, SystemFault, Unreadable, Unsettled
from crackwatch.escaping import path_text

OWN_PREFIX = b".crackwatch-"  # what crackwatch itself puts into folders of others
MARKER = b".crackwatch-inbox.json"
FOLDER_MARKER = b".crackwatch-folder.json"  # in the folders that pictures are moved to
MAX_DEPTH = 64  # folders in folders: each costs an open descriptor during a walk

# Under these a producer is still writing; the finished file appears by a rename.
_TEMPORARY_SUFFIXES = (b".tmp", b".temp", b".part", b".partial", b".crdownload", b".filepart")
_TEMPORARY_PREFIXES = (b".", b"~")

# The station's fault, not the file's: wait and try again.
SYSTEM_ERRNOS = frozenset(
    {
        errno.EIO,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EROFS,
        errno.ESTALE,
        errno.ENODEV,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.ENOTCONN,
        errno.EAGAIN,
        errno.EBUSY,
    }
)

# Among these, what ails the machine and says nothing of the file or folder that was asked for.
MACHINE_WIDE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})

PARTLY_UNREADABLE = "inbox_partly_unreadable"


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file of the inbox that the policy accepts; ``source`` is relative to the inbox."""

    source: bytes
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Something in the inbox that crackwatch will not touch, and why."""

    source: bytes
    reason: str


class NamePolicy:
    """Which names are pictures: a callable that gives None, or why a name is left alone.

    Hidden and temporary names are ``silent``: their producer has not finished, nobody need know.
    """

    def __init__(self, patterns: Sequence[str], *, recursive: bool) -> None:
        self.recursive = recursive
        translated = "|".join(
            f"(?:{fnmatch.translate(os.fsdecode(os.fsencode(pattern)))})" for pattern in patterns
        )
        # names are bytes: each byte stands for one character, so "*" matches whatever is there
        self._matches = re.compile(
            translated.encode("utf-8", "surrogateescape"), re.IGNORECASE | re.DOTALL
        ).match

    def silent(self, name: bytes) -> bool:
        """Whether this last component of a path is hidden, temporary or crackwatch's own."""
        return name.startswith(_TEMPORARY_PREFIXES) or name.lower().endswith(_TEMPORARY_SUFFIXES)

    def __call__(self, name: bytes) -> str | None:
        """None if the last component ``name`` is a picture's, else why it is left alone."""
        if self.silent(name):
            return "its name is hidden or temporary"
        if not self._matches(name):
            return "its name matches none of files.patterns"
        return None

    def accepts(self, source: bytes) -> bool:
        """Whether the whole path ``source``, relative to the inbox, is a picture's."""
        *folders, name = source.split(b"/")
        if len(folders) > (MAX_DEPTH if self.recursive else 0):
            return False
        return self(name) is None and not any(self.silent(folder) for folder in folders)


SYMLINK = "a symbolic link: it is never followed"
TOO_DEEP = f"more than {MAX_DEPTH} folders down"

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISLNK, SYMLINK),
    (stat.S_ISFIFO, "a named pipe, not a regular file"),
    (stat.S_ISSOCK, "a socket, not a regular file"),
    (stat.S_ISCHR, "a device, not a regular file"),
    (stat.S_ISBLK, "a device, not a regular file"),
)


def kind_refused(mode: int) -> str | None:
    """Why something of this ``st_mode`` is left alone; None for a regular file."""
    return next((reason for test, reason in _KINDS if test(mode)), None)


# Of some of a folder's entries, whether each needs no closer look; ``source`` is what leads to them.
Familiar = Callable[[bytes, Sequence["os.DirEntry[bytes]"]], Sequence[bool]]

_AT_ONCE = 1024  # entries that are read from a folder together


@dataclass(slots=True)
class _Listing:
    """A folder on the way: ``ahead`` was read from it and is to be looked at."""

    prefix: bytes
    entries: os._ScandirIterator[bytes]
    ahead: Iterator[os.DirEntry[bytes]] = field(default_factory=lambda: iter(()))
    failed: OSError | None = None
    ended: bool = False

    def read(self) -> list[os.DirEntry[bytes]]:
        """Some more of it; fewer than there might be where it ``ended`` or ``failed``."""
        found: list[os.DirEntry[bytes]] = []
        try:
            found.extend(itertools.islice(self.entries, _AT_ONCE))
        except OSError as exc:
            self.failed = exc
        self.ended = len(found) < _AT_ONCE
        return found


def walk(
    inbox: bytes,
    policy: NamePolicy,
    left_alone: Callable[[LeftAlone], None] = lambda _: None,
) -> Iterator[Entry]:
    """Every picture of the inbox: ``look_through`` without anything familiar."""
    with contextlib.closing(look_through(inbox, policy, left_alone)) as found:
        for entry in found:
            if entry is not None:
                yield entry


def look_through(
    inbox: bytes,
    policy: NamePolicy,
    left_alone: Callable[[LeftAlone], None] = lambda _: None,
    familiar: Familiar | None = None,
) -> Generator[Entry | None, None, None]:
    """Every picture of the inbox that is not ``familiar``, in the order in which folders list them.

    None each time a stretch of a folder has been gone through, whatever was in it: the caller's
    moment to do something else. Holds one open folder a level, however many files there are, and
    goes MAX_DEPTH levels down. What is left alone is told to the callback. A folder that vanishes
    meanwhile ends its part of the walk.

    Raises SystemFault where the inbox cannot be listed. A folder or file in it that the disk does not
    give is passed over; PartlyUnreadable is raised then, once all the rest has been gone through.
    """
    passed_over = _PassedOver(inbox)
    try:
        stack = [_Listing(b"", os.scandir(inbox))]
    except OSError as exc:
        raise inbox_fault(inbox, exc) from exc
    with contextlib.ExitStack() as opened:
        opened.callback(_close_all, stack)
        while stack:
            listing = stack[-1]
            entry = next(listing.ahead, None)
            if entry is None:
                if listing.failed is not None:
                    _end_early(inbox, listing, left_alone, passed_over)
                if listing.ended:
                    stack.pop().entries.close()
                    continue
                ahead = listing.read()
                if familiar is not None and ahead:
                    known = familiar(listing.prefix, ahead)
                    ahead = [
                        each for each, is_known in zip(ahead, known, strict=True) if not is_known
                    ]
                listing.ahead = iter(ahead)
                yield None
                continue
            source = listing.prefix + entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as exc:
                _refuse(exc, left_alone, source, passed_over)
                continue
            if stat.S_ISDIR(status.st_mode):
                if policy.silent(entry.name) or not policy.recursive:
                    continue
                if len(stack) > MAX_DEPTH:
                    left_alone(LeftAlone(source, TOO_DEEP))
                    continue
                try:
                    stack.append(_Listing(source + b"/", os.scandir(entry.path)))
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    _refuse(exc, left_alone, source, passed_over)
                continue
            if policy.silent(entry.name):
                continue
            why = kind_refused(status.st_mode) or policy(entry.name)
            if why is not None:
                left_alone(LeftAlone(source, why))
                continue
            yield Entry(source, Fingerprint.of(status))
    passed_over.tell()


_NAMED_MAX = 20  # of what was passed over; a dead disk must not fill the memory


@dataclass(slots=True)
class _PassedOver:
    """What a walk could not look at, for the disk does not give it."""

    inbox: bytes
    sources: list[bytes] = field(default_factory=list)
    first_why: str = ""
    count: int = 0

    def add(self, source: bytes, why: str) -> None:
        self.first_why = self.first_why or why
        self.count += 1
        if len(self.sources) < _NAMED_MAX:
            self.sources.append(source)

    def tell(self) -> None:
        """Raises PartlyUnreadable if there was anything."""
        if not self.count:
            return
        first = path_text(os.path.join(self.inbox, self.sources[0]))
        others = f"; so can {self.count - 1:,} others not" if self.count > 1 else ""
        raise PartlyUnreadable(
            PARTLY_UNREADABLE,
            f"{first}: cannot be looked at: {self.first_why}{others}. What lies there is not "
            "inspected, all the rest of the inbox is",
            "Look at its disk or share (dmesg), or take it out of the inbox; it is tried again by "
            "itself.",
            sources=tuple(self.sources),
        )


def _close_all(stack: list[_Listing]) -> None:
    for each in stack:
        each.entries.close()


def _end_early(
    inbox: bytes,
    listing: _Listing,
    left_alone: Callable[[LeftAlone], None],
    passed_over: _PassedOver,
) -> None:
    """What is told of a folder whose listing ``failed`` in the middle."""
    exc, listing.failed = listing.failed, None
    assert exc is not None
    if not listing.prefix:
        raise inbox_fault(inbox, exc) from exc
    if not isinstance(exc, FileNotFoundError):
        _refuse(exc, left_alone, listing.prefix[:-1], passed_over)


def _refuse(
    exc: OSError,
    left_alone: Callable[[LeftAlone], None],
    source: bytes,
    passed_over: _PassedOver,
) -> None:
    if exc.errno in MACHINE_WIDE:
        raise SystemFault(
            "inbox_io",
            f"the inbox: {path_text(source)}: cannot be looked at: {exc.strerror}",
            "Look at the machine's memory, and at its limits on open files.",
        ) from exc
    if exc.errno in SYSTEM_ERRNOS:
        passed_over.add(source, exc.strerror or str(exc))
        return
    left_alone(LeftAlone(source, f"cannot be opened: {exc.strerror}"))


def inbox_fault(inbox: bytes, exc: OSError) -> SystemFault:
    """The inbox itself cannot be used: a fault that clears when the folder is back."""
    return SystemFault(
        "inbox_missing" if exc.errno in (errno.ENOENT, errno.ENOTDIR) else "inbox_unreadable",
        f"{path_text(inbox)}: the inbox cannot be listed: {exc.strerror}",
        "Mount it again, readable for this user; inspection goes on by itself then. Only if it is to "
        "be a new, empty folder from now on: crackwatch init, on the station's folder.",
    )


def count_unrecorded(
    inbox: bytes,
    policy: NamePolicy,
    unrecorded: Callable[[Sequence[Entry]], int],
    chunk: int = 500,
) -> int:
    """How many pictures of the inbox have no row yet; ``unrecorded`` counts them in a chunk."""
    total = 0
    held: list[Entry] = []
    for entry in walk(inbox, policy):
        held.append(entry)
        if len(held) == chunk:
            total += unrecorded(held)
            held.clear()
    return total + (unrecorded(held) if held else 0)


# ------------------------------------------------------------------------------------- opening


def open_folder(path: bytes) -> int:
    """A descriptor of a folder, to open its files beneath. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_beneath(folder_fd: int, relative: bytes, flags: int = os.O_RDONLY) -> int:
    """Opens ``relative`` below a folder without following any symbolic link on the way.

    O_NONBLOCK, so that a FIFO that took the file's name cannot hang the station. Raises OSError;
    ELOOP or ENOTDIR where a link stands in the way.
    """
    *folders, name = relative.split(b"/")
    at = folder_fd
    try:
        for folder in folders:
            below = os.open(
                folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at
            )
            if at != folder_fd:
                os.close(at)
            at = below
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    finally:
        if at != folder_fd:
            os.close(at)


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a picture as they were read once, and what they hash to."""

    data: bytes
    sha256: bytes
    fingerprint: Fingerprint


def read(folder_fd: int, source: bytes, expected: Fingerprint, max_bytes: int) -> Content:
    """Reads a settled picture once; hash and classification use these very bytes.

    Raises Unsettled if it is gone, is no regular file any more, or is not (or does not stay) as
    ``expected``; Unreadable(OVERSIZE) above ``max_bytes``; ReadFault where the disk does not give it,
    SystemFault for other faults of the station; PermissionError where this user may not read it.
    """
    try:
        descriptor = open_beneath(folder_fd, source)
    except OSError as exc:
        _translate_open(exc, source)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or Fingerprint.of(before) != expected:
            raise Unsettled("it changed after it had settled")
        if before.st_size > max_bytes:
            raise Unreadable(
                QuarantineReason.OVERSIZE,
                f"{before.st_size:,} bytes, files.max_bytes allows {max_bytes:,}",
            )
        data = _read_all(descriptor, before.st_size)
        if Fingerprint.of(os.fstat(descriptor)) != expected or len(data) != before.st_size:
            raise Unsettled("it changed while it was read")
    except OSError as exc:
        raise _read_fault(exc, source, "reading") from exc
    finally:
        os.close(descriptor)
    return Content(data, hashlib.sha256(data).digest(), expected)


def _read_all(descriptor: int, size_bytes: int) -> bytes:
    first = os.read(descriptor, size_bytes + 1)
    if len(first) == size_bytes:
        return first  # by far the usual case: one call, no copy
    parts, left = [first], size_bytes - len(first)
    while left > 0 and parts[-1]:  # a file that has grown is told by what is read already
        parts.append(os.read(descriptor, left + 1))
        left -= len(parts[-1])
    return b"".join(parts)


def sha256_of(descriptor: int) -> bytes:
    """The hash of an open file from its beginning. Raises OSError."""
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, 1 << 20, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.digest()


def _translate_open(exc: OSError, source: bytes) -> NoReturn:
    if exc.errno in SYSTEM_ERRNOS:
        raise _read_fault(exc, source, "opening") from exc
    if exc.errno in (errno.EACCES, errno.EPERM):
        raise PermissionError(exc.errno, exc.strerror, source) from exc
    raise Unsettled(f"it cannot be opened any more: {exc.strerror}") from exc


def _read_fault(exc: OSError, source: bytes, what: str) -> SystemFault:
    problem = f"the inbox: {path_text(source)}: {what} failed: {exc.strerror}"
    if exc.errno in MACHINE_WIDE:
        return SystemFault(
            "read_failed", problem, "Look at the machine's memory, and at its limits on open files."
        )
    return ReadFault(
        "read_failed",
        problem,
        "Look at the disk or share (dmesg). Other pictures are tried as well; if this is the only one "
        "that cannot be read, take it out of the inbox and have it written again.",
        why=exc.strerror or str(exc),
    )
