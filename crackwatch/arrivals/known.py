"""Remembers which files of the inbox have a row already, in about ten bytes a file.

An entry is a 64-bit digest of name, size, times and inode. Two different files share one with a
probability of 5e-14 in a folder of a million; the audit would show such a file as pending.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

from crackwatch.domain import Fingerprint

_MERGE_AT = 32_768
_MASK = (1 << 64) - 1


def _digest(source: bytes, stat: Fingerprint) -> int:
    # the device is left out: its number may change at a reboot
    return hash((source, stat.size_bytes, stat.mtime_ns, stat.ctime_ns, stat.inode)) & _MASK


class Known:
    """A set of files; used by one thread at a time under the intake's lock."""

    def __init__(self) -> None:
        self._sorted: array[int] = array("Q")
        self._recent: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def add(self, source: bytes, stat: Fingerprint) -> None:
        self._recent.add(_digest(source, stat))
        if len(self._recent) >= _MERGE_AT:
            self._merge()

    def update(self, files: Iterable[tuple[bytes, Fingerprint]]) -> None:
        for source, stat in files:
            self.add(source, stat)

    def holds(self, source: bytes, stat: Fingerprint) -> bool:
        digest = _digest(source, stat)
        if digest in self._recent:
            return True
        at = bisect_left(self._sorted, digest)
        return at < len(self._sorted) and self._sorted[at] == digest

    def _merge(self) -> None:
        recent = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
        merged = np.union1d(np.frombuffer(self._sorted, dtype=np.uint64), recent)
        self._sorted = array("Q")
        self._sorted.frombytes(merged.tobytes())
        self._recent = set()
