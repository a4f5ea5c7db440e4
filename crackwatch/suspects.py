"""Finds the picture that kills the decoder, and only that one.

The names of the pictures being decoded stand in a small journal. After an unclean end they are
suspects: they are decoded in a child process with limits on time and memory, many together first,
and one by one only if that child dies. Being in flight when the station died is never a reason, nor
is a machine that is too slow: a decoder hangs that spends processor time without coming to an end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from crackwatch.domain import QuarantineReason
from crackwatch.errors import SystemFault, Untried
from crackwatch.escaping import path_bytes, path_text

# MAX_PIXELS, LARGER and the files follow; see crackwatch.images.__main__
CHILD: Final = (sys.executable, "-m", "crackwatch.images", "--try")
PATIENCE_S: Final = 30.0  # for one picture, the child's start included

UNTRIED: Final = "suspects_untried"

_TRIES = 2
# Of its patience in processor time: with less, it was kept waiting.
_HANGING_SHARE = 0.5
_WAITING_SHARE = 0.05  # with less of the time that went by, more time would not help it either
_MOST_PATIENCES = 6  # for a child that gets to the processor now and then
_TOGETHER = 32  # at most in one child: names of 4 KiB must fit its command line
_MORE_FOR_EACH_S = 1.0
_MEMORY_BYTES = 1 << 30  # interpreter and libraries
_MEMORY_BYTES_A_PIXEL = 20  # four floats, and three bytes of the result


class InFlightJournal:
    """A file that names what is being decoded right now. It is not synced: it guards against a
    dying process, not against a power cut.

    Opening it, ``left_over``, ``begin`` and ``end`` raise SystemFault where the disk refuses.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise _fault(exc) from exc

    def left_over(self) -> list[bytes]:
        """What an earlier process was decoding when it ended."""
        try:
            text = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        except OSError as exc:
            raise _fault(exc) from exc
        try:
            names = json.loads(text) if text else []
        except ValueError:
            return []  # cut short while it was being written: no decoding had begun
        if not isinstance(names, list):
            return []
        return [path_bytes(name) for name in names if isinstance(name, str)]

    def begin(self, sources: Sequence[bytes]) -> None:
        names = json.dumps([path_text(each) for each in sources]).encode()
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, names, 0)
        except OSError as exc:
            raise _fault(exc) from exc

    def end(self) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError as exc:
            raise _fault(exc) from exc

    def close(self) -> None:
        os.close(self._descriptor)


def condemn(
    inbox: Path,
    sources: Sequence[bytes],
    max_pixels: int,
    larger: str,
    *,
    command: Sequence[str] = CHILD,
    patience_s: float = PATIENCE_S,
) -> dict[bytes, QuarantineReason]:
    """Those of ``sources`` that twice killed or hung a child of their own, and how.

    Raises SystemFault where no child can be started; Untried, with those that were found by then, as
    soon as a child is kept waiting by the machine.
    """
    found: dict[bytes, QuarantineReason] = {}
    present = [each for each in sources if os.path.lexists(os.path.join(os.fsencode(inbox), each))]

    def end(these: Sequence[bytes]) -> QuarantineReason | None:
        paths = [os.path.join(os.fsencode(inbox), source) for source in these]
        try:
            return _end(
                [*command, str(max_pixels), larger, *paths],
                _memory_bytes(max_pixels),
                patience_s + _MORE_FOR_EACH_S * max(0, len(these) - 1),
            )
        except _KeptWaitingError as exc:
            first = path_text(paths[0]) if paths else "none"
            raise Untried(
                UNTRIED,
                f"pictures that were being decoded when the station last ended cannot be tried: a "
                f"process for {len(these):,} of them (the first: {first}) had {exc.waited_s:.0f} s, "
                f"and {exc.spent_s:.1f} s of processor time",
                "Look at what keeps the machine busy (top, vmstat), and at the inbox's disk or share. "
                "They are tried again by themselves.",
                guilty=found,
            ) from exc

    groups = [present[at : at + _TOGETHER] for at in range(0, len(present), _TOGETHER)]
    suspicious = [source for group in groups if end(group) is not None for source in group]
    if not suspicious or end([]) is not None:
        return {}  # a child that decodes nothing dies as well: the pictures are not to blame
    for source in suspicious:
        how = None
        for _ in range(_TRIES):
            how = end([source])
            if how is None:
                break
        if how is not None:
            found[source] = how
    return found


def _memory_bytes(max_pixels: int) -> int:
    """What the decoding of one picture may take: enough for the biggest that is allowed."""
    return _MEMORY_BYTES + _MEMORY_BYTES_A_PIXEL * max_pixels


def _end(
    command: Sequence[str | bytes], memory_bytes: int, patience_s: float
) -> QuarantineReason | None:
    """How a child came to grief; None if it did not.

    Raises _KeptWaitingError where it did not get to its end, nor to the processor.
    """
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # NumPy's BLAS reserves memory for each core, which on a big machine is all there is
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
    except OSError as exc:
        raise SystemFault(
            "no_child",
            f"no process can be started to try suspicious pictures in: {exc.strerror}",
            "Look at the machine's memory and at the limits on processes.",
        ) from exc
    # from outside, since threads may be running: a function between fork and exec could hang there
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CORE: 0,
        # ends a hanging child even if the station is killed meanwhile
        resource.RLIMIT_CPU: int(2 * patience_s) + 1,
    }
    with child:
        try:
            with contextlib.suppress(ProcessLookupError):
                for what, most in limits.items():
                    _, allowed = resource.getrlimit(what)
                    if allowed != resource.RLIM_INFINITY:
                        most = min(most, allowed)
                    resource.prlimit(child.pid, what, (most, most))
            for turn in range(1, _MOST_PATIENCES + 1):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    done = child.wait(patience_s)
                    return None if done == 0 else QuarantineReason.DECODER_CRASH
                spent_s = _spent_s(child)
                if spent_s >= _HANGING_SHARE * patience_s:
                    return QuarantineReason.DECODER_TIMEOUT
                if spent_s < _WAITING_SHARE * turn * patience_s:
                    break
            raise _KeptWaitingError(turn * patience_s, spent_s)
        finally:
            child.kill()


class _KeptWaitingError(Exception):
    """A child had all its time, but not the processor's, or not its file."""

    def __init__(self, waited_s: float, spent_s: float) -> None:
        super().__init__(waited_s, spent_s)
        self.waited_s = waited_s
        self.spent_s = spent_s


def _spent_s(child: subprocess.Popen[bytes]) -> float:
    """The processor time that a child has had, which nobody has waited for yet."""
    # the clock of another process, clock_getcpuclockid(3): its number is made from the pid
    return time.clock_gettime((~child.pid << 3) | 2)


def _fault(exc: OSError) -> SystemFault:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return SystemFault(
            "disk_full",
            f"the state folder: in-flight.json: {exc.strerror}",
            "Make room on the disk that holds the state folder.",
        )
    return SystemFault(
        "journal_failed",
        f"the state folder: in-flight.json cannot be used: {exc.strerror}",
        "Look at that folder's disk, and at this user's rights on it.",
    )
