"""The system calls below filing: a rename that replaces nothing, and syncs that leak nothing."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crackwatch import syncing
from crackwatch.filing import durable
from tests.disks import another_file_system


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    with another_file_system(tmp_path) as folder:
        yield folder


@pytest.fixture(params=["renameat2", "without"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system that can rename without replacing, and one that says it cannot.

    The second is patched in: none that refuses can be mounted by an ordinary test.
    """
    ctypes.set_errno(0)  # else what an earlier test left there would pass for the kernel's
    if request.param == "without":

        class Refusing:
            def renameat2(self, *_: object) -> int:
                ctypes.set_errno(errno.EINVAL)
                return -1

        monkeypatch.setattr(durable, "_libc", Refusing())
    return str(request.param)


def b(path: Path) -> bytes:
    return os.fsencode(path)


def test_a_rename_moves_the_file_and_leaves_one_name(tmp_path: Path, kernel: str) -> None:
    (tmp_path / "a").write_bytes(b"picture")
    inode = (tmp_path / "a").stat().st_ino
    durable.rename_noreplace(b(tmp_path / "a"), b(tmp_path / "b"))
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").stat().st_ino == inode


@pytest.mark.parametrize("occupant", ["file", "empty", "folder", "dangling link"])
def test_nothing_that_has_the_name_is_ever_replaced(
    tmp_path: Path, kernel: str, occupant: str
) -> None:
    source, destination = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"picture")
    if occupant == "folder":
        destination.mkdir()
    elif occupant == "dangling link":
        destination.symlink_to("nowhere")
    else:
        destination.write_bytes(b"" if occupant == "empty" else b"somebody's")
    before = destination.lstat()
    with pytest.raises(FileExistsError) as caught:
        durable.rename_noreplace(b(source), b(destination))
    assert source.read_bytes() == b"picture"
    assert destination.lstat().st_ino == before.st_ino
    assert b(destination) in (caught.value.filename, caught.value.filename2)


def test_a_missing_source_leaves_no_trace(tmp_path: Path, kernel: str) -> None:
    with pytest.raises(FileNotFoundError):
        durable.rename_noreplace(b(tmp_path / "a"), b(tmp_path / "b"))
    assert os.listdir(tmp_path) == []


def test_a_missing_source_is_what_is_wrong_even_where_the_name_is_taken(
    tmp_path: Path, kernel: str
) -> None:
    (tmp_path / "b").write_bytes(b"somebody's")
    with pytest.raises(FileNotFoundError):
        durable.rename_noreplace(b(tmp_path / "a"), b(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"somebody's"


def test_relative_names_are_those_of_the_working_folder(
    tmp_path: Path, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    durable.rename_noreplace(b"a", b"b")
    assert os.listdir(tmp_path) == ["b"]


def test_a_file_system_is_synced_through_a_folder_of_it_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # which would wait for a writer
    with pytest.raises(NotADirectoryError):
        durable.syncfs(b(tmp_path / "pipe"))


def test_a_rename_that_fails_leaves_no_reservation(tmp_path: Path, kernel: str) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(OSError, match="No such file"):
        durable.rename_noreplace(b(tmp_path / "a"), b(tmp_path / "missing" / "b"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"Invalid argument|Not a directory"):
        durable.rename_noreplace(b(tmp_path / "folder"), b(tmp_path / "folder" / "in itself"))
    assert sorted(os.listdir(tmp_path)) == ["a", "folder"]
    assert os.listdir(tmp_path / "folder") == []


def test_across_file_systems_the_error_says_so(
    tmp_path: Path, other_file_system: Path, kernel: str
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(OSError, match="cross-device") as caught:
        durable.rename_noreplace(b(tmp_path / "a"), b(other_file_system / "b"))
    assert caught.value.errno == errno.EXDEV
    assert os.listdir(other_file_system) == []


def test_a_reservation_is_an_empty_private_regular_file_and_nothing_else(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("ours", "full", "public", "pipe", "link")}
    os.close(os.open(paths["ours"], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    paths["full"].write_bytes(b"x")
    paths["full"].chmod(0o600)
    paths["public"].touch()
    os.mkfifo(paths["pipe"], 0o600)
    paths["link"].symlink_to(paths["ours"])
    found = {name for name, path in paths.items() if durable.is_reservation(path.lstat())}
    assert found == {"ours"}


def test_a_folder_that_is_gone_or_has_become_a_file_needs_no_sync(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    syncing.fsync_folder(b(tmp_path / "never was"))
    syncing.fsync_folder(b(tmp_path / "file"))
    syncing.fsync_folder(b(tmp_path / "file" / "below"))


def test_a_sync_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        durable.syncfs(b(tmp_path / "never was"))


def test_syncs_and_renames_leave_no_descriptor_open(tmp_path: Path, kernel: str) -> None:
    before = os.listdir("/proc/self/fd")
    for index in range(20):
        (tmp_path / f"{index}").touch()
        durable.rename_noreplace(b(tmp_path / f"{index}"), b(tmp_path / f"{index}.moved"))
        syncing.fsync_folder(b(tmp_path))
    if kernel == "renameat2":
        durable.syncfs(b(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == len(before)
