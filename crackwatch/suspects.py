"""Finds the picture that kills the decoder, and only that one.

The names of the pictures being decoded stand in a small journal. After an unclean end they are
suspects: they are decoded in a child process with limits on time and memory, all together first,
and one by one only if that child dies. Being in flight when the station died is never a reason.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from crackwatch.domain import QuarantineReason, path_bytes, path_text

_TRIES = 2
_ALONE_TIMEOUT_S = 30.0
_MEMORY_BYTES = 2 << 30


class InFlightJournal:
    """A file that names what is being decoded right now. It is not synced: it guards against a
    dying process, not against a power cut."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def left_over(self) -> list[bytes]:
        """What an earlier process was decoding when it ended."""
        text = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        try:
            names = json.loads(text) if text else []
        except ValueError:
            return []  # cut short while it was being written: no decoding had begun
        return [path_bytes(name) for name in names if isinstance(name, str)]

    def begin(self, sources: Sequence[bytes]) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps([path_text(each) for each in sources]).encode(), 0)

    def end(self) -> None:
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        os.close(self._descriptor)


def condemn(
    inbox: Path, sources: Sequence[bytes], max_pixels: int, larger: str
) -> dict[bytes, QuarantineReason]:
    """Those of ``sources`` that twice killed or hung a child of their own, and how.

    Call it before threads are started: it forks.
    """
    present = [each for each in sources if os.path.lexists(os.path.join(os.fsencode(inbox), each))]
    if not present or _end(inbox, present, max_pixels, larger) is None:
        return {}
    if _end(inbox, [], max_pixels, larger) is not None:
        return {}  # a child that decodes nothing dies as well: the pictures are not to blame
    found: dict[bytes, QuarantineReason] = {}
    for source in present:
        ends = [_end(inbox, [source], max_pixels, larger) for _ in range(_TRIES)]
        if None not in ends and ends[-1] is not None:
            found[source] = ends[-1]
    return found


def _end(
    inbox: Path, sources: Sequence[bytes], max_pixels: int, larger: str
) -> QuarantineReason | None:
    """How a child that decodes ``sources`` came to grief; None if it did not."""
    command = [sys.executable, "-m", "crackwatch.images", "--try", str(max_pixels), larger]
    paths = [os.path.join(os.fsencode(inbox), source) for source in sources]
    try:
        done = subprocess.run(
            [*command, *paths],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ALONE_TIMEOUT_S + len(sources),
            preexec_fn=_limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return QuarantineReason.DECODER_TIMEOUT
    return None if done.returncode == 0 else QuarantineReason.DECODER_CRASH


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
