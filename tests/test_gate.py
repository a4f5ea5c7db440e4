"""Nobody writes a settled file any more: proved by a lease, said by an event, or told by time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from crackwatch.arrivals.gate import (
    Candidate,
    Gate,
    Lease,
    Settled,
    file_system_of,
    ignore_lease_signal,
    is_network,
    probe_lease,
)
from crackwatch.domain import Fingerprint, SettledBy

SETTLE_S, INCOMPLETE_S = 2.0, 30.0
NOW_S = 1_763_000_000.0


class Bench:
    """A gate with clocks that are turned by hand and a lease that answers as it is told."""

    def __init__(self, lease: Lease = Lease.FREE, *, network: bool = False) -> None:
        self.lease = lease
        self.elapsed_s = 0.0
        self.asked = 0
        self.gate = Gate(
            settle_s=SETTLE_S,
            incomplete_s=INCOMPLETE_S,
            network=network,
            monotonic=lambda: 500.0 + self.elapsed_s,
            wall=lambda: NOW_S + self.elapsed_s,
            lease=self._answer,
        )
        self.candidate = Candidate(b"a.jpg")
        self.found = self.changed_just_now()

    def _answer(self, descriptor: int) -> Lease:
        self.asked += 1
        return self.lease

    def changed_just_now(self, size_bytes: int = 10) -> Fingerprint:
        at_ns = int((NOW_S + self.elapsed_s) * 1e9)
        return Fingerprint(size_bytes, at_ns, at_ns, 1, 2)

    def look(self) -> Settled | None:
        return self.gate.look(self.candidate, 0, self.found)

    def wait(self, seconds: float) -> None:
        self.elapsed_s += seconds

    def settles_after_s(self, at_most_s: float = 120.0) -> tuple[float, Settled]:
        """Looks as often as the gate asks for, until it settles."""
        began = self.elapsed_s
        while self.elapsed_s - began < at_most_s:
            settled = self.look()
            if settled is not None:
                return round(self.elapsed_s - began, 2), settled
            next_s = self.candidate.next_look_s - (500.0 + self.elapsed_s)
            assert 0 < next_s <= 1.0, "it looks at least once a second, and never spins"
            self.wait(next_s)
        pytest.fail("it never settled")


def test_a_lease_settles_at_once() -> None:
    assert Bench(Lease.FREE).look() == Settled(SettledBy.LEASE, waited=False)


def test_a_writer_is_waited_for_however_long_it_takes() -> None:
    bench = Bench(Lease.BUSY)
    bench.candidate.announced = True
    for _ in range(200):
        assert bench.look() is None
        bench.wait(1.0)
    assert bench.candidate.busy
    bench.lease = Lease.FREE
    assert bench.look() == Settled(SettledBy.LEASE, waited=False)
    assert not bench.candidate.busy


def test_looks_at_a_writer_grow_rarer_up_to_one_a_second() -> None:
    bench = Bench(Lease.BUSY)
    waits = []
    for _ in range(8):
        bench.look()
        waits.append(round(bench.candidate.next_look_s - (500.0 + bench.elapsed_s), 3))
        bench.wait(waits[-1])
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_an_event_said_before_a_writer_came_says_nothing_any_more() -> None:
    bench = Bench(Lease.BUSY)
    bench.candidate.announced = True
    bench.look()
    bench.lease = Lease.REFUSED
    assert bench.look() is None


def test_without_a_lease_an_event_settles_at_once() -> None:
    bench = Bench(Lease.REFUSED)
    bench.candidate.announced = True
    assert bench.look() == Settled(SettledBy.EVENT, waited=False)
    assert bench.gate.leases_refused == 1


def test_without_a_lease_and_an_event_time_settles() -> None:
    after_s, settled = Bench(Lease.REFUSED).settles_after_s()
    assert settled == Settled(SettledBy.TIME, waited=False)
    assert SETTLE_S <= after_s <= SETTLE_S + 0.01


def test_time_begins_anew_with_every_change() -> None:
    bench = Bench(Lease.REFUSED)
    for size in range(20, 25):
        assert bench.look() is None
        bench.wait(1.9)
        bench.found = bench.changed_just_now(size)
    assert bench.settles_after_s()[0] >= SETTLE_S


def test_a_local_file_that_has_lain_there_for_long_need_not_wait_again() -> None:
    bench = Bench(Lease.REFUSED)
    bench.wait(3600)
    assert bench.look() == Settled(SettledBy.TIME, waited=False)


def test_a_clock_that_was_set_back_settles_nothing_too_early_and_nothing_too_late() -> None:
    bench = Bench(Lease.REFUSED)
    bench.found = replace(bench.found, ctime_ns=bench.found.ctime_ns + 3600 * 10**9)
    assert SETTLE_S <= bench.settles_after_s()[0] <= SETTLE_S + 0.01


def test_on_a_network_neither_lease_nor_event_nor_ctime_prove_anything() -> None:
    bench = Bench(Lease.FREE, network=True)
    bench.candidate.announced = True
    bench.wait(3600)
    after_s, settled = bench.settles_after_s()
    assert settled == Settled(SettledBy.TIME, waited=False)
    assert SETTLE_S <= after_s <= SETTLE_S + 0.01
    assert bench.asked == 0


@pytest.mark.parametrize("lease", [Lease.FREE, Lease.REFUSED])
@pytest.mark.parametrize("network", [False, True])
def test_an_incomplete_file_waits_for_its_end_and_is_then_given_up(
    lease: Lease, network: bool
) -> None:
    bench = Bench(lease, network=network)
    bench.settles_after_s()
    bench.candidate.incomplete = True
    began = bench.elapsed_s
    after_s, settled = bench.settles_after_s()
    assert settled.waited
    assert INCOMPLETE_S - SETTLE_S - 0.1 <= bench.elapsed_s - began <= INCOMPLETE_S + 0.1
    assert after_s >= INCOMPLETE_S - SETTLE_S - 0.1


def test_an_incomplete_file_that_grows_is_a_file_like_any_other_again() -> None:
    bench = Bench(Lease.FREE)
    bench.look()
    bench.candidate.incomplete = True
    assert bench.look() is None
    bench.wait(5)
    bench.found = bench.changed_just_now(11)
    assert bench.look() == Settled(SettledBy.LEASE, waited=False)


def test_an_incomplete_file_found_at_the_start_has_had_its_time_already() -> None:
    bench = Bench(Lease.FREE)
    bench.wait(INCOMPLETE_S)
    bench.candidate.incomplete = True
    bench.candidate.fingerprint = bench.found
    bench.candidate.unchanged_since_s = 500.0 + bench.elapsed_s
    assert bench.look() == Settled(SettledBy.LEASE, waited=True)


# ----------------------------------------------------------------------------- the real kernel


@contextmanager
def writer(path: Path, mode: str = "ab") -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the file open, and closes it when its standard input ends."""
    program = "import sys; f = open(sys.argv[1], sys.argv[2]); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdout.readline()
        yield process
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def lease_on(path: Path) -> Lease:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return probe_lease(descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"picture")
    if lease_on(path) is Lease.REFUSED:
        pytest.skip(f"{file_system_of(os.fsencode(tmp_path))} grants no leases")
    return path


def test_the_kernel_knows_who_is_writing(file: Path) -> None:
    assert lease_on(file) is Lease.FREE
    with writer(file):
        assert lease_on(file) is Lease.BUSY
        assert lease_on(file) is Lease.BUSY
    assert lease_on(file) is Lease.FREE


def test_readers_are_in_nobodys_way(file: Path) -> None:
    with writer(file, "rb"):
        assert lease_on(file) is Lease.FREE


def test_a_writer_that_dies_has_stopped_writing(file: Path) -> None:
    with writer(file) as process:
        process.kill()
        process.wait(10)
        assert lease_on(file) is Lease.FREE


def test_a_probe_keeps_no_writer_waiting(file: Path) -> None:
    """A lease that were kept would hold the next writer up for 45 seconds."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        assert probe_lease(descriptor) is Lease.FREE
        began = time.monotonic()
        with writer(file):
            assert time.monotonic() - began < 20
    finally:
        os.close(descriptor)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that is somebody else's")
def test_a_lease_on_somebody_elses_file_is_refused(file: Path) -> None:
    file.chmod(0o666)
    descriptor = os.open(file, os.O_RDONLY)
    os.seteuid(65534)
    try:
        assert probe_lease(descriptor) is Lease.REFUSED
    finally:
        os.seteuid(0)
        os.close(descriptor)


def test_a_pipe_has_no_lease() -> None:
    readable, writable = os.pipe()
    try:
        assert probe_lease(readable) is Lease.REFUSED
    finally:
        os.close(readable)
        os.close(writable)


@pytest.mark.parametrize("ignored", [True, False])
def test_a_lease_that_is_broken_ends_a_process_only_where_its_signal_is_not_ignored(
    file: Path, ignored: bool
) -> None:
    program = f"""
import fcntl, os, sys, subprocess
from crackwatch.arrivals.gate import ignore_lease_signal
if {ignored}:
    ignore_lease_signal()
held = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_RDLCK)
breaker = subprocess.Popen([sys.executable, "-c", "import sys; open(sys.argv[1], 'ab')", sys.argv[1]])
while True:
    try:
        breaker.wait(0.1)
        break
    except subprocess.TimeoutExpired:
        if fcntl.fcntl(held, fcntl.F_GETLEASE) == fcntl.F_UNLCK:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            breaker.wait()  # once only: a lease that is gone cannot be given back again
            break
print("lived")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, timeout=60, check=False
    )
    assert (done.stdout == b"lived\n") is ignored
    assert (done.returncode == 0) is ignored


def test_a_writer_that_comes_while_the_lease_is_given_back_is_a_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel takes a lease back from who is too slow: giving it back then fails."""
    import errno
    import fcntl

    def raced(descriptor: int, command: int, kind: int) -> int:
        if kind == fcntl.F_UNLCK:
            raise OSError(errno.EAGAIN, "it is not yours any more")
        return 0

    monkeypatch.setattr(fcntl, "fcntl", raced)
    assert probe_lease(0) is Lease.BUSY


def test_ignoring_the_signal_may_be_asked_for_again() -> None:
    import signal

    before = signal.getsignal(signal.SIGIO)
    try:
        ignore_lease_signal()
        ignore_lease_signal()
        assert signal.getsignal(signal.SIGIO) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGIO, before)


# -------------------------------------------------------------------------------- file systems


def test_a_file_systems_type_is_read_from_the_mounts(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:1 / /proc rw - proc proc rw\n"
        f"36 35 {number} /r /mnt\\040with\\040space rw,noatime shared:1 master:2 - nfs4 host:/r rw\n"
    )
    assert file_system_of(os.fsencode(tmp_path), str(mounts)) == "nfs4"
    mounts.write_text("22 1 0:1 / /proc rw - proc proc rw\n")
    assert file_system_of(os.fsencode(tmp_path), str(mounts)) == ""
    assert file_system_of(os.fsencode(tmp_path), str(tmp_path / "missing")) == ""


def test_this_machines_proc_is_a_proc() -> None:
    assert file_system_of(b"/proc") == "proc"


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("ext4", False),
        ("xfs", False),
        ("btrfs", False),
        ("tmpfs", False),
        ("overlay", False),
        ("fuseblk", False),
        ("", False),
        ("nfs", True),
        ("nfs4", True),
        ("cifs", True),
        ("smb3", True),
        ("9p", True),
        ("virtiofs", True),
        ("fuse.sshfs", True),
    ],
)
def test_where_another_machine_may_write(name: str, network: bool) -> None:
    assert is_network(name) is network
