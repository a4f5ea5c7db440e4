"""Whatever a producer puts in the inbox, or swaps there, nothing outside is read, moved or lost."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crackwatch import inbox
from crackwatch.config_file import load
from crackwatch.decoding import CROP_BYTES, Cost, Decoder
from crackwatch.domain import Arrival, Fingerprint, SettledBy
from crackwatch.errors import Unsettled
from crackwatch.escaping import path_bytes, path_text
from tests.hostile.test_words import NASTY
from tests.station import Station, jpeg

POLICY = inbox.NamePolicy(["*"], recursive=True)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path / "station")


# -------------------------------------------------------------------------------------- names


def test_names_that_would_act_are_files_like_any_other(station: Station) -> None:
    names = [name.replace(b"/", b"_") for name in NASTY]
    good, bad = names[::2], names[1::2]
    for number, name in enumerate(good):
        station.put(name, jpeg(dark=True, seed=number))
    for name in bad:
        station.put(name, b"=no picture, but for a spreadsheet a formula")
    station.inspect(*names)
    assert sorted(row["source"] for row in station.rows()) == sorted(names)
    assert os.listdir(station.inbox) == []
    day = os.listdir(os.fsencode(station.root / "flagged"))[0]
    assert set(os.listdir(os.path.join(os.fsencode(station.root / "flagged"), day))) == set(good)
    quarantined = os.path.join(os.fsencode(station.root / "quarantine"), day)
    assert set(os.listdir(quarantined)) == {*bad, *(name + b".json" for name in bad)}
    for name in bad:
        with open(os.path.join(quarantined, name + b".json"), "rb") as sidecar:
            told = json.load(sidecar)
        assert path_bytes(told["source"]) == name and told["source"] == path_text(name)


# --------------------------------------------------------------------- what is no ordinary file


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def a_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # gives zeros for ever
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        pytest.skip("needs root on a file system that allows devices")


ODD = [a_pipe, a_folder, a_link, a_link_to_nothing, a_link_to_a_device, a_socket, a_device]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("make", ODD)
def test_what_is_no_ordinary_file_is_neither_offered_nor_read(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "a.jpg")
    told: list[inbox.LeftAlone] = []
    assert list(inbox.walk(os.fsencode(tmp_path), POLICY, told.append)) == []
    assert make is a_folder or [each.source for each in told] == [b"a.jpg"]
    before = descriptors()
    folder = inbox.open_folder(os.fsencode(tmp_path))
    try:
        with pytest.raises(Unsettled):  # even where the hints are those of what stands there now
            inbox.read(folder, b"a.jpg", Fingerprint.of(os.lstat(tmp_path / "a.jpg")), 1 << 20)
    finally:
        os.close(folder)
    assert descriptors() == before


@pytest.mark.parametrize("make", ODD)
def test_asking_what_a_picture_costs_is_as_careful(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "config.toml").touch()
    cost = Cost(
        Decoder(load(tmp_path / "config.toml", {})), os.fsencode(tmp_path), 1 << 20, lambda: None
    )
    make(tmp_path / "a.jpg")
    then = Fingerprint(1_000, 0, 0, 0, 0)  # as it was when it settled: an ordinary file
    before = descriptors()
    for _ in range(5):
        arrival = Arrival(b"a.jpg", then, datetime.now(UTC), SettledBy.LEASE)
        assert cost(arrival) == CROP_BYTES
    assert descriptors() == before


# ----------------------------------------------------------------------------------- hard links


@pytest.mark.parametrize("normal", ["keep", "archive", "delete"])
def test_two_names_of_one_file_are_two_arrivals_and_each_name_is_dealt_with(
    tmp_path: Path, normal: str
) -> None:
    station = Station(tmp_path / "station", normal=normal)
    for dark in (True, False):
        outside = tmp_path / f"outside-{dark}.jpg"
        outside.write_bytes(jpeg(dark=dark))
        for name in ("a", "b"):
            os.link(outside, station.inbox / f"{name}-{dark}.jpg")
    station.inspect("a-True.jpg", "b-True.jpg", "a-False.jpg", "b-False.jpg")
    rows = station.rows()
    assert [row["outcome"] for row in rows] == ["anomaly", "anomaly", "normal", "normal"]
    assert [row["duplicate_of"] for row in rows] == [None, rows[0]["id"], None, rows[2]["id"]]
    held = {Path(each).name for each in station.files() if not each.startswith("inbox/")}
    kept = {Path(each).name for each in station.files() if each.startswith("inbox/")}
    normals = {"a-False.jpg", "b-False.jpg"}
    assert held == {"a-True.jpg", "b-True.jpg"} | (normals if normal == "archive" else set())
    assert kept == (normals if normal == "keep" else set())
    for dark in (True, False):  # the name outside was not ours to touch
        assert (tmp_path / f"outside-{dark}.jpg").read_bytes() == jpeg(dark=dark)


# ---------------------------------------------------------------------------- swapped meanwhile


class Swapper:
    """Puts one thing after another under one name, each by a rename, as fast as it can."""

    def __init__(self, path: Path, secret: Path, contents: list[bytes]) -> None:
        self._path = path
        self._fresh = path.with_name("fresh")
        self._makers: list[Callable[[Path], object]] = [
            *(lambda at, content=each: at.write_bytes(content) for each in contents),
            lambda at: at.symlink_to(secret),
            os.mkfifo,
            lambda at: os.link(secret.parent / "other", at),
            Path.mkdir,
        ]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            for make in self._makers:
                make(self._fresh)
                if self._fresh.is_dir() and not self._fresh.is_symlink():
                    self._path.unlink(missing_ok=True)
                self._fresh.rename(self._path)
                time.sleep(0.0003)
                if self._path.is_dir() and not self._path.is_symlink():
                    shutil.rmtree(self._path)

    def __enter__(self) -> Swapper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def test_swapped_between_looking_and_opening_it_is_whole_and_never_from_outside(
    folder: Path, tmp_path: Path
) -> None:
    contents = [b"A" * 50_000, b"B" * 50_000]
    secret = tmp_path / "secret"
    secret.write_bytes(b"S" * 50_000)
    (tmp_path / "other").write_bytes(b"C" * 50_000)  # linked in: a producer's own file
    path = folder / "a.jpg"
    path.write_bytes(contents[0])
    folder_fd = inbox.open_folder(os.fsencode(folder))
    read = refused = 0
    before = descriptors()
    deadline = time.monotonic() + 20
    with Swapper(path, secret, contents):
        while (read < 40 or refused < 40) and time.monotonic() < deadline:
            try:
                expected = Fingerprint.of(os.lstat(path))
                found = inbox.read(folder_fd, b"a.jpg", expected, 1 << 20)
            except (Unsettled, FileNotFoundError):
                refused += 1
                continue
            assert found.data in (*contents, b"C" * 50_000)
            read += 1
    os.close(folder_fd)
    assert descriptors() == before - 1
    assert read >= 40 and refused >= 40
