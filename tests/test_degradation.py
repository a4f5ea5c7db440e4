"""A running station names what degrades it, in status and in its log, and goes on by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from crackwatch import belonging, packaged
from crackwatch.inbox import FOLDER_MARKER, MARKER
from tests.disks import (
    bound_by_rights,
    mounted,
    out_of_reach,
    read_only,
    small_disk,
    unmount,
)
from tests.test_daemon import Process, crackwatch, drawn, overridden, station

__all__ = ["station"]  # fixtures

pytestmark = pytest.mark.skipif(
    not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
)

MB = 1_000_000
EAGER = ("rescan_s = 60.0", "rescan_s = 0.5")


def problem(station: Process, code: str) -> dict[str, Any] | None:
    problems: list[dict[str, Any]] = station.status()["problems"]
    return next((each for each in problems if each["code"] == code), None)


def named(station: Process, code: str, severity: str) -> None:
    """Waits until status has the problem, and looks that it says all that it should."""
    station.wait_until(lambda: problem(station, code) is not None)
    found = problem(station, code)
    assert found is not None
    assert set(found) == {"code", "severity", "message", "remedy", "since"}
    assert found["severity"] == severity
    assert found["message"] and found["remedy"] and found["since"]
    table = crackwatch("status", "--config", station.config)
    assert f"{severity}: {code}" in table.stdout
    assert table.returncode == (1 if severity == "error" else 0)


def gone(station: Process, code: str) -> None:
    station.wait_until(lambda: problem(station, code) is None)


def logged(station: Process, event: str, code: str) -> bool:
    lines = [line for line in station.log.read_text().splitlines() if line.startswith("{")]
    said = [json.loads(line) for line in lines]
    return any(each["event"] == event and each.get("code") == code for each in said)


def put(station: Process, name: str, *, seed: int = 0) -> None:
    (station.inbox / name).write_bytes(drawn(1, seed=seed)[0])


# ------------------------------------------------------------------------------------- the inbox


def test_an_inbox_that_is_not_mounted_is_waited_for_and_not_taken_for_an_empty_one(
    station: Process,
) -> None:
    share = station.root / "share"
    share.mkdir()
    skip = "a share that comes and goes needs the right to mount"
    (station.inbox / os.fsdecode(MARKER)).unlink()  # below the mount there is just a folder
    with overridden(station, *EAGER), mounted("--bind", share, station.inbox, skip=skip):
        done = crackwatch("init", station.root)
        assert done.returncode == 0 and f"marked    {station.inbox}/" in done.stdout
        station.start()
        put(station, "a.jpg")
        station.wait_until(lambda: station.count() == 1)

        unmount(station.inbox)
        named(station, "inbox_unmarked", "error")
        assert station.status()["state"] == "paused"
        # written to the wrong disk: it would be hidden as soon as the share is back
        put(station, "wrong.jpg", seed=1)
        station.wait_until(lambda: station.status()["inbox_pending"] is None)
        asked = crackwatch("audit", "--config", station.config)
        assert asked.returncode == 2 and "not mounted" in asked.stderr
        assert station.report()["pending"] is None
        assert station.count() == 1
        (station.inbox / "wrong.jpg").unlink()

        subprocess.run(["mount", "--bind", share, station.inbox], check=True)
        put(station, "b.jpg", seed=2)
        station.wait_until(lambda: station.count() == 2)
        gone(station, "inbox_unmarked")
        station.wait_until(lambda: station.status()["state"] == "running")
        assert station.stop()[0] == 0
        assert station.audit()["ok"]
    assert logged(station, "problem", "inbox_unmarked")
    assert logged(station, "problem_cleared", "inbox_unmarked")


def test_another_stations_inbox_waits_until_init_adopts_it(station: Process) -> None:
    with overridden(station, *EAGER):
        station.start()
        elsewhere = station.root / "elsewhere"
        elsewhere.mkdir()
        belonging.adopt(station.inbox, elsewhere, "south")
        put(station, "a.jpg")
        named(station, "inbox_foreign", "error")
        found = problem(station, "inbox_foreign")
        assert found is not None and "'south'" in found["message"]
        assert f"crackwatch init {station.root}" in found["remedy"]
        assert station.count() == 0
        done = crackwatch("init", station.root)
        assert "'south'" in done.stdout
        station.wait_until(lambda: station.count() == 1)
        gone(station, "inbox_foreign")
        assert station.stop()[0] == 0
        assert station.audit()["ok"]


def test_a_station_of_an_earlier_version_goes_on_and_says_what_to_do(station: Process) -> None:
    (station.inbox / os.fsdecode(MARKER)).unlink()
    (station.root / "state" / belonging.IDENTITY_FILE).unlink()
    for folder in ("flagged", "archive", "quarantine"):
        (station.root / folder / os.fsdecode(FOLDER_MARKER)).unlink()
    with overridden(station, *EAGER):
        station.start()
        put(station, "a.jpg")
        station.wait_until(lambda: station.count() == 1)
        named(station, "inbox_unguarded", "warning")
        assert station.status()["state"] == "running"
        assert crackwatch("init", station.root).returncode == 0
        gone(station, "inbox_unguarded")
        put(station, "b.jpg", seed=1)
        station.wait_until(lambda: station.count() == 2)
        assert station.stop()[0] == 0
        assert station.audit()["ok"]


def test_once_gives_up_on_an_inbox_that_stays_away_and_says_why(station: Process) -> None:
    (station.inbox / os.fsdecode(MARKER)).unlink()
    put(station, "a.jpg")
    done = crackwatch(
        *("run", "--once", "--config", station.config),
        CRACKWATCH_WATCH__SETTLE_S="0.2",
        CRACKWATCH_WATCH__INCOMPLETE_S="0.2",
    )
    assert done.returncode == 2
    assert "is it not mounted?" in done.stderr
    assert station.rows() == []


# ------------------------------------------------------- the folders that pictures are moved to


def test_nothing_is_flagged_below_a_mount_point_and_what_is_hidden_is_not_called_gone(
    station: Process,
) -> None:
    disk, flagged = station.root / "disk", station.root / "flagged"
    disk.mkdir()
    cracked = drawn(3)[0], drawn(3, seed=3)[0]
    (flagged / os.fsdecode(FOLDER_MARKER)).unlink()  # below the mount there is just a folder
    skip = "a disk that comes and goes needs the right to mount"
    with overridden(station, *EAGER), mounted("--bind", disk, flagged, skip=skip):
        assert crackwatch("init", station.root).returncode == 0
        station.start(CRACKWATCH_MODEL__THRESHOLD="0.0")  # whatever comes is flagged
        (station.inbox / "a.jpg").write_bytes(cracked[0])
        station.wait_until(lambda: len(list(flagged.glob("*/a.jpg"))) == 1)

        unmount(flagged)
        named(station, "folder_unmarked", "error")  # also while nothing arrives
        assert station.status()["state"] == "paused"
        (station.inbox / "b.jpg").write_bytes(cracked[1])
        station.wait_until(lambda: station.status()["inbox_pending"] == 1)
        for arguments in (["audit"], ["audit", "--repair"]):
            asked = crackwatch(*arguments, "--config", station.config)
            assert asked.returncode == 2 and str(flagged) in asked.stderr
        assert list(flagged.iterdir()) == []
        assert station.count() == 1

        subprocess.run(["mount", "--bind", disk, flagged], check=True)
        station.wait_until(lambda: len(list(flagged.glob("*/*.jpg"))) == 2)
        gone(station, "folder_unmarked")
        station.wait_until(lambda: station.status()["state"] == "running")
        assert station.stop()[0] == 0
        assert station.audit()["ok"]
        assert (station.audit()["vanished"], station.audit()["flagged"]) == (0, 2)
    assert logged(station, "problem", "folder_unmarked")
    assert logged(station, "problem_cleared", "folder_unmarked")


def test_a_folder_that_is_away_at_the_start_is_waited_for_and_not_made(station: Process) -> None:
    flagged = station.root / "flagged"
    flagged.rename(station.root / "disk")
    with overridden(station, *EAGER):
        station.start(wait=False)
        named(station, "folder_missing", "error")
        assert not flagged.exists()
        put(station, "a.jpg")
        (station.root / "disk").rename(flagged)
        station.wait_until(lambda: station.count() == 1)
        gone(station, "folder_missing")
        assert station.stop()[0] == 0
        assert station.audit()["ok"]


# ------------------------------------------------------------------------------------------ disks


def test_a_disk_that_runs_full_pauses_the_station_whose_watchdog_hears_of_it_all_the_same(
    station: Process, tmp_path: Path
) -> None:
    with (
        small_disk(station.root / "flagged", 8 * MB),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
    ):
        assert crackwatch("init", station.root).returncode == 0
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(30)
        station.start(
            CRACKWATCH_LIMITS__MIN_FREE_BYTES=str(4 * MB),
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="20000000",
        )
        filler = station.root / "flagged" / "filler"
        filler.write_bytes(b"x" * 5 * MB)
        put(station, "a.jpg")
        named(station, "disk_low", "error")
        assert station.status()["state"] == "paused"
        channel.setblocking(False)
        with suppress(BlockingIOError):  # what was said before
            while channel.recv(4096):
                pass
        channel.settimeout(30)
        while channel.recv(4096) != b"WATCHDOG=1":
            pass
        assert station.status()["state"] == "paused"
        assert station.count() == 0
        filler.unlink()
        station.wait_until(lambda: station.count() == 1)
        gone(station, "disk_low")
        assert station.rows()[0]["outcome"] in ("normal", "anomaly")
        assert station.stop()[0] == 0


@pytest.mark.parametrize("apart", [False, True])
def test_books_that_turn_read_only_pause_the_station_until_they_can_be_written(
    station: Process, apart: bool
) -> None:
    """``apart``: the database is not beside the status file, which can be written then."""
    folder, url = station.root / "state", ""
    if apart:
        folder = station.root / "books"
        folder.mkdir()
        station.database = folder / "books.db"
        url = f"sqlite:///{station.database}"
        assert crackwatch("init", station.root, CRACKWATCH_DATABASE__URL=url).returncode == 0
    station.start(CRACKWATCH_DATABASE__URL=url)
    with read_only(folder):
        put(station, "a.jpg")
        named(station, "database_readonly", "error")
        assert station.status()["state"] == "paused"
    station.wait_until(lambda: station.count() == 1)
    gone(station, "database_readonly")
    station.wait_until(lambda: station.status()["state"] == "running")
    (row,) = station.rows()
    assert row["outcome"] in ("normal", "anomaly")
    assert station.stop()[0] == 0
    assert logged(station, "problem", "database_readonly")


def test_a_station_whose_folders_are_out_of_reach_for_a_while_waits_and_goes_on(
    station: Process,
) -> None:
    station.command = bound_by_rights(station.command)
    with overridden(station, *EAGER):
        station.start()
        with station.log.open() as log, out_of_reach(station.root.parent):
            said = ""
            deadline = time.monotonic() + 60
            while "folder_unreachable" not in said or "database_unopenable" not in said:
                assert station.child is not None and station.child.poll() is None, said
                assert time.monotonic() < deadline, said
                said += log.read()
                time.sleep(0.1)
        put(station, "a.jpg")
        station.wait_until(lambda: station.count() == 1)
        station.wait_until(lambda: logged(station, "problem_cleared", "database_unopenable"))
        station.wait_until(lambda: logged(station, "problem_cleared", "folder_unreachable"))
        station.wait_until(lambda: not station.status()["problems"])
        assert station.stop()[0] == 0
        assert station.audit()["ok"]


# A station on a disk with places that cannot be read: files named bad*, folders named dead*, for as
# long as the file named by the first argument is there.
ITS_DISK_HAS_BAD_PLACES = """
import errno, os, sys
from crackwatch.cli import main

while_there = sys.argv.pop(1)
read, scandir = os.read, os.scandir

def is_bad(path, what):
    name = os.path.basename(os.fsencode(path))
    return name.startswith(what) and os.path.exists(while_there)

def failing_read(descriptor, size):
    if is_bad(os.readlink(f"/proc/self/fd/{descriptor}"), b"bad"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return read(descriptor, size)

def failing_scandir(path="."):
    if not isinstance(path, int) and is_bad(path, b"dead"):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
    return scandir(path)

os.read, os.scandir = failing_read, failing_scandir
main()
"""


@pytest.fixture
def worn(station: Process) -> Path:
    """The file whose absence mends the station's disk."""
    there = station.root / "bad-places"
    there.touch()
    station.command = [sys.executable, "-c", ITS_DISK_HAS_BAD_PLACES, str(there)]
    return there


def test_a_file_that_the_disk_does_not_give_is_named_and_holds_nobody_up(
    station: Process, worn: Path
) -> None:
    put(station, "bad.jpg")
    station.start(wait=False)
    station.wait_until(lambda: problem(station, "read_failed") is not None)
    found = problem(station, "read_failed")
    assert found is not None and "bad.jpg: reading failed: Input/output error" in found["message"]
    put(station, "a.jpg", seed=1)
    station.wait_until(lambda: station.count() == 1)
    named(station, "unreadable_file", "error")
    gone(station, "read_failed")
    assert station.status()["state"] == "unhealthy"
    assert station.status()["inbox_pending"] == 1
    found = problem(station, "unreadable_file")
    assert found is not None and f"{station.inbox}/bad.jpg (Input/output error)" in found["message"]
    put(station, "b.jpg", seed=2)  # alone in its batch
    station.wait_until(lambda: station.count() == 2)
    worn.unlink()
    station.wait_until(lambda: station.count() == 3)
    gone(station, "unreadable_file")
    assert station.status()["state"] == "running"
    assert {row["outcome"] for row in station.rows()} <= {"normal", "anomaly"}
    assert station.stop()[0] == 0
    assert station.audit()["ok"]


def test_a_file_that_cannot_be_read_and_is_taken_away_is_no_problem_any_more(
    station: Process, worn: Path
) -> None:
    put(station, "bad.jpg")
    station.start(wait=False)
    station.wait_until(lambda: problem(station, "unreadable_file") is not None)
    assert station.status()["state"] == "paused"  # nothing else was there to be read
    (station.inbox / "bad.jpg").unlink()
    station.wait_until(lambda: not station.status()["problems"])
    assert station.status()["state"] == "running"
    assert station.stop()[0] == 0


def test_a_disk_that_gives_no_file_pauses_the_station_until_it_does(
    station: Process, worn: Path
) -> None:
    for index in range(5):
        put(station, f"bad{index}.jpg", seed=index)
    station.start(wait=False)
    named(station, "read_failed", "error")
    time.sleep(5)
    assert station.status()["state"] == "paused"
    assert station.count() == 0
    worn.unlink()
    station.wait_until(lambda: station.count() == 5)
    station.wait_until(lambda: not station.status()["problems"])
    assert station.stop()[0] == 0
    assert station.audit()["ok"]


def test_behind_a_dead_folder_all_is_inspected_and_what_is_in_it_once_it_is_back(
    station: Process, worn: Path
) -> None:
    for folder in ("before", "dead", "last"):
        (station.inbox / folder).mkdir()
        put(station, f"{folder}/a.jpg", seed=len(folder))
    station.start(wait=False)
    station.wait_until(lambda: station.count() == 2)
    named(station, "inbox_partly_unreadable", "error")
    assert station.status()["state"] == "unhealthy"
    found = problem(station, "inbox_partly_unreadable")
    assert found is not None and f"{station.inbox}/dead: " in found["message"]
    worn.unlink()
    station.wait_until(lambda: station.count() == 3)
    gone(station, "inbox_partly_unreadable")
    assert station.stop()[0] == 0
    assert station.audit()["ok"]


@pytest.mark.parametrize(
    ("names", "status", "inspected", "said"),
    [
        (["bad.jpg", "a.jpg"], 0, 1, "bad.jpg (Input/output error)"),
        (["bad.jpg"], 2, 0, "bad.jpg: reading failed: Input/output error"),
        (["dead/a.jpg", "z/a.jpg"], 2, 1, "dead: cannot be looked at"),
    ],
)
def test_once_ends_leaves_what_the_disk_does_not_give_and_says_so(
    station: Process, worn: Path, names: list[str], status: int, inspected: int, said: str
) -> None:
    for seed, name in enumerate(names):
        (station.inbox / name).parent.mkdir(exist_ok=True)
        put(station, name, seed=seed)
    with overridden(station, "incomplete_s = 30.0", "incomplete_s = 3.0"):
        station.start(once=True, wait=False)
        assert station.child is not None
        assert station.child.wait(90) == status, station.log.read_text()
    assert said in station.log.read_text()
    assert station.count() == inspected
    assert station.audit()["pending"] == 1


def test_a_quarantine_that_grows_is_named(station: Process) -> None:
    for index in range(5):
        (station.inbox / f"{index}.jpg").write_bytes(b"no picture %d" % index)
    station.start(CRACKWATCH_LIMITS__QUARANTINED_PER_HOUR="4")
    named(station, "quarantine_growing", "warning")
    found = problem(station, "quarantine_growing")
    assert found is not None and "5 not_an_image" in found["message"]
    assert station.status()["state"] == "running"
    assert station.stop()[0] == 0


# --------------------------------------------------------------------------------------- watching


def test_events_that_the_kernel_dropped_are_named_and_their_pictures_inspected(
    station: Process,
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 40_000:
        pytest.skip(f"the kernel queues {limit} events here: too many to make them overflow")
    station.start()
    assert station.child is not None
    station.child.send_signal(signal.SIGSTOP)
    inbox = os.open(station.inbox, os.O_RDONLY)
    try:  # each of them is two events, and no picture: its name is temporary
        for index in range(limit // 2 + 1_000):
            os.close(os.open(f"{index}.part", os.O_CREAT | os.O_WRONLY, dir_fd=inbox))
    finally:
        os.close(inbox)
    put(station, "a.jpg")
    station.child.send_signal(signal.SIGCONT)
    named(station, "events_lost", "warning")
    station.wait_until(lambda: station.count() == 1)
    gone(station, "events_lost")
    assert station.stop()[0] == 0
    assert logged(station, "problem", "events_lost")


@contextmanager
def without_inotify(station: Process) -> Iterator[list[str]]:
    """The words to begin a command with that gets no inotify: a user namespace has limits of its own."""
    limit = "/proc/sys/user/max_inotify_instances"
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", f'echo 0 > {limit}; exec "$@"']
    probe = subprocess.run(
        [*words, "sh", "cat", limit], capture_output=True, text=True, timeout=30, check=False
    )
    if probe.stdout.strip() != "0":
        pytest.skip(f"no user namespace with limits of its own: {probe.stderr.strip()}")
    yield [*words, "sh"]


def test_a_station_without_watches_polls_and_listens_again_when_there_are_some(
    station: Process,
) -> None:
    with without_inotify(station) as words:
        with station.log.open("ab") as log:
            station.child = subprocess.Popen(
                [*words, sys.executable, "-m", "crackwatch", "run", "--config", station.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        named(station, "watch_limit", "warning")
        assert station.status()["observer"] == "polling"
        put(station, "a.jpg")
        station.wait_until(lambda: station.count() == 1)
        raised = [
            *("nsenter", "--user", "--preserve-credentials", "--target", str(station.child.pid)),
            *("sh", "-c", "echo 64 > /proc/sys/user/max_inotify_instances"),
        ]
        subprocess.run(raised, check=True, timeout=30)
        gone(station, "watch_limit")
        assert station.status()["observer"] == "inotify"
        put(station, "b.jpg", seed=1)
        station.wait_until(lambda: station.count() == 2)
        assert station.stop()[0] == 0


def test_what_keeps_pictures_from_being_deleted_keeps_none_from_being_inspected(
    station: Process,
) -> None:
    in_the_way = station.root / "state" / "departures.lock"
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()  # nobody can open it for writing, root either
    with overridden(station, "every_s = 3600.0", "every_s = 1.0"):
        station.start()
        named(station, "retention_failed", "warning")
        put(station, "a.jpg")
        station.wait_until(lambda: station.count() == 1)
        for _ in range(30):  # it stays up between two tries
            assert problem(station, "retention_failed") is not None
            time.sleep(0.1)
        in_the_way.rmdir()
        gone(station, "retention_failed")
        assert station.stop()[0] == 0


def test_a_station_that_ended_with_an_error_says_why_until_it_runs_again(station: Process) -> None:
    file = station.root / "state" / "crackwatch.db"
    away = file.with_name("away.db")
    file.rename(away)
    assert crackwatch("run", "--config", station.config).returncode == 5
    (told,) = station.status()["problems"]
    assert told["code"] == "ended" and "crackwatch.db" in told["message"] and told["remedy"]
    away.rename(file)
    station.start()
    assert station.status()["problems"] == []
    assert station.stop()[0] == 0
    assert station.status()["problems"] == []
