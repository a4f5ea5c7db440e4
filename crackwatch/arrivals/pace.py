"""When the inbox is looked through next, and whether a quick look is enough: arithmetic only.

A full scan asks the kernel for everything about each file; in a folder of a million kept ones that
takes seconds. A quick one goes by names and inode numbers and finds whatever is new. What is known
already must cost an idle station next to nothing, so a scan is made the less often, the longer it
takes; each full one is due after an hour all the same.
"""

from __future__ import annotations

FEW_KEPT = 10_000  # a full scan of so many takes no longer than a tenth of a second
# of a core, for what is known already
_FULL_SHARE, _QUICK_SHARE = 0.0015, 0.0010
_FULL_AT_LEAST_EVERY_S = 3600.0


def full_pause_s(spent_s: float, rescan_s: float) -> float:
    """Until the next full scan, after one that took ``spent_s`` of processor time."""
    return max(rescan_s, min(spent_s / _FULL_SHARE, _FULL_AT_LEAST_EVERY_S))


def quick_pause_s(spent_s: float, rescan_s: float) -> float:
    """The same of a quick one."""
    return max(rescan_s, spent_s / _QUICK_SHARE)


class Pace:
    """Of one inbox. All times are monotonic seconds, handed in.

    ``quick`` says which kind the scan is that was begun last.
    """

    def __init__(self, rescan_s: float) -> None:
        self._rescan_s = rescan_s
        self.next_s = 0.0
        self.quick = False
        self._glanced = False  # a quick scan has gone before the full one that is wanted
        self._next_full_s = 0.0
        self._quick_pause_s = rescan_s

    def begin(self, now_s: float, *, wanted: bool, kept: int, told: bool) -> None:
        """Chooses the kind: full where that was asked for or is due, quick where that is enough.

        Among many files a quick scan goes before a full one that is ``wanted``, which is then still
        to be made: new files come first. ``told``: events tell of every file that is written over.
        """
        many = kept > FEW_KEPT
        if wanted and many and not self._glanced:
            self.quick = self._glanced = True
            return
        self.quick = told and many and not wanted and now_s < self._next_full_s
        if not self.quick:
            self._glanced = False

    def end(self, now_s: float, spent_s: float, *, told: bool) -> None:
        """The scan has come to its end, having taken ``spent_s`` for files that are known."""
        if self.quick:
            self._quick_pause_s = quick_pause_s(spent_s, self._rescan_s)
            self.next_s = now_s + self._quick_pause_s
            return
        self._next_full_s = now_s + full_pause_s(spent_s, self._rescan_s)
        self.next_s = self._next_full_s
        if told:
            self.next_s = min(self.next_s, now_s + self._quick_pause_s)

    def fail(self, now_s: float, again_s: float) -> None:
        """The inbox could not be looked into."""
        self.next_s = now_s + min(self._rescan_s, again_s)
