"""Remembers which files of the inbox have a row already, in about twenty bytes a file.

Of each file two 64-bit digests are kept: of its name and inode number, by which a quick look at the
folder goes, and of these with size and times, which prove more. Two different files share one with a
probability of 5e-14 in a folder of a million; the audit would show such a file as pending.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import or_

import numpy as np

from crackwatch.domain import Fingerprint

_MERGE_AT = 32_768


_64_BITS = (1 << 64) - 1  # the kernel's numbers and the database's differ in how they are signed


def whole_digest(source: bytes, size_bytes: int, mtime_ns: int, ctime_ns: int, inode: int) -> int:
    """Of everything that tells one file from another, as 64 signed bits."""
    # the device is left out: its number may change at a reboot
    return hash((source, size_bytes, mtime_ns & _64_BITS, ctime_ns & _64_BITS, inode & _64_BITS))


def name_digest(source: bytes, inode: int) -> int:
    """Of what a folder's listing says of a file, as 64 signed bits."""
    return hash((source, inode & _64_BITS))


class Known:
    """A set of files; used by one thread at a time under the intake's lock."""

    def __init__(self) -> None:
        self._whole = _Digests()
        self._names = _Digests()

    def __len__(self) -> int:
        return len(self._whole)

    def add(self, source: bytes, stat: Fingerprint) -> None:
        self._whole.add(_whole(source, stat))
        self._names.add(name_digest(source, stat.inode))

    def update(self, files: Iterable[tuple[bytes, Fingerprint]]) -> None:
        """The same for many: sorted once, not again and again."""
        whole, names = array("q"), array("q")
        for source, stat in files:
            whole.append(_whole(source, stat))
            names.append(name_digest(source, stat.inode))
        self._whole.merge(whole)
        self._names.merge(names)

    def holds(self, source: bytes, stat: Fingerprint) -> bool:
        return _whole(source, stat) in self._whole

    def hold(self, digests: Sequence[int]) -> list[bool]:
        """Of each ``whole_digest`` whether it is a known file's."""
        return self._whole.hold(digests)

    def name(self, digests: Sequence[int]) -> list[bool]:
        """Of each ``name_digest`` whether a known file had that name and that inode number."""
        return self._names.hold(digests)


class _Digests:
    """A set of 64-bit numbers: most of them sorted, the latest in a set."""

    def __init__(self) -> None:
        self._sorted: array[int] = array("q")
        self._recent: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def add(self, digest: int) -> None:
        self._recent.add(digest)
        if len(self._recent) >= _MERGE_AT:
            recent, self._recent = array("q", self._recent), set()
            self.merge(recent)

    def __contains__(self, digest: int) -> bool:
        at = bisect_left(self._sorted, digest)
        return digest in self._recent or self._sorted[at : at + 1] == array("q", [digest])

    def hold(self, digests: Sequence[int]) -> list[bool]:
        """Of each whether it is in the set; many at once."""
        recent = self._recent
        among = np.frombuffer(self._sorted, dtype=np.int64)
        if not len(among):
            return [each in recent for each in digests]
        asked = np.array(digests, dtype=np.int64)
        at = np.searchsorted(among[:-1], asked)  # the last stands where there is no greater one
        found: list[bool] = (among[at] == asked).tolist()
        return list(map(or_, found, (each in recent for each in digests)))

    def merge(self, more: array[int]) -> None:
        """Takes in numbers in any order; uses up ``more``."""
        more.extend(self._sorted)
        merged = np.frombuffer(more, dtype=np.int64)
        merged.sort()
        if (again := merged[1:] == merged[:-1]).any():
            merged = merged[np.concatenate(([True], ~again))]
            more = array("q")
            more.frombytes(merged.tobytes())
        self._sorted = more


def _whole(source: bytes, stat: Fingerprint) -> int:
    return whole_digest(source, stat.size_bytes, stat.mtime_ns, stat.ctime_ns, stat.inode)
