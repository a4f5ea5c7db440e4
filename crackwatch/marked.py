"""Marked copies of photographs, for a person's eye: drawn from what was judged, never over a file.

Brings decoder, drawing and naming together for the station and for ``classify``. A copy is worth
having and vouches for nothing: no row names it, and the station does without one that fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Protocol

from crackwatch import images, score_map
from crackwatch.domain import OVERLAY_SUFFIX, Filing, Photograph, QuarantineReason
from crackwatch.errors import Unreadable, Unsettled
from crackwatch.escaping import path_text
from crackwatch.filing import copies, durable
from crackwatch.filing.names import NAME_MAX_BYTES, fit
from crackwatch.images import Limits, overlay
from crackwatch.images.photographs import thumbnail
from crackwatch.inbox import OWN_PREFIX

_QUALITY = 90  # of the JPEG: 2000 x 1500 pixels of concrete are about a megabyte


def draw(data: bytes, limits: Limits, photograph: Photograph, name: bytes, score: float) -> bytes:
    """A marked copy as a JPEG file. ``data`` is the file that was judged, ``name`` its name.

    Raises Unreadable where it cannot be decoded or is another picture than was judged, and
    ValueError for a damaged score map.
    """
    width, height = images.dimensions(data)
    if sorted((width, height)) != sorted((photograph.width, photograph.height)):
        raise Unreadable(
            QuarantineReason.UNREADABLE,
            f"it is {width} x {height}; what was judged is "
            f"{photograph.width} x {photograph.height}",
        )
    threshold = score_map.decode(photograph.score_map).threshold
    title = (
        f"{_ascii(name)}   score {score:.4f}   {photograph.tiles_over} of {photograph.tiles} tiles "
        f"at {threshold:.6g} or more"
    )
    small = thumbnail(data, limits, overlay.LONGEST_PX)
    return images.encode_jpeg(overlay.draw(small, photograph, title), _QUALITY)


def save(folder: bytes, name: bytes, content: bytes) -> bytes:
    """Writes a copy of the picture ``name`` into ``folder`` under a free name; its path.

    ``NAME.overlay.jpg``, else ``STEM (2).jpg.overlay.jpg`` and so on. Raises OSError.
    """
    for attempt in itertools.count(1):
        extra = b" (%d)" % attempt if attempt > 1 else b""
        free = fit(name, extra, NAME_MAX_BYTES - len(OVERLAY_SUFFIX)) + OVERLAY_SUFFIX
        path = os.path.join(folder, free)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
        except OSError:
            os.unlink(path)
            raise
        return path
    raise AssertionError("a name is free at some time")


class PhotographRows(Protocol):
    def photograph(self, id: int) -> tuple[Photograph, float] | None: ...


class Marker:
    """Puts ``NAME.overlay.jpg`` beside each flagged photograph ``NAME``, from the row's own data.

    Whatever fails is told to ``failed``, with the photograph's path, and goes no further. It is
    called before a row is closed, so that after a crash it is called again: a copy that is there
    already, or whatever else has its name, is left as it is. With ``wanted`` false it only clears
    away what a killed process left of a copy.
    """

    def __init__(
        self,
        rows: PhotographRows,
        flagged: bytes,
        limits: Limits,
        workers: Executor,
        failed: Callable[[bytes, BaseException], None],
        *,
        wanted: bool,
    ) -> None:
        self._rows = rows
        self._flagged = flagged
        self._limits = limits
        self._workers = workers
        self._failed = failed
        self._wanted = wanted

    def __call__(self, filings: Sequence[Filing]) -> None:
        """Side by side on the workers; returns when all are done."""
        begun: list[tuple[bytes, Future[None]]] = []
        for filing in filings:
            if filing.destination is not None:
                path = os.path.join(self._flagged, filing.destination)
                begun.append((path, self._workers.submit(self._mark, filing, path)))
        for path, future in begun:
            # whatever it is: a drawing must not stop a station that has recorded its finding
            failure = future.exception()
            if failure is not None:
                self._failed(path, failure)

    def _mark(self, filing: Filing, path: bytes) -> None:
        partial = os.path.join(os.path.dirname(path), OWN_PREFIX + b"%d.overlay.part" % filing.id)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)  # in a folder of ours, under a name of ours
        copy = path + OVERLAY_SUFFIX
        if not self._wanted or _stands(copy):
            return
        recorded = self._rows.photograph(filing.id)
        if recorded is None:
            return  # it was judged as one picture: nothing to mark
        data = _read(path, filing)
        drawn = draw(data, self._limits, recorded[0], os.path.basename(path), recorded[1])
        content = copies.signed(drawn, filing.id)
        try:
            with open(partial, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            durable.rename_noreplace(partial, copy)
        except FileExistsError:
            pass  # a person's file since a moment ago
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)


def _stands(copy: bytes) -> bool:
    """Whether the name is taken; what an interrupted rename of ours left there is cleared away."""
    try:
        status = os.lstat(copy)
    except FileNotFoundError:
        return False
    if not durable.is_reservation(status):
        return True
    os.unlink(copy)
    return False


def _read(path: bytes, filing: Filing) -> bytes:
    """The flagged file's bytes. Raises OSError, and Unsettled where they are not the row's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_size == filing.fingerprint.size_bytes:
            data = file.read(status.st_size)
            if hashlib.sha256(data).digest() == filing.sha256:
                return data
    raise Unsettled("it is not what was inspected any more")


def _ascii(name: bytes) -> str:
    """A name in the letters that can be drawn; others as escapes."""
    text = path_text(os.path.basename(name))
    return text.encode("ascii", "backslashreplace").decode("ascii")
