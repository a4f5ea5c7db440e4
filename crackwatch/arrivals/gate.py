"""Decides whether a file has settled: whether nobody is writing it any more.

On a local file system a read lease proves it: the kernel grants one only while no descriptor is
open for writing. Where the lease is somebody else's to take, an event that says "closed" or "moved
in" does, with the file unchanged since; a file known only from a scan must stay unchanged for
``settle_s``. A file that turned out incomplete must stay unchanged for ``incomplete_s``.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from crackwatch.domain import Fingerprint, SettledBy

LOOK_AGAIN_S = 0.05  # first look after a refusal; doubles up to the next
_LOOK_AGAIN_MAX_S = 1.0
_LEASES_WELL_S = 60.0  # without a refusal, after which leases are believed to be had again

# where another machine may write, leases and close events prove nothing
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "ceph", "afs", "ncpfs", "lustre"}
    | {"fuse", "virtiofs", "vboxsf", "vmhgfs", "ocfs2", "gfs2", "gpfs", "beegfs"}
)


class Lease(enum.Enum):
    FREE = "free"  # nobody has it open for writing
    BUSY = "busy"  # somebody has
    REFUSED = "refused"  # somebody else's file, or no leases here: nothing is proved


def ignore_lease_signal() -> None:
    """Keeps the signal of a broken lease from ending the process. Main thread only."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def probe_lease(descriptor: int) -> Lease:
    """Asks for a read lease and gives it back at once."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        # EAGAIN from the second: a writer came in between, and the lease has been taken back
        return Lease.BUSY if exc.errno == errno.EAGAIN else Lease.REFUSED
    return Lease.FREE


def file_system_of(path: bytes, mounts: str = "/proc/self/mountinfo") -> str:
    """The type of the file system that holds ``path``, such as "ext4"; "" if it cannot be told."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields, _, rest = line.partition(" - ")
                if fields.split()[2] == wanted:
                    return rest.split()[0]
    except OSError:
        pass
    return ""


def is_network(file_system: str) -> bool:
    """Whether another machine may write there, unseen by this one's kernel."""
    return file_system in NETWORK_FILE_SYSTEMS or file_system.startswith("fuse.")


@dataclass(slots=True)
class Candidate:
    """A file on its way through the gate."""

    source: bytes
    fingerprint: Fingerprint | None = None
    unchanged_since_s: float = 0.0  # monotonic
    announced: bool = False  # an event said closed or moved in since the last change
    incomplete_as: Fingerprint | None = None  # as it was read then, its end was missing
    pause_s: float = LOOK_AGAIN_S  # until the look after the next
    next_look_s: float = 0.0
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    by: SettledBy
    waited: bool


class Gate:
    """A policy: ``look`` says settled, or when to look again. The clocks are injected.

    ``network``, whether another machine may write there, may be set anew: mounts come and go.
    """

    def __init__(
        self,
        *,
        settle_s: float,
        incomplete_s: float,
        network: bool,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        lease: Callable[[int], Lease] = probe_lease,
    ) -> None:
        self._settle_s = settle_s
        self._incomplete_s = incomplete_s
        self.network = network
        self._monotonic = monotonic
        self._wall = wall
        self._lease = lease
        self.leases_refused = 0
        self._refused_s: float | None = None  # monotonic, the last time
        self._answered_s = -math.inf
        self._offset_s = wall() - monotonic()  # changes when somebody sets the clock

    @property
    def leaseless(self) -> bool:
        """Whether local files have to settle by events and time, for the kernel refuses leases.

        True from a refusal until a lease was to be had again, and none was refused for a minute.
        """
        if self.network or self._refused_s is None:
            return False
        well = self._answered_s > self._refused_s
        return not (well and self._monotonic() - self._refused_s >= _LEASES_WELL_S)

    def look(self, candidate: Candidate, descriptor: int, found: Fingerprint) -> Settled | None:
        """Settled, or None with ``candidate.next_look_s`` set. ``found`` is fstat's, just now."""
        now = self._monotonic()
        if candidate.fingerprint != found:
            candidate.fingerprint = found
            candidate.unchanged_since_s = now
            candidate.pause_s = LOOK_AGAIN_S
        lease = Lease.REFUSED if self.network else self._lease(descriptor)
        candidate.busy = lease is Lease.BUSY
        if candidate.busy:
            candidate.unchanged_since_s = now
            candidate.announced = False
            self._later(candidate, now, _LOOK_AGAIN_MAX_S)
            return None
        if lease is not Lease.REFUSED:
            self._answered_s = now
        elif not self.network:
            self.leases_refused += 1
            self._refused_s = now
        by = self._settled_by(candidate, lease, now, found)
        if by is None:
            remaining_s = candidate.unchanged_since_s + self._settle_s - now
            self._later(candidate, now, max(remaining_s, 0.001))
            return None
        if candidate.incomplete_as != found:
            return Settled(by, waited=False)
        quiet_s = now - candidate.unchanged_since_s
        if lease is Lease.FREE:
            # nobody has it open, so its last change is as old as its ctime says
            quiet_s = max(quiet_s, self._age_s(found))
        if quiet_s >= self._incomplete_s:
            return Settled(by, waited=True)
        self._later(candidate, now, self._incomplete_s - quiet_s)
        return None

    def _settled_by(
        self, candidate: Candidate, lease: Lease, now: float, found: Fingerprint
    ) -> SettledBy | None:
        if lease is Lease.FREE:
            return SettledBy.LEASE
        if self.network:
            quiet_s = now - candidate.unchanged_since_s
            return SettledBy.TIME if quiet_s >= self._settle_s else None
        if candidate.announced:
            return SettledBy.EVENT
        quiet_s = max(now - candidate.unchanged_since_s, self._age_s(found))
        return SettledBy.TIME if quiet_s >= self._settle_s else None

    def _age_s(self, found: Fingerprint) -> float:
        """Seconds since the kernel last saw a change of a local file; 0 if clocks disagree.

        At least so many: by what the clock was set forward since, no file has become older.
        """
        wall = self._wall()
        set_forward_s = max(0.0, wall - self._monotonic() - self._offset_s)
        return max(0.0, wall - found.ctime_ns / 1e9 - set_forward_s)

    def _later(self, candidate: Candidate, now: float, at_most_s: float) -> None:
        candidate.next_look_s = now + min(candidate.pause_s, at_most_s)
        candidate.pause_s = min(candidate.pause_s * 2, _LOOK_AGAIN_MAX_S)
