"""Whatever stands in the inbox, only settled regular files are read, and nothing leads out of it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from crackwatch import inbox
from crackwatch.domain import Fingerprint, QuarantineReason
from crackwatch.errors import PartlyUnreadable, ReadFault, SystemFault, Unreadable, Unsettled
from crackwatch.inbox import LeftAlone, NamePolicy
from tests.disks import as_an_ordinary_user

POLICY = NamePolicy(["*.jpg", "*.png"], recursive=True)
MAX_BYTES = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "inbox"
    made.mkdir()
    return made


@pytest.fixture
def folder_fd(folder: Path) -> Iterator[int]:
    descriptor = inbox.open_folder(os.fsencode(folder))
    yield descriptor
    os.close(descriptor)


def walked(folder: Path, policy: NamePolicy = POLICY) -> tuple[set[bytes], dict[bytes, str]]:
    left: dict[bytes, str] = {}

    def leave(what: LeftAlone) -> None:
        left[what.source] = what.reason

    return {entry.source for entry in inbox.walk(os.fsencode(folder), policy, leave)}, left


def fingerprint(path: Path) -> Fingerprint:
    return Fingerprint.of(path.lstat())


# --------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        (b"a.jpg", True),
        (b"A.JPG", True),
        (b"sub/deep/a.jpg", True),
        (b"line\nbreak.jpg", True),
        (b"latin-\xff\xfe.jpg", True),
        ("日本.png".encode(), True),
        (b"a.txt", False),
        (b"a.jpg.txt", False),
        (b"jpg", False),
        (b".hidden.jpg", False),
        (b"~lock.jpg", False),
        (b"a.jpg.part", False),
        (b"a.jpg.TMP", False),
        (b".hidden/a.jpg", False),
        (b"coming.tmp/a.jpg", False),
        (b"../a.jpg", False),
        (b".crackwatch-7.gone", False),
        (inbox.MARKER, False),
        (b"f/" * inbox.MAX_DEPTH + b"a.jpg", True),
        (b"f/" * (inbox.MAX_DEPTH + 1) + b"a.jpg", False),
    ],
)
def test_what_is_a_pictures_name(name: bytes, accepted: bool) -> None:
    assert POLICY.accepts(name) is accepted


def test_only_the_inbox_itself_where_it_is_not_recursive(folder: Path) -> None:
    flat = NamePolicy(["*.jpg"], recursive=False)
    (folder / "sub").mkdir()
    (folder / "sub/a.jpg").touch()
    (folder / "b.jpg").touch()
    assert not flat.accepts(b"sub/a.jpg")
    assert walked(folder, flat) == ({b"b.jpg"}, {})


def test_a_pattern_may_hold_several_stars_and_other_letters() -> None:
    policy = NamePolicy(["cam*_*.jp*g", "prüf*.png"], recursive=True)
    assert policy.accepts(b"cam1_0007.jpeg")
    assert policy.accepts("prüf 7.png".encode())
    assert not policy.accepts(b"cam1.jpeg")


# -------------------------------------------------------------------------------------- walking


def test_a_walk_finds_pictures_and_says_what_it_leaves_alone(folder: Path) -> None:
    (folder / "sub/deeper").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    pictures = [b"a.jpg", b"line\nbreak.jpg", b"latin-\xff.jpg", b"sub/b.png", b"sub/deeper/c.jpg"]
    for name in [*pictures, b"notes.txt", b".a.jpg", b"b.jpg.part", b".hidden/c.jpg"]:
        with open(os.path.join(os.fsencode(folder), name), "xb") as file:
            file.write(name)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link.jpg").symlink_to("a.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.jpg"))
        found, left = walked(folder)
    assert found == set(pictures)
    assert left == {
        b"notes.txt": "its name matches none of files.patterns",
        b"pipe.jpg": "a named pipe, not a regular file",
        b"socket.jpg": "a socket, not a regular file",
        b"link.jpg": "a symbolic link: it is never followed",
        b"dangling.jpg": "a symbolic link: it is never followed",
    }


def test_a_walk_tells_what_stat_says(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"12345")
    (entry,) = inbox.walk(os.fsencode(folder), POLICY)
    assert entry.fingerprint == fingerprint(folder / "a.jpg")


def test_a_linked_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.jpg").touch()
    (folder / "sub").symlink_to(tmp_path / "outside")
    (folder / "itself").symlink_to(folder)
    found, left = walked(folder)
    assert found == set()
    assert set(left) == {b"sub", b"itself"}


def test_folders_and_files_that_vanish_during_a_walk_end_their_part_of_it(folder: Path) -> None:
    for index in range(20):
        (folder / f"{index}").mkdir()
        (folder / f"{index}/a.jpg").touch()
    walk = inbox.walk(os.fsencode(folder), POLICY)
    first = next(walk)
    for each in folder.iterdir():
        shutil.rmtree(each)
    (folder / "new.jpg").touch()
    assert {first.source, *(entry.source for entry in walk)} <= {first.source, b"new.jpg"}


def test_folders_without_end_do_not_use_up_the_descriptors(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY)
    for _ in range(inbox.MAX_DEPTH + 40):
        os.mkdir("f", dir_fd=at)
        below = os.open("f", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("a.jpg", os.O_CREAT, dir_fd=at))
    os.close(at)
    (folder / "z.jpg").touch()
    found, left = walked(folder)
    assert found == {b"z.jpg"}
    assert list(left.values()) == [inbox.TOO_DEEP]


def test_a_walk_that_is_given_up_leaves_nothing_open(folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg", "sub/c.jpg"):
        (folder / name).touch()
    before = len(os.listdir("/proc/self/fd"))
    walk = inbox.walk(os.fsencode(folder), POLICY)
    next(walk)
    walk.close()  # type: ignore[attr-defined]  # a generator
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_may_not_be_read_is_left_alone_and_the_rest_is_found() -> None:
    with as_an_ordinary_user() as folder:
        (folder / "closed").mkdir()
        (folder / "closed").chmod(0)
        (folder / "a.jpg").touch()
        found, left = walked(folder)
        (folder / "closed").chmod(0o700)
    assert found == {b"a.jpg"}
    assert left == {b"closed": "cannot be opened: Permission denied"}


def refusing(path: Path, code: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """``real``, that fails with ``code`` for one path."""

    def call(asked: Any, *rest: Any, **named: Any) -> Any:
        if not isinstance(asked, int) and os.fsencode(asked) == os.fsencode(path):
            raise OSError(code, os.strerror(code))
        return real(asked, *rest, **named)

    return call


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOTCONN, errno.ESTALE])
def test_a_folder_that_the_disk_does_not_give_is_passed_over_and_then_told_of_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    for name in ("a", "de\nad", "z"):
        (folder / name).mkdir()
        (folder / name / "x.jpg").touch()
    (folder / "b.jpg").touch()
    monkeypatch.setattr(os, "scandir", refusing(folder / "de\nad", code, os.scandir))
    walk = inbox.walk(os.fsencode(folder), POLICY)
    found = [next(walk).source for _ in range(3)]
    with pytest.raises(PartlyUnreadable) as caught:
        next(walk)
    assert set(found) == {b"a/x.jpg", b"b.jpg", b"z/x.jpg"}
    assert caught.value.code == "inbox_partly_unreadable"
    assert caught.value.sources == (b"de\nad",)
    assert rf"{folder}/de\x0aad: cannot be looked at: {os.strerror(code)}" in caught.value.problem
    with pytest.raises(PartlyUnreadable):  # nor is it counted as if nothing were there
        inbox.count_unrecorded(os.fsencode(folder), POLICY, len)


def test_a_machine_without_descriptors_says_nothing_of_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").mkdir()
    monkeypatch.setattr(os, "scandir", refusing(folder / "a", errno.EMFILE, os.scandir))
    with pytest.raises(SystemFault) as caught:
        list(inbox.walk(os.fsencode(folder), POLICY))
    assert caught.value.code == "inbox_io" and "a: " in caught.value.problem


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_an_inbox_that_cannot_be_listed_is_the_stations_fault(tmp_path: Path, what: str) -> None:
    path = tmp_path / "in\nbox"
    if what == "a file":
        path.touch()
    with pytest.raises(SystemFault) as caught:
        list(inbox.walk(os.fsencode(path), POLICY))
    assert caught.value.code == "inbox_missing"
    assert r"in\x0abox" in caught.value.problem and caught.value.remedy


def test_an_inbox_that_may_not_be_listed_is_another_fault() -> None:
    with as_an_ordinary_user() as folder:
        folder.chmod(0)
        with pytest.raises(SystemFault) as caught:
            list(inbox.walk(os.fsencode(folder), POLICY))
        folder.chmod(0o700)
    assert caught.value.code == "inbox_unreadable"


def test_what_has_no_row_is_counted_a_chunk_at_a_time(folder: Path) -> None:
    for index in range(7):
        (folder / f"{index}.jpg").touch()
    asked: list[int] = []

    def unrecorded(entries: Sequence[inbox.Entry]) -> int:
        asked.append(len(entries))
        return sum(entry.source != b"0.jpg" for entry in entries)

    assert inbox.count_unrecorded(os.fsencode(folder), POLICY, unrecorded, chunk=3) == 6
    assert asked == [3, 3, 1]


# -------------------------------------------------------------------------------------- reading


def test_what_is_read_is_what_is_hashed(folder: Path, folder_fd: int) -> None:
    data = os.urandom(300_000)
    (folder / "sub").mkdir()
    (folder / "sub/a.jpg").write_bytes(data)
    expected = fingerprint(folder / "sub/a.jpg")
    content = inbox.read(folder_fd, b"sub/a.jpg", expected, MAX_BYTES)
    assert (content.data, content.fingerprint) == (data, expected)
    assert content.sha256 == hashlib.sha256(data).digest()
    descriptor = os.open(folder / "sub/a.jpg", os.O_RDONLY)
    assert inbox.sha256_of(descriptor) == content.sha256
    os.close(descriptor)


def swapped_for_a_link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def swapped_for_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def swapped_for_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def swapped_for_its_like(path: Path) -> None:
    stat = path.stat()
    path.with_name("new").write_bytes(b"54321")
    os.utime(path.with_name("new"), ns=(0, stat.st_mtime_ns))
    path.with_name("new").replace(path)


def its_folder_swapped_for_a_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("real"))
    path.parent.symlink_to("real")


@pytest.mark.parametrize(
    "swap",
    [
        swapped_for_a_link,
        swapped_for_a_pipe,
        swapped_for_a_folder,
        swapped_for_its_like,
        its_folder_swapped_for_a_link,
        Path.unlink,
        lambda path: path.write_bytes(b"1234567"),
        lambda path: os.truncate(path, 1),
        lambda path: shutil.rmtree(path.parent),
    ],
)
def test_what_changed_since_it_settled_goes_back_to_wait(
    folder: Path, folder_fd: int, swap: object
) -> None:
    path = folder / "sub/a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"12345")
    expected = fingerprint(path)
    swap(path)  # type: ignore[operator]  # one of those above
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Unsettled):
        inbox.read(folder_fd, b"sub/a.jpg", expected, MAX_BYTES)
    assert len(os.listdir("/proc/self/fd")) == before


class Growing:
    """``os.read`` for a file to which a producer appends whenever it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read_bytes = 0
        self._real = os.read

    def __call__(self, descriptor: int, size: int) -> bytes:
        got = self._real(descriptor, size)
        self.read_bytes += len(got)
        with self._path.open("ab") as file:
            file.write(b"x" * 100_000)
        return got


def test_a_file_that_grows_faster_than_it_is_read_does_not_fill_the_memory(
    folder: Path, folder_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.jpg"
    path.write_bytes(b"x" * 1000)
    expected = fingerprint(path)
    growing = Growing(path)
    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(Unsettled, match="while it was read"):
        inbox.read(folder_fd, b"a.jpg", expected, MAX_BYTES)
    assert growing.read_bytes <= 1001


def test_a_read_that_comes_in_pieces_is_whole(
    folder: Path, folder_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems give less than was asked for."""
    path = folder / "a.jpg"
    data = os.urandom(1000)
    path.write_bytes(data)
    real = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: real(descriptor, min(size, 300)))
    assert inbox.read(folder_fd, b"a.jpg", fingerprint(path), MAX_BYTES).data == data


def test_a_file_that_shrinks_while_it_is_read_goes_back(
    folder: Path, folder_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.jpg"
    path.write_bytes(b"x" * 1000)
    expected = fingerprint(path)
    real = os.read

    def shrinking(descriptor: int, size: int) -> bytes:
        os.truncate(path, 10)
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", shrinking)
    with pytest.raises(Unsettled):
        inbox.read(folder_fd, b"a.jpg", expected, MAX_BYTES)


def test_a_file_too_big_is_told_by_its_size_and_not_read(
    folder: Path, folder_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.jpg"
    path.touch()
    os.truncate(path, 1 << 40)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(Unreadable) as caught:
        inbox.read(folder_fd, b"a.jpg", fingerprint(path), MAX_BYTES)
    assert caught.value.reason is QuarantineReason.OVERSIZE
    assert "1,099,511,627,776" in caught.value.detail and "files.max_bytes" in caught.value.detail


def test_a_file_of_exactly_the_limit_is_read(folder: Path, folder_fd: int) -> None:
    path = folder / "a.jpg"
    path.write_bytes(b"x" * 1000)
    assert len(inbox.read(folder_fd, b"a.jpg", fingerprint(path), 1000).data) == 1000
    with pytest.raises(Unreadable):
        inbox.read(folder_fd, b"a.jpg", fingerprint(path), 999)


def test_a_pipe_cannot_hang_the_reader(folder: Path, folder_fd: int) -> None:
    os.mkfifo(folder / "a.jpg")
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(Unsettled):
            inbox.read(folder_fd, b"a.jpg", fingerprint(folder / "a.jpg"), MAX_BYTES)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    assert ended.wait(5)


def test_a_file_that_may_not_be_read_is_neither_unsettled_nor_a_fault() -> None:
    with as_an_ordinary_user() as folder:
        (folder / "a.jpg").write_bytes(b"x")
        (folder / "a.jpg").chmod(0)
        folder_fd = inbox.open_folder(os.fsencode(folder))
        try:
            with pytest.raises(PermissionError) as caught:
                inbox.read(folder_fd, b"a.jpg", fingerprint(folder / "a.jpg"), MAX_BYTES)
        finally:
            os.close(folder_fd)
    assert caught.value.strerror == "Permission denied"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOMEM, errno.ESTALE])
@pytest.mark.parametrize("call", ["open", "read"])
def test_a_fault_of_the_disk_is_never_the_pictures(
    folder: Path, folder_fd: int, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    (folder / "a.jpg").write_bytes(b"x")
    expected = fingerprint(folder / "a.jpg")

    def failing(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(SystemFault) as caught:
        inbox.read(folder_fd, b"a.jpg", expected, MAX_BYTES)
    assert caught.value.code == "read_failed"
    assert os.strerror(code) in caught.value.problem and "a.jpg" in caught.value.problem
    assert isinstance(caught.value, ReadFault) == (code != errno.ENOMEM)
