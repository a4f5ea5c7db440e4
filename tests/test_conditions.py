"""What a station looks at beside its work is told while it lasts, and no longer."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from crackwatch import config_file
from crackwatch.arrivals.gate import Candidate, Gate, Lease, probe_lease
from crackwatch.conditions import Conditions
from crackwatch.domain import Fingerprint
from crackwatch.errors import StoreError, SystemFault
from crackwatch.health.board import Board
from crackwatch.store.quarantined import quarantined_since
from tests.disks import as_an_ordinary_user, out_of_reach, read_only, small_disk
from tests.station import Station, jpeg

MB = 1_000_000


class Bench:
    """The conditions of a real station; ``look`` lets enough time go by for another look."""

    def __init__(self, root: Path, text: str = "", **replaced: Callable[..., object]) -> None:
        self.station = Station(root)
        (root / "config.toml").write_text(text)
        self.settings = config_file.load(root / "config.toml", {})
        for _, folder in self.settings.folders:
            folder.mkdir(exist_ok=True)
        self.board = Board()
        self.now_s = 1_000.0
        self.leaseless = False
        parts: dict[str, Callable[..., object]] = {
            "leaseless": lambda: self.leaseless,
            "quarantined_since": lambda since: quarantined_since(
                self.settings.database_file, "station", since
            ),
            **replaced,
        }
        self.conditions = Conditions(
            self.settings,
            self.board,
            monotonic=lambda: self.now_s,
            **parts,  # type: ignore[arg-type]  # the two callables that it asks for
        )

    def look(self) -> dict[str, str]:
        """The problems that there are, by code, with their severity."""
        self.now_s += 60
        self.conditions.tend()
        return {each.code: each.severity for each in self.board.problems()}

    def message(self, code: str) -> str:
        (found,) = (each for each in self.board.problems() if each.code == code)
        assert found.remedy
        return found.message


def test_a_station_in_order_has_nothing_to_tell(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "[limits]\nmin_free_bytes = 1")
    assert bench.look() == {}
    bench.conditions.require_room()


# ------------------------------------------------------------------------------------------ disks

LIMITS = "[limits]\nmin_free_bytes = 4_000_000\n"


def test_a_disk_that_the_station_fills_pauses_it_before_it_is_full_and_no_longer(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, LIMITS)
    with small_disk(tmp_path / "flagged", 8 * MB):
        assert bench.look() == {}
        filler = tmp_path / "flagged" / "filler"
        filler.write_bytes(b"x" * 5 * MB)
        assert bench.look() == {"disk_low": "error"}
        assert str(tmp_path / "flagged") in bench.message("disk_low")
        assert "4.0 MB" in bench.message("disk_low")
        with pytest.raises(SystemFault) as caught:
            bench.conditions.require_room()
        assert caught.value.code == "disk_low"
        filler.unlink()
        assert bench.look() == {}
        bench.conditions.require_room()


def test_a_picture_more_or_less_does_not_end_the_pause(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LIMITS)
    with small_disk(tmp_path / "quarantine", 8 * MB):
        filler = tmp_path / "quarantine" / "filler"
        filler.write_bytes(b"x" * 4_100_000)
        assert bench.look() == {"disk_low": "error"}
        os.truncate(filler, 3_900_000)  # over the limit, not by a tenth
        assert bench.look() == {"disk_low": "error"}
        os.truncate(filler, 3_500_000)
        assert bench.look() == {}


def test_a_disk_that_the_station_does_not_fill_is_a_warning(tmp_path: Path) -> None:
    """The camera's disk is emptied by inspecting, not filled; that of the models by training."""
    bench = Bench(tmp_path, LIMITS)
    for name in ("inbox", "models", "archive"):
        with small_disk(tmp_path / name, 2 * MB):
            assert bench.look() == {"disk_scarce": "warning"}, name
            bench.conditions.require_room()
        assert bench.look() == {}


def test_an_archive_is_filled_by_a_station_that_archives(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LIMITS + "[files]\nnormal = 'archive'\n")
    with small_disk(tmp_path / "archive", 2 * MB):
        assert bench.look() == {"disk_low": "error"}


@pytest.mark.parametrize(("normal", "code"), [("keep", "disk_low"), ("delete", "disk_scarce")])
def test_a_full_disk_that_inspecting_empties_does_not_pause_it(
    tmp_path: Path, normal: str, code: str
) -> None:
    """All folders on one disk: normals that are deleted give back more than rows take."""
    root = tmp_path / "station"
    root.mkdir()
    with small_disk(root, 4 * MB):
        assert Bench(root, f"{LIMITS}[files]\nnormal = '{normal}'\n").look().keys() == {code}


def test_one_disk_with_many_folders_is_told_once(tmp_path: Path) -> None:
    root = tmp_path / "station"
    root.mkdir()
    with small_disk(root, 4 * MB):
        bench = Bench(root, LIMITS)
        assert len(bench.conditions.disks()) == 1
        bench.look()
        assert bench.message("disk_low").count("free on the disk of") == 1


def test_without_a_limit_no_disk_is_low(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "[limits]\nmin_free_bytes = 0")
    with small_disk(tmp_path / "flagged", MB):
        (tmp_path / "flagged" / "filler").write_bytes(b"x" * 900_000)
        assert bench.look() == {}


def test_a_folder_that_is_not_there_is_no_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "[limits]\nmin_free_bytes = 1")
    bench.settings.folders.inbox.rmdir()
    assert bench.look() == {}


# ------------------------------------------------------------------------------------------ books


def test_books_on_a_disk_that_turned_read_only_are_told_before_a_picture_comes(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, "[limits]\nmin_free_bytes = 1")
    with read_only(tmp_path / "state"):
        assert bench.look() == {"database_readonly": "error"}
        assert str(tmp_path / "state") in bench.message("database_readonly")
    assert bench.look() == {}


def test_books_without_the_right_to_write_are_told() -> None:
    with as_an_ordinary_user() as folder:
        bench = Bench(folder, "[limits]\nmin_free_bytes = 1")
        bench.settings.database_file.chmod(0o444)
        assert bench.look() == {"database_readonly": "error"}
        bench.settings.database_file.chmod(0o644)
        assert bench.look() == {}


def test_folders_that_cannot_be_reached_are_named_until_they_can_be() -> None:
    with as_an_ordinary_user() as above:
        folder = above / "station"
        folder.mkdir()
        bench = Bench(folder, "[limits]\nmin_free_bytes = 1")
        with out_of_reach(folder):
            assert bench.look() == {"database_unopenable": "error", "folder_unreachable": "warning"}
            assert f"{folder / 'state'}: cannot be looked at" in bench.message(
                "database_unopenable"
            )
            assert f"{folder / 'flagged'} (Permission denied)" in bench.message(
                "folder_unreachable"
            )
        assert bench.look() == {}


def test_books_that_can_be_reached_again_but_not_written_are_another_problem() -> None:
    with as_an_ordinary_user() as above:
        folder = above / "station"
        folder.mkdir()
        bench = Bench(folder, "[limits]\nmin_free_bytes = 1")
        with out_of_reach(folder):
            bench.look()
        bench.settings.database_file.chmod(0o444)
        assert bench.look() == {"database_readonly": "error"}


def test_what_the_inspector_told_of_the_books_is_not_cleared_by_a_look_at_them(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, "[limits]\nmin_free_bytes = 1")
    bench.board.report("database_readonly", "error", "SQLite says so")
    assert bench.look() == {"database_readonly": "error"}


# -------------------------------------------------------------------------------------- quarantine


def test_a_quarantine_that_grows_is_told_with_its_reasons_until_it_stops(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "[limits]\nmin_free_bytes = 1\nquarantined_per_hour = 3")
    station = bench.station
    for index in range(3):
        station.put(f"{index}.jpg", b"no picture, %d" % index)
    station.put("good.jpg", jpeg(dark=False))
    station.inspect("0.jpg", "1.jpg", "2.jpg", "good.jpg")
    assert bench.look() == {}
    station.put("3.jpg", jpeg(dark=False)[:500])
    station.inspect("3.jpg", waited=True)
    assert bench.look() == {"quarantine_growing": "warning"}
    message = bench.message("quarantine_growing")
    assert message.startswith("4 pictures") and "the limit is 3" in message
    assert "3 not_an_image" in message and "1 truncated" in message
    with closing(sqlite3.connect(station.database)) as books, books:  # an hour goes by
        books.execute("UPDATE inspections SET inspected_at = inspected_at - 3600000001")
    assert bench.look() == {}


def test_without_a_limit_the_books_are_not_even_asked(tmp_path: Path) -> None:
    def asked(since: datetime) -> dict[str, int]:
        raise AssertionError("the books were asked")

    text = "[limits]\nmin_free_bytes = 1\nquarantined_per_hour = 0"
    assert Bench(tmp_path, text, quarantined_since=asked).look() == {}


def test_books_that_cannot_be_read_change_nothing_about_what_was_told(tmp_path: Path) -> None:
    said: list[dict[str, int]] = [{"truncated": 100}]

    def asked(since: datetime) -> dict[str, int]:
        if said:
            return said.pop()
        raise StoreError("cannot be read")

    bench = Bench(tmp_path, "[limits]\nmin_free_bytes = 1", quarantined_since=asked)
    assert bench.look() == {"quarantine_growing": "warning"}
    assert bench.look() == {"quarantine_growing": "warning"}


# ------------------------------------------------------------------------------------------ leases


def test_leases_that_the_kernel_refuses_are_told_until_they_are_to_be_had(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "[limits]\nmin_free_bytes = 1")
    bench.leaseless = True
    assert bench.look() == {"lease_refused": "warning"}
    assert "2 s without change" in bench.message("lease_refused")
    bench.leaseless = False
    assert bench.look() == {}


class Looked:
    """A gate with the kernel's own leases, and files of different owners to look at."""

    def __init__(self, *, network: bool = False) -> None:
        self.now_s = 1_000.0
        self.gate = Gate(
            settle_s=2.0,
            incomplete_s=30.0,
            network=network,
            monotonic=lambda: self.now_s,
            lease=probe_lease,
        )

    def at(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self.gate.look(Candidate(b"a"), descriptor, Fingerprint.of(os.fstat(descriptor)))
        finally:
            os.close(descriptor)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_file_of_somebody_else_has_no_lease_and_one_of_ours_has() -> None:
    with tempfile.TemporaryDirectory(prefix="crackwatch-test-") as shared:
        os.chmod(shared, 0o755)
        theirs = Path(shared) / "theirs.jpg"
        theirs.write_bytes(b"x")
        with as_an_ordinary_user() as folder:
            looked = Looked()
            ours = folder / "ours.jpg"
            ours.write_bytes(b"x")
            looked.at(ours)
            assert not looked.gate.leaseless
            looked.at(theirs)
            assert looked.gate.leaseless
            looked.now_s += 30
            looked.at(ours)
            assert looked.gate.leaseless  # files of both come: half of them still settle by time
            looked.now_s += 31
            assert not looked.gate.leaseless


def test_one_refusal_stands_until_a_lease_was_to_be_had(tmp_path: Path) -> None:
    answers = [Lease.REFUSED, Lease.FREE]
    now_s = [1_000.0]
    gate = Gate(
        settle_s=2.0,
        incomplete_s=30.0,
        network=False,
        monotonic=lambda: now_s[0],
        lease=lambda _: answers.pop(0),
    )
    file = tmp_path / "a.jpg"
    file.write_bytes(b"x")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        found = Fingerprint.of(os.fstat(descriptor))
        gate.look(Candidate(b"a"), descriptor, found)
        now_s[0] += 3_600  # a quiet hour proves nothing
        assert gate.leaseless
        gate.look(Candidate(b"a"), descriptor, found)
        assert not gate.leaseless
    finally:
        os.close(descriptor)


def test_where_leases_prove_nothing_their_absence_is_no_news(tmp_path: Path) -> None:
    looked = Looked(network=True)
    file = tmp_path / "a.jpg"
    file.write_bytes(b"x")
    looked.at(file)
    assert not looked.gate.leaseless
