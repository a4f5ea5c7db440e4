"""Everything in the inbox that has no row is offered, once, when nobody writes it any more."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crackwatch import inbox as inbox_module
from crackwatch.arrivals import intake as intake_module
from crackwatch.arrivals.gate import Candidate, Gate, Lease, probe_lease
from crackwatch.arrivals.intake import Intake
from crackwatch.arrivals.known import Known
from crackwatch.domain import Arrival, Fingerprint, SettledBy
from crackwatch.errors import SystemFault
from crackwatch.inbox import NamePolicy, walk
from tests.disks import another_file_system

POLICY = NamePolicy(["*.jpg"], recursive=True)


class Bench:
    """An intake on a real folder; ``offered`` collects what comes out."""

    def __init__(self, inbox: Path, **options: object) -> None:
        self.inbox = inbox
        self.offered: list[Arrival] = []
        self.faults: list[SystemFault | None] = []
        self.accept = True
        lease = options.pop("lease", probe_lease)
        self.known: Known = options.pop("known", Known())  # type: ignore[assignment]
        settings = {"capacity": 1000, "rescan_s": 3600.0, **options}
        self.gate = Gate(
            settle_s=0.3,
            incomplete_s=0.5,
            network=False,
            lease=lease,  # type: ignore[arg-type]
        )
        self.intake = Intake(
            os.fsencode(inbox),
            POLICY,
            self.gate,
            self.known,
            self._offer,
            on_fault=self.faults.append,
            **settings,  # type: ignore[arg-type]
        )

    def _offer(self, arrival: Arrival, timeout_s: float) -> bool:
        if not self.accept:
            time.sleep(min(timeout_s, 0.01))
            return False
        self.offered.append(arrival)
        return True

    def names(self) -> list[str]:
        return sorted(os.fsdecode(arrival.source) for arrival in self.offered)

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.intake.run)
        thread.start()
        try:
            yield
        finally:
            self.intake.stop()
            thread.join(10)
            assert not thread.is_alive()


def wait_until(true: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_what_is_there_at_the_start_is_found_by_the_scan(inbox: Path) -> None:
    (inbox / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg", ".hidden.jpg", "c.jpg.part", "notes.txt"):
        (inbox / name).write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: len(bench.offered) == 2)
        wait_until(lambda: bool(bench.intake.left_alone()))
    assert bench.names() == ["a.jpg", "sub/b.jpg"]
    assert [each.source for each in bench.intake.left_alone()] == [b"notes.txt"]
    assert {arrival.settled_by for arrival in bench.offered} == {SettledBy.LEASE}


def test_a_file_is_offered_once_while_it_is_in_flight(inbox: Path) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: len(bench.offered) == 1)
        for _ in range(3):
            bench.intake.hint(b"a.jpg", True)
            bench.intake.rescan()
            time.sleep(0.05)
    assert bench.names() == ["a.jpg"]


def test_a_kept_file_is_not_offered_again_until_it_changes(inbox: Path) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: len(bench.offered) == 1)
        bench.intake.kept(bench.offered[0])
        bench.intake.rescan()
        time.sleep(0.2)
        assert len(bench.offered) == 1
        (inbox / "a.jpg").write_bytes(b"other")
        bench.intake.rescan()
        wait_until(lambda: len(bench.offered) == 2)
    assert bench.offered[1].fingerprint.size_bytes == 5


def test_a_name_that_is_free_again_can_arrive_again(inbox: Path) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: len(bench.offered) == 1)
        (inbox / "a.jpg").unlink()
        bench.intake.finished(b"a.jpg")
        (inbox / "a.jpg").write_bytes(b"x")
        bench.intake.hint(b"a.jpg", True)
        wait_until(lambda: len(bench.offered) == 2)


def test_a_file_that_is_being_written_waits_for_its_writer(inbox: Path) -> None:
    bench = Bench(inbox)
    with bench.running(), (inbox / "slow.jpg").open("wb") as writer:
        writer.write(b"begin")
        writer.flush()
        bench.intake.hint(b"slow.jpg", False)
        time.sleep(0.6)
        assert bench.offered == []
        writer.write(b"end")
        writer.close()
        bench.intake.hint(b"slow.jpg", True)
        wait_until(lambda: len(bench.offered) == 1)
    assert bench.offered[0].fingerprint.size_bytes == 8


def test_without_a_lease_an_event_settles_at_once_and_a_scan_after_a_while(inbox: Path) -> None:
    bench = Bench(inbox, lease=lambda _: Lease.REFUSED)
    with bench.running():
        wait_until(lambda: bench.faults == [None])  # the first scan is over
        (inbox / "event.jpg").write_bytes(b"x")
        bench.intake.hint(b"event.jpg", True)
        wait_until(lambda: len(bench.offered) == 1)
        written = time.time()
        (inbox / "scan.jpg").write_bytes(b"x")
        bench.intake.rescan()
        wait_until(lambda: len(bench.offered) == 2)
        assert time.time() - written >= 0.25
    assert [arrival.settled_by for arrival in bench.offered] == [SettledBy.EVENT, SettledBy.TIME]
    assert bench.gate.leases_refused >= 2


def test_an_incomplete_file_comes_back_once_it_has_had_its_time(inbox: Path) -> None:
    (inbox / "cut.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: len(bench.offered) == 1)
        began = time.monotonic()
        bench.intake.unsettled(bench.offered[0], incomplete=True)
        assert bench.intake.held() == 1
        wait_until(lambda: len(bench.offered) == 2)
        assert time.monotonic() - began >= 0.3
    assert [arrival.waited for arrival in bench.offered] == [False, True]


def test_an_incomplete_file_that_goes_on_growing_starts_afresh(inbox: Path) -> None:
    (inbox / "cut.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: len(bench.offered) == 1)
        bench.intake.unsettled(bench.offered[0], incomplete=True)
        with (inbox / "cut.jpg").open("ab") as more:
            more.write(b"rest")
        wait_until(lambda: len(bench.offered) == 2)
    assert bench.offered[1].waited is False
    assert bench.offered[1].fingerprint.size_bytes == 5


def test_pressure_stays_in_the_folder_and_everything_comes_in_the_end(inbox: Path) -> None:
    for index in range(500):
        (inbox / f"{index:03}.jpg").write_bytes(b"x")
    bench = Bench(inbox, capacity=20)
    with bench.running():
        taken: set[bytes] = set()
        while len(taken) < 500:
            wait_until(lambda: len(bench.offered) > len(taken))
            assert bench.intake.held() <= 20
            for arrival in bench.offered[len(taken) :]:
                taken.add(arrival.source)
                bench.intake.kept(arrival)
    assert len(bench.offered) == 500


def test_hints_beyond_the_capacity_are_made_good_by_a_scan(inbox: Path) -> None:
    bench = Bench(inbox, capacity=10)
    with bench.running():
        wait_until(lambda: bench.faults == [None])
        for index in range(100):
            (inbox / f"{index:03}.jpg").write_bytes(b"x")
            bench.intake.hint(f"{index:03}.jpg".encode(), True)
        done: set[bytes] = set()
        while len(done) < 100:
            wait_until(lambda: len(bench.offered) > len(done))
            arrival = bench.offered[len(done)]
            done.add(arrival.source)
            bench.intake.kept(arrival)
        wait_until(bench.intake.hints_needed)
    assert len(set(bench.names())) == 100


def test_files_that_are_written_for_ever_do_not_keep_others_out(inbox: Path) -> None:
    bench = Bench(inbox, capacity=8)
    writers = []
    try:
        for index in range(8):
            writers.append((inbox / f"busy{index}.jpg").open("wb"))
        with bench.running():
            time.sleep(0.2)
            (inbox / "done.jpg").write_bytes(b"x")
            bench.intake.rescan()
            wait_until(lambda: bench.names() == ["done.jpg"])
    finally:
        for writer in writers:
            writer.close()


def test_links_and_pipes_are_left_alone_and_named(inbox: Path) -> None:
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: bench.faults == [None])
        (inbox / "link.jpg").symlink_to("/etc/hostname")
        os.mkfifo(inbox / "pipe.jpg")
        for name in (b"link.jpg", b"pipe.jpg"):
            bench.intake.hint(name, True)
        wait_until(lambda: len(bench.intake.left_alone()) == 2)
        bench.intake.rescan()
        time.sleep(0.1)
    assert {each.source: each.reason.split(":")[0] for each in bench.intake.left_alone()} == {
        b"link.jpg": "a symbolic link",
        b"pipe.jpg": "a named pipe, not a regular file",
    }
    assert bench.offered == []


def test_a_missing_inbox_is_a_fault_that_ends_by_itself(inbox: Path) -> None:
    inbox.rmdir()
    bench = Bench(inbox, rescan_s=0.1)
    with bench.running():
        wait_until(lambda: bool(bench.faults))
        fault = bench.faults[0]
        assert fault is not None and fault.code == "inbox_missing"
        inbox.mkdir()
        (inbox / "a.jpg").write_bytes(b"x")
        wait_until(lambda: bench.names() == ["a.jpg"])
        wait_until(lambda: bench.faults[-1] is None)


def test_an_inbox_that_is_not_the_stations_is_not_looked_into_and_not_called_empty(
    inbox: Path,
) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    looks: list[float] = []
    own = threading.Event()

    def verify(folder: int) -> None:
        looks.append(time.monotonic())
        if not own.is_set():
            raise SystemFault("inbox_unmarked", "not mounted")

    bench = Bench(inbox, verify=verify)
    with bench.running():
        wait_until(lambda: bool(bench.faults))
        bench.intake.hint(b"a.jpg", True)
        bench.intake.rescan()
        before = len(looks)
        time.sleep(1.5)
        assert bench.offered == []
        assert bench.intake.backlog() is None
        with pytest.raises(SystemFault):
            bench.intake.count_backlog()
        # once a second the whole inbox is tried, and once a second the file that was hinted at
        assert len(looks) - before <= 6
        own.set()
        wait_until(lambda: bench.names() == ["a.jpg"])
        wait_until(lambda: bench.faults[-1] is None)
        assert bench.intake.backlog() is not None


def test_a_fault_of_the_inbox_is_over_before_a_long_look_at_it_has_ended(inbox: Path) -> None:
    """With room for one picture, the look at three lasts until somebody takes them."""
    own = threading.Event()

    def verify(folder: int) -> None:
        if not own.is_set():
            raise SystemFault("inbox_unmarked", "not mounted")

    for index in range(3):
        (inbox / f"{index}.jpg").write_bytes(b"x")
    bench = Bench(inbox, verify=verify, capacity=1)
    began_s = time.monotonic()
    with bench.running():
        wait_until(lambda: bool(bench.faults))
        own.set()
        wait_until(lambda: bench.faults[-1] is None)
        assert not bench.intake.looked_since(began_s)
        for count in (1, 2, 3):
            wait_until(lambda count=count: len(bench.offered) == count)  # type: ignore[misc]  # mypy cannot type a lambda's default
            bench.intake.kept(bench.offered[-1])
        wait_until(lambda: bench.intake.looked_since(began_s))


def test_what_cannot_be_read_is_tried_later_and_later_and_takes_nobodys_place(inbox: Path) -> None:
    """With room for one picture, three that the disk does not give keep out no fourth."""
    for name in "abc":
        (inbox / f"{name}.jpg").write_bytes(b"x")
    bench = Bench(inbox, capacity=1)
    intake = bench.intake

    def fails(at: int) -> None:
        """The so manieth offer cannot be read."""
        wait_until(lambda: len(bench.offered) > at)
        intake.unread(bench.offered[at], "Input/output error", 600.0)

    with bench.running():
        for at in range(3):
            fails(at)
        assert len(set(bench.names())) == 3
        assert intake.unread_files() == [] and intake.holds_unread()
        for at in range(3, 9):  # each twice again
            fails(at)
        told = [(name.encode(), "Input/output error") for name in ("a.jpg", "b.jpg", "c.jpg")]
        assert intake.unread_files() == told
        (inbox / "d.jpg").write_bytes(b"x")
        intake.hint(b"d.jpg", True)
        wait_until(lambda: len(bench.offered) == 10)
        assert bench.offered[9].source == b"d.jpg"
        intake.kept(bench.offered[9])
        backlog = intake.backlog()
        assert backlog is not None and backlog.pending == 3
        time.sleep(1.5)
        assert len(bench.offered) == 10  # four seconds later at the earliest
        intake.read_again()
        wait_until(lambda: len(bench.offered) == 13)
        intake.kept(bench.offered[10])
        wait_until(lambda: len(intake.unread_files()) == 2)
        for at in (11, 12):
            fails(at)
        for name in "abc":
            (inbox / f"{name}.jpg").unlink()
        wait_until(lambda: not intake.holds_unread(), 15)


def test_what_could_not_be_read_is_tried_at_once_when_it_was_written_anew(inbox: Path) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        for count in (1, 2, 3):
            wait_until(lambda count=count: len(bench.offered) == count)  # type: ignore[misc]
            bench.intake.unread(bench.offered[-1], "Input/output error", 600.0)
        assert bench.intake.unread_files()
        (inbox / "a.jpg").write_bytes(b"another")
        bench.intake.rescan()
        wait_until(lambda: len(bench.offered) == 4, 2)


def test_a_file_that_cannot_be_opened_is_told_of(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    (inbox / "b.jpg").write_bytes(b"x")
    real = inbox_module.open_beneath

    def failing(folder: int, source: bytes, *rest: int) -> int:
        if source == b"a.jpg":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(folder, source, *rest)

    bench = Bench(inbox)
    monkeypatch.setattr(inbox_module, "open_beneath", failing)
    with bench.running():
        wait_until(lambda: bench.intake.unread_files() == [(b"a.jpg", "Input/output error")], 10)
        assert bench.names() == ["b.jpg"]
        monkeypatch.setattr(inbox_module, "open_beneath", real)
        bench.intake.read_again()
        wait_until(lambda: bench.names() == ["a.jpg", "b.jpg"])
        bench.intake.kept(bench.offered[-1])
        assert not bench.intake.holds_unread()


def test_behind_a_folder_that_the_disk_does_not_give_all_is_found_and_it_when_it_is_back(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "dead", "z"):
        (inbox / name).mkdir()
        (inbox / name / "x.jpg").write_bytes(b"x")
    monkeypatch.setattr(intake_module, "_PROBE_AGAIN_S", 0.3)
    bench = Bench(inbox)
    asked_s = time.monotonic()
    real = os.scandir

    def failing(path: Any = ".") -> Any:
        if isinstance(path, bytes) and path.endswith(b"/dead"):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return real(path)

    monkeypatch.setattr(os, "scandir", failing)
    with bench.running():
        wait_until(lambda: bench.names() == ["a/x.jpg", "z/x.jpg"])
        wait_until(lambda: bool(bench.faults))
        fault = bench.faults[-1]
        assert fault is not None and fault.code == "inbox_partly_unreadable"
        for each in list(bench.offered):
            bench.intake.kept(each)
        time.sleep(1.0)
        assert bench.intake.backlog() is None  # what lies there is not nothing
        assert not bench.intake.looked_since(asked_s)
        assert len(bench.faults) == 1  # the whole inbox is not gone through again for it
        monkeypatch.setattr(os, "scandir", real)
        wait_until(lambda: len(bench.offered) == 3)
        assert bench.names() == ["a/x.jpg", "dead/x.jpg", "z/x.jpg"]
        wait_until(lambda: bench.faults[-1] is None)
        wait_until(lambda: bench.intake.looked_since(asked_s))


def test_an_inbox_on_another_file_system_is_judged_by_that_one(inbox: Path) -> None:
    """A share was not mounted when the station started: the gate had been told of what lay below."""
    with another_file_system(than=inbox) as share:
        (share / "a.jpg").write_bytes(b"x")
        link = inbox.with_name("by-another-name")
        link.symlink_to(inbox)
        bench = Bench(link)
        bench.gate.network = True  # as if the empty folder lay on a share, and the disk on it not
        link.unlink()
        link.symlink_to(share)
        with bench.running():
            wait_until(lambda: bench.names() == ["a.jpg"])
        assert not bench.gate.network
        assert bench.offered[0].settled_by is SettledBy.LEASE


class Many:
    """So many kept files that a quick scan is worth its while, and a bench that knows them."""

    COUNT = 10_001

    def __init__(self, inbox: Path, **options: object) -> None:
        self.inbox = inbox
        folder = os.open(inbox, os.O_RDONLY)
        for index in range(self.COUNT):
            os.close(os.open(f"{index:05}.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.close(folder)
        self.full_s = 0.0
        self.bench = Bench(inbox, **{"spent": self.spent, **options})
        self.bench.known.update(
            (entry.source, entry.fingerprint) for entry in walk(os.fsencode(inbox), POLICY)
        )

    def whole_look(self) -> None:
        """Waits for a full scan from now on; no other is under way or wanted then."""
        asked_s = time.monotonic()
        intake = self.bench.intake
        intake.rescan()
        wait_until(lambda: intake.looked_since(asked_s) and intake.backlog() is not None, 30)

    def spent(self) -> float:
        """A clock by which a stretch of a folder takes a second in a full scan, else nothing."""
        self.full_s += 0.0 if self.bench.intake._pace.quick else 1.0
        return self.full_s


def test_among_many_kept_files_a_new_one_is_found_by_its_name_and_a_changed_one_by_a_full_scan(
    inbox: Path,
) -> None:
    many = Many(inbox, rescan_s=0.05)
    bench = many.bench
    with bench.running():
        bench.intake.events_tell(True)
        many.whole_look()
        assert bench.offered == []
        with (inbox / "00007.jpg").open("ab") as file:  # neither its name nor its inode changes
            file.write(b"changed")
        (inbox / "new.jpg").write_bytes(b"x")
        wait_until(lambda: bench.names() == ["new.jpg"], 30)
        time.sleep(0.3)
        assert bench.intake.count_backlog().pending == 1
        assert bench.names() == ["new.jpg"]
        many.whole_look()
        wait_until(lambda: bench.names() == ["00007.jpg", "new.jpg"], 30)


def test_without_events_that_tell_of_everything_each_scan_is_a_full_one(inbox: Path) -> None:
    many = Many(inbox, rescan_s=0.05, spent=lambda: 0.0)
    bench = many.bench
    with bench.running():
        many.whole_look()
        with (inbox / "00007.jpg").open("ab") as file:
            file.write(b"changed")
        wait_until(lambda: bench.names() == ["00007.jpg"], 30)


def test_scans_that_take_long_are_made_less_often(inbox: Path) -> None:
    """By a clock that says of each stretch of a folder that it took a second."""
    clock = itertools.count()
    many = Many(inbox, rescan_s=0.05, spent=lambda: float(next(clock)))
    bench = many.bench
    with bench.running():
        bench.intake.events_tell(True)
        many.whole_look()
        (inbox / "new.jpg").write_bytes(b"x")
        time.sleep(0.5)
        assert bench.offered == []
        bench.intake.hint(b"new.jpg", True)  # what is told of comes at once all the same
        wait_until(lambda: bench.names() == ["new.jpg"], 30)


def test_files_that_were_incomplete_when_the_clock_was_set_forward_are_not_older_for_it(
    inbox: Path,
) -> None:
    (inbox / "half.jpg").write_bytes(b"x")
    ahead_s = 0.0
    gate = Gate(settle_s=2.0, incomplete_s=30.0, network=False, wall=lambda: time.time() + ahead_s)
    with (inbox / "half.jpg").open("rb") as file:
        found = Fingerprint.of(os.fstat(file.fileno()))
        candidate = Candidate(b"half.jpg", found, time.monotonic(), incomplete_as=found)
        assert gate.look(candidate, file.fileno(), found) is None
        ahead_s = 3600.0
        assert gate.look(candidate, file.fileno(), found) is None
        ahead_s = -3600.0
        assert gate.look(candidate, file.fileno(), found) is None
        # after a restart nobody knows that it was set: what its ctime says is all there is
        later = Gate(
            settle_s=2.0, incomplete_s=30.0, network=False, wall=lambda: time.time() + 3600.0
        )
        settled = later.look(candidate, file.fileno(), found)
    assert settled is not None and settled.waited


def test_whatever_is_done_or_tried_is_progress(inbox: Path) -> None:
    beats: list[float] = []
    bench = Bench(inbox, progress=lambda: beats.append(time.monotonic()))
    bench.accept = False  # the queue is full: a pause downstream
    (inbox / "a.jpg").write_bytes(b"x")
    with bench.running():
        wait_until(lambda: len(beats) > 20)


def test_once_ends_when_nothing_is_left_and_does_not_wait_for_a_writer_for_ever(
    inbox: Path,
) -> None:
    for index in range(30):
        (inbox / f"{index}.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with (inbox / "busy.jpg").open("wb"):
        worker = threading.Thread(target=bench.intake.run_once, args=(0.5,))
        worker.start()
        wait_until(lambda: len(bench.offered) == 30)
        for arrival in bench.offered:
            bench.intake.kept(arrival)
        worker.join(5)
    assert not worker.is_alive()
    assert len(bench.offered) == 30


def test_while_a_scan_that_was_only_due_goes_on_the_backlog_is_told_from_memory(
    inbox: Path,
) -> None:
    many = Many(inbox, rescan_s=0.02, spent=lambda: 0.0)
    intake = many.bench.intake
    with many.bench.running():
        many.whole_look()
        scans_before, told = intake._scans_done, []
        while intake._scans_done < scans_before + 5:
            told.append(intake.backlog())
            time.sleep(0.001)
    assert all(each is not None and each.pending == 0 for each in told)
    assert len(told) > 20


def test_while_a_scan_is_held_up_by_a_full_memory_the_backlog_is_not_told_from_it(
    inbox: Path,
) -> None:
    bench = Bench(inbox, capacity=8, rescan_s=0.02)
    with bench.running():
        wait_until(lambda: bench.intake.backlog() is not None)
        for index in range(30):
            (inbox / f"{index}.jpg").write_bytes(b"x")
        wait_until(lambda: len(bench.offered) == 8)
        wait_until(lambda: bench.intake.backlog() is None)
        time.sleep(0.1)
        assert bench.intake.backlog() is None
        assert bench.intake.count_backlog().pending == 30


def test_the_backlog_counts_what_has_no_row(inbox: Path) -> None:
    for index in range(5):
        (inbox / f"{index}.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: len(bench.offered) == 5)
        bench.intake.kept(bench.offered[0])
        wait_until(lambda: bench.intake.backlog() is not None)
        backlog = bench.intake.backlog()
        assert backlog is not None
        counted = bench.intake.count_backlog()
    assert backlog.pending == counted.pending == 4
    assert counted.oldest_ns == backlog.oldest_ns


# --------------------------------------------------------------------------------- how it waits


def test_whatever_is_told_wakes_it_at_once(inbox: Path) -> None:
    """Each of four is told to a sleeper that would sleep for a second; the luckiest counts."""

    def hint(bench: Bench) -> None:
        bench.intake.hint(b"a.jpg", True)

    def rescan(bench: Bench) -> None:
        bench.intake.rescan()

    for tell in (hint, rescan):
        took_s = []
        for _ in range(3):
            (inbox / "a.jpg").write_bytes(b"x")
            bench = Bench(inbox)
            with bench.running():
                wait_until(lambda bench=bench: len(bench.offered) == 1)  # type: ignore[misc]
                (inbox / "a.jpg").unlink()
                bench.intake.finished(b"a.jpg")
                wait_until(lambda bench=bench: bench.intake.backlog() is not None)  # type: ignore[misc]
                time.sleep(0.05)
                (inbox / "a.jpg").write_bytes(b"again")
                began = time.monotonic()
                tell(bench)
                wait_until(lambda bench=bench: len(bench.offered) == 2)  # type: ignore[misc]
                took_s.append(time.monotonic() - began)
                time.sleep(0.05)
                stopping = time.monotonic()
            took_s[-1] = max(took_s[-1], time.monotonic() - stopping)
        assert min(took_s) < 0.5


def test_a_hint_without_room_waits_without_a_stir_and_is_taken_as_soon_as_there_is_some(
    inbox: Path,
) -> None:
    beats: list[float] = []
    took_s = []
    for _ in range(3):
        for name in ("a.jpg", "b.jpg"):
            (inbox / name).write_bytes(b"x")
        bench = Bench(inbox, capacity=2, progress=lambda: beats.append(time.monotonic()))
        with bench.running():
            wait_until(lambda bench=bench: len(bench.offered) == 2)  # type: ignore[misc]
            bench.intake.hint(b"c.jpg", True)
            (inbox / "c.jpg").write_bytes(b"x")
            time.sleep(0.1)
            before = len(beats)
            time.sleep(0.1)
            assert len(beats) - before <= 5
            assert bench.intake.held() == 2
            began = time.monotonic()
            bench.intake.kept(bench.offered[0])
            wait_until(lambda bench=bench: len(bench.offered) == 3)  # type: ignore[misc]
            took_s.append(time.monotonic() - began)
            assert bench.intake.held() == 2
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            (inbox / name).unlink()
    assert min(took_s) < 0.5


def test_an_idle_intake_and_one_that_cannot_look_hardly_stir(inbox: Path) -> None:
    beats: list[float] = []
    bench = Bench(inbox, progress=lambda: beats.append(time.monotonic()))
    with bench.running():
        wait_until(lambda: bench.faults == [None])
        before = len(beats)
        for _ in range(3):  # what is not there is looked at, and is progress all the same
            bench.intake.hint(b"never was.jpg", True)
            time.sleep(0.05)
        assert before + 3 <= len(beats) <= before + 12
        inbox.rmdir()
        bench.intake.hint(b"a.jpg", True)
        wait_until(lambda: bench.faults[-1] is not None)
        before = len(beats)
        time.sleep(0.3)
        assert len(beats) - before <= 5


def test_what_was_looked_at_and_is_no_arrival_is_held_no_longer(inbox: Path) -> None:
    (inbox / "kept.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: len(bench.offered) == 1)
        bench.intake.kept(bench.offered[0])
        (inbox / "link.jpg").symlink_to("kept.jpg")
        (inbox / "folder.jpg").mkdir()
        for name in (b"never was.jpg", b"kept.jpg", b"link.jpg", b"folder.jpg"):
            bench.intake.hint(name, True)
        wait_until(lambda: len(bench.intake.left_alone()) == 1)
        wait_until(lambda: bench.intake.held() == 0)
    assert bench.names() == ["kept.jpg"]


def test_what_nobody_took_is_let_go_at_the_end(inbox: Path) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    bench = Bench(inbox)
    bench.accept = False
    with bench.running():
        wait_until(lambda: bench.intake.held() == 1)
        time.sleep(0.05)
    assert bench.intake.held() == 0 and bench.offered == []


# ----------------------------------------------------------------------------- what it can hold


def test_before_the_first_look_nobody_knows_what_waits_and_every_hint_is_wanted(
    inbox: Path,
) -> None:
    bench = Bench(inbox)
    assert bench.intake.backlog() is None
    assert bench.intake.hints_needed()
    assert not bench.intake.looked_since(0.0)
    with bench.running():
        wait_until(lambda: bench.intake.backlog() is not None)
        assert bench.intake.looked_since(0.0)


def test_no_more_hints_are_held_than_files_and_one_that_is_held_may_be_told_again(
    inbox: Path,
) -> None:
    bench = Bench(inbox, capacity=3)
    for name in (b"0.jpg", b"1.jpg", b"2.jpg", b"0.jpg", b"notes.txt"):
        bench.intake.hint(name, True)
        assert bench.intake.hints_needed()
    bench.intake.hint(b"3.jpg", True)
    assert not bench.intake.hints_needed()
    for name in ("0.jpg", "1.jpg", "2.jpg", "3.jpg"):
        (inbox / name).write_bytes(b"x")
    with bench.running():  # the first look finds the one that was lost
        wait_until(bench.intake.hints_needed)
        wait_until(lambda: len(bench.offered) == 3)
        bench.intake.kept(bench.offered[0])
        wait_until(lambda: len(bench.offered) == 4)


def test_a_hint_that_was_lost_is_made_good_by_a_look_that_nobody_else_asked_for(
    inbox: Path,
) -> None:
    bench = Bench(inbox, capacity=1)
    with bench.running():
        wait_until(lambda: bench.intake.backlog() is not None)
        (inbox / "a.jpg").write_bytes(b"x")
        bench.intake.hint(b"a.jpg", True)
        wait_until(lambda: len(bench.offered) == 1)
        for name in ("b.jpg", "c.jpg"):
            (inbox / name).write_bytes(b"x")
            bench.intake.hint(name.encode(), True)
        for count in (2, 3):
            bench.intake.kept(bench.offered[-1])
            wait_until(lambda count=count: len(bench.offered) == count)  # type: ignore[misc]
        bench.intake.kept(bench.offered[-1])
        wait_until(bench.intake.hints_needed)
        wait_until(lambda: bench.intake.backlog() is not None)


def test_no_more_than_two_hundred_of_what_is_left_alone_are_named(inbox: Path) -> None:
    for index in range(203):
        (inbox / f"{index}.txt").write_bytes(b"x")
    bench = Bench(inbox)
    with bench.running():
        wait_until(lambda: bench.intake.backlog() is not None)
        assert len(bench.intake.left_alone()) == 200
        for index in range(203):
            (inbox / f"{index}.txt").unlink()
            (inbox / f"{index}.jpg").symlink_to("nowhere")
        bench.intake.rescan()
        wait_until(lambda: {each.source[-4:] for each in bench.intake.left_alone()} == {b".jpg"})
        assert len(bench.intake.left_alone()) == 200
    told = Bench(inbox, capacity=300)
    for index in range(203):  # before the folder is looked at, one by one
        told.intake.hint(b"%d.jpg" % index, True)
    with told.running():
        wait_until(lambda: told.intake.held() == 0 and told.intake.backlog() is not None)
        assert len(told.intake.left_alone()) == 200


# ---------------------------------------------------------------------------------- its faults


class Failing(Known):
    """The disk fails in the middle of a look, until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.mended = False
        self.looks = 0

    def hold(self, digests: Sequence[int]) -> list[bool]:
        self.looks += 1
        if not self.mended:
            raise SystemFault("inbox_io", "the disk fails")
        return super().hold(digests)


def test_a_fault_in_the_middle_of_a_look_is_over_when_one_has_come_to_its_end(
    inbox: Path,
) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    known = Failing()
    bench = Bench(inbox, known=known, rescan_s=0.1)
    with bench.running():
        wait_until(lambda: known.looks >= 3)
        assert None not in bench.faults and bench.intake.backlog() is None
        bench.intake.rescan()  # not at once, however much it is wanted
        looks = known.looks
        time.sleep(0.05)
        assert known.looks <= looks + 1
        known.mended = True
        wait_until(lambda: bench.faults[-1] is None)
        wait_until(lambda: bench.names() == ["a.jpg"])
        assert bench.faults.count(None) == 1
        inbox.rename(inbox.with_name("away"))  # a fault of another kind is over at once again
        wait_until(lambda: bench.faults[-1] is not None)


def test_once_gives_up_on_an_inbox_that_is_not_there_when_its_patience_ends(inbox: Path) -> None:
    inbox.rmdir()
    bench = Bench(inbox, rescan_s=0.05)
    began = time.monotonic()
    with pytest.raises(SystemFault):
        bench.intake.run_once(0.4)
    assert 0.4 <= time.monotonic() - began < 4


def test_once_is_patient_with_an_inbox_that_comes_back(inbox: Path) -> None:
    inbox.rmdir()
    bench = Bench(inbox, rescan_s=0.05)
    mended = threading.Timer(0.2, inbox.mkdir)
    mended.start()
    bench.intake.run_once(5.0)
    mended.join()
    assert bench.faults[-1] is None


def test_once_looks_through_an_empty_inbox_twice_and_no_more(inbox: Path) -> None:
    took_s = []
    for _ in range(3):
        looks: list[int] = []
        began = time.monotonic()
        Bench(inbox, verify=looks.append).intake.run_once(30.0)
        took_s.append(time.monotonic() - began)
        assert len(looks) == 2
    assert min(took_s) < 0.9  # it does not sleep in between


def test_once_waits_for_what_is_with_others_longer_than_for_whoever_writes(
    inbox: Path,
) -> None:
    bench = Bench(inbox)
    with (inbox / "a.jpg").open("wb"):
        bench.intake.run_once(0.1)
        assert bench.offered == []
    bench = Bench(inbox)
    worker = threading.Thread(target=bench.intake.run_once, args=(0.1,))
    worker.start()
    wait_until(lambda: len(bench.offered) == 1)
    time.sleep(0.3)
    assert worker.is_alive()  # it is being judged
    bench.intake.kept(bench.offered[0])
    worker.join(5)
    assert not worker.is_alive()
