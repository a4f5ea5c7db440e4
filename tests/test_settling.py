"""When the gate calls a file settled, and when it wants to look again, by clocks that are set by hand."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crackwatch.arrivals.gate import (
    Candidate,
    Gate,
    Lease,
    Settled,
    file_system_of,
    is_network,
    probe_lease,
)
from crackwatch.domain import Fingerprint, SettledBy

WALL_S = 1_700_000_000.0  # of the same moment as the monotonic clock's 1000


class Times:
    """Both clocks, set by hand, and a lease as it is wanted; the gate on them."""

    def __init__(self, lease: Lease = Lease.REFUSED, *, network: bool = False) -> None:
        self.now_s = 1000.0
        self.set_by_s = 0.0  # how far somebody has set the wall clock
        self.lease = lease
        self.asked = 0
        self.gate = Gate(
            settle_s=2.0,
            incomplete_s=8.0,
            network=network,
            monotonic=lambda: self.now_s,
            wall=lambda: WALL_S + self.now_s - 1000.0 + self.set_by_s,
            lease=self._probe,
        )

    def _probe(self, descriptor: int) -> Lease:
        assert descriptor == 7
        self.asked += 1
        return self.lease

    def look(self, candidate: Candidate, found: Fingerprint | None = None) -> Settled | None:
        return self.gate.look(candidate, 7, found or written())

    def pauses(self, candidate: Candidate, looks: int) -> list[float]:
        """What lies between so many looks, each made when the one before it wanted it."""
        found = []
        for _ in range(looks):
            assert self.look(candidate) is None
            found.append(round(candidate.next_look_s - self.now_s, 6))
            self.now_s = candidate.next_look_s
        return found


def written(age_s: float = 0.0, size_bytes: int = 5) -> Fingerprint:
    """A file whose last change was so long before the clocks' beginning."""
    at_ns = int((WALL_S - age_s) * 1e9)
    return Fingerprint(size_bytes, 123, at_ns, 1, 42)


def by(settled: Settled | None) -> SettledBy | None:
    return settled and settled.by


# ---------------------------------------------------------------------------------- whole files


def test_a_lease_settles_a_file_at_once() -> None:
    assert Times(Lease.FREE).look(Candidate(b"a")) == Settled(SettledBy.LEASE, waited=False)


def test_without_a_lease_an_event_settles_a_file_at_once_but_on_a_share_it_proves_nothing() -> None:
    local, share = Times(), Times(network=True)
    assert local.look(Candidate(b"a", announced=True)) == Settled(SettledBy.EVENT, waited=False)
    assert share.look(Candidate(b"a", announced=True)) is None
    assert (local.asked, share.asked) == (1, 0)  # a lease proves nothing there either


def test_a_file_nobody_told_of_settles_when_it_has_not_changed_for_settle_s() -> None:
    times = Times()
    candidate = Candidate(b"a")
    assert times.look(candidate) is None
    times.now_s += 1.999
    assert times.look(candidate) is None
    times.now_s += 0.001
    assert times.look(candidate) == Settled(SettledBy.TIME, waited=False)


def test_on_a_share_a_file_has_to_be_watched_for_settle_s_however_old_it_says_it_is() -> None:
    times = Times(network=True)
    candidate, found = Candidate(b"a"), written(age_s=3600)
    assert times.look(candidate, found) is None
    times.now_s += 1.999
    assert times.look(candidate, found) is None
    times.now_s += 0.001
    assert by(times.look(candidate, found)) is SettledBy.TIME


@pytest.mark.parametrize(("age_s", "settles"), [(1.999, False), (2.0, True), (3600.0, True)])
def test_a_local_file_is_as_old_as_its_ctime_says(age_s: float, settles: bool) -> None:
    assert (Times().look(Candidate(b"a"), written(age_s)) is not None) is settles


def test_a_file_from_the_future_has_no_age_and_is_watched() -> None:
    times = Times()
    candidate, found = Candidate(b"a"), written(age_s=-3600)
    assert times.look(candidate, found) is None
    times.now_s += 2.0
    assert by(times.look(candidate, found)) is SettledBy.TIME


@pytest.mark.parametrize("set_by_s", [3600.0, -3600.0])
def test_setting_the_clock_makes_no_file_older(set_by_s: float) -> None:
    times = Times()
    times.set_by_s = set_by_s
    assert times.look(Candidate(b"a"), written(age_s=1.0)) is None


def test_a_clock_that_was_set_forward_leaves_a_file_as_old_as_it_surely_is() -> None:
    times = Times()
    times.set_by_s = 3600.0
    assert times.look(Candidate(b"a"), written(age_s=2.5)) is not None


@pytest.mark.parametrize("network", [False, True])
def test_a_change_begins_the_wait_anew(network: bool) -> None:
    times = Times(network=network)
    candidate = Candidate(b"a")
    assert times.look(candidate) is None
    times.now_s += 1.5
    changed = written(age_s=-1.5, size_bytes=6)
    assert times.look(candidate, changed) is None
    times.now_s += 1.5
    assert times.look(candidate, changed) is None
    times.now_s += 0.5
    assert by(times.look(candidate, changed)) is SettledBy.TIME


def test_whoever_writes_a_file_keeps_it_from_settling_and_what_was_announced_is_void() -> None:
    times = Times(Lease.BUSY)
    candidate = Candidate(b"a", announced=True)
    assert times.look(candidate) is None
    assert candidate.busy and not candidate.announced
    times.now_s += 60.0
    assert times.look(candidate) is None
    times.lease = Lease.FREE
    assert by(times.look(candidate)) is SettledBy.LEASE
    assert not candidate.busy


# ------------------------------------------------------------------------------ incomplete files


def test_an_incomplete_file_has_to_lie_still_for_incomplete_s() -> None:
    times = Times()
    candidate = Candidate(b"a", written(), 1000.0, announced=True, incomplete_as=written())
    times.now_s += 7.999
    assert times.look(candidate) is None
    times.now_s += 0.001
    assert times.look(candidate) == Settled(SettledBy.EVENT, waited=True)


@pytest.mark.parametrize(
    ("lease", "age_s", "settles"),
    [
        (Lease.FREE, 7.999, False),
        (Lease.FREE, 8.0, True),
        (Lease.REFUSED, 3600.0, False),  # somebody may have it open: its ctime proves nothing
    ],
)
def test_where_nobody_has_it_open_an_incomplete_file_has_lain_still_since_its_ctime(
    lease: Lease, age_s: float, settles: bool
) -> None:
    times, found = Times(lease), written(age_s)
    candidate = Candidate(b"a", found, 1000.0, announced=True, incomplete_as=found)
    assert (times.look(candidate, found) is not None) is settles


def test_an_incomplete_file_that_changed_is_read_again_at_once() -> None:
    times = Times(Lease.FREE)
    candidate = Candidate(b"a", written(), 1000.0, incomplete_as=written())
    assert times.look(candidate, written(size_bytes=6)) == Settled(SettledBy.LEASE, waited=False)


def test_an_incomplete_file_that_is_being_written_waits_from_then_on() -> None:
    times = Times(Lease.BUSY)
    candidate = Candidate(b"a", written(), 1000.0, incomplete_as=written())
    times.now_s += 7.0
    assert times.look(candidate) is None
    times.lease, candidate.announced = Lease.REFUSED, True
    times.now_s += 7.0
    assert times.look(candidate) is None
    times.now_s += 1.0
    assert times.look(candidate) == Settled(SettledBy.EVENT, waited=True)


# ------------------------------------------------------------------------------- the next look


def test_a_file_that_is_being_written_is_looked_at_less_and_less_often_up_to_a_second() -> None:
    pauses = Times(Lease.BUSY).pauses(Candidate(b"a"), 8)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_a_file_that_changes_is_looked_at_as_often_as_a_new_one() -> None:
    times = Times(Lease.BUSY)
    candidate = Candidate(b"a")
    times.pauses(candidate, 6)
    assert times.look(candidate, written(size_bytes=6)) is None
    assert round(candidate.next_look_s - times.now_s, 6) == 0.05


def test_a_file_that_has_to_lie_still_is_looked_at_when_it_has() -> None:
    for candidate in (Candidate(b"a"), Candidate(b"a", written(), 1000.0)):
        pauses = Times(network=True).pauses(candidate, 6)
        assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 0.45]  # two seconds together


def test_an_incomplete_file_is_looked_at_when_its_time_is_over() -> None:
    times = Times()
    times.now_s += 0.25
    candidate = Candidate(b"a", written(), 1000.0, announced=True, incomplete_as=written())
    pauses = times.pauses(candidate, 12)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2]


# ------------------------------------------------------------------------- where there are none


def test_leases_are_believed_to_be_had_again_a_minute_after_the_last_refusal() -> None:
    times = Times(Lease.FREE)
    times.look(Candidate(b"a"))
    assert not times.gate.leaseless
    times.lease = Lease.REFUSED
    times.look(Candidate(b"a"))
    times.now_s += 1.0
    times.look(Candidate(b"a"))
    assert times.gate.leaseless and times.gate.leases_refused == 2
    times.now_s += 3600.0
    assert times.gate.leaseless  # nothing has arrived: nobody knows better
    times.lease = Lease.FREE
    times.look(Candidate(b"a"))
    assert not times.gate.leaseless


def test_a_lease_that_was_had_does_not_outweigh_a_refusal_within_the_minute() -> None:
    """Only some files' leases are refused, such as those of another user."""
    times = Times(Lease.REFUSED)
    times.look(Candidate(b"a"))
    times.lease = Lease.FREE
    times.look(Candidate(b"b"))  # in the very same moment
    times.now_s += 60.0
    assert times.gate.leaseless
    times.now_s -= 0.001
    times.look(Candidate(b"b"))
    assert times.gate.leaseless
    times.now_s += 0.001
    assert not times.gate.leaseless


def test_a_share_is_not_called_leaseless() -> None:
    times = Times(network=True)
    times.look(Candidate(b"a"))
    assert times.gate.leases_refused == 0 and not times.gate.leaseless
    times.gate.network = False
    times.look(Candidate(b"a"))
    assert times.gate.leases_refused == 1 and times.gate.leaseless
    times.gate.network = True
    assert not times.gate.leaseless


# -------------------------------------------------------------------------------- real leases


@pytest.fixture
def picture(tmp_path: Path) -> Iterator[int]:
    """A descriptor that reads a real file."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    descriptor = os.open(tmp_path / "a.jpg", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_lease_is_given_back_at_once(tmp_path: Path, picture: int) -> None:
    assert probe_lease(picture) is Lease.FREE
    assert fcntl.fcntl(picture, fcntl.F_GETLEASE) == fcntl.F_UNLCK
    with (tmp_path / "a.jpg").open("ab"):
        assert probe_lease(picture) is Lease.BUSY
    assert probe_lease(picture) is Lease.FREE


def test_what_has_no_leases_refuses_one() -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        assert probe_lease(descriptor) is Lease.REFUSED
    finally:
        os.close(descriptor)


def test_a_writer_that_breaks_a_lease_does_not_end_the_process() -> None:
    program = (
        "import os, signal\n"
        "from crackwatch.arrivals.gate import ignore_lease_signal\n"
        "ignore_lease_signal()\n"
        "os.kill(os.getpid(), signal.SIGIO)\n"
        "print('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


# ------------------------------------------------------------------------------- file systems


def described(tmp_path: Path, *lines: str) -> str:
    file = tmp_path / "mountinfo"
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


def test_the_file_system_is_the_one_that_is_mounted_under_the_files_device(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = described(
        tmp_path,
        "21 1 0:0 / /elsewhere rw,relatime shared:1 - tmpfs tmpfs rw",
        f"22 1 {number} / /somewhere rw,relatime shared:2 - fuse.sshfs who@host:/ rw,user_id=0",
        "23 1 0:1 / /else rw - ext4 /dev/sda1 rw",
    )
    assert file_system_of(os.fsencode(tmp_path), mounts) == "fuse.sshfs"


def test_a_file_system_that_nobody_tells_of_has_no_name(tmp_path: Path) -> None:
    elsewhere = described(tmp_path, "21 1 0:0 / /elsewhere rw,relatime shared:1 - tmpfs tmpfs rw")
    assert file_system_of(os.fsencode(tmp_path), elsewhere) == ""
    assert file_system_of(os.fsencode(tmp_path), str(tmp_path / "never was")) == ""
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        file_system_of(os.fsencode(tmp_path / "never was"), elsewhere)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        *[(name, True) for name in ("nfs", "nfs4", "cifs", "9p", "fuse", "fuse.sshfs", "virtiofs")],
        *[(name, False) for name in ("ext4", "xfs", "tmpfs", "overlay", "fuseblk", "")],
    ],
)
def test_whether_another_machine_may_write_there(name: str, network: Any) -> None:
    assert is_network(name) is network
