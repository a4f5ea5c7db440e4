"""What stands beside a quarantined picture, and the copy of one that goes to another file system."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from crackwatch.domain import QuarantineReason
from crackwatch.filing import contents, sidecars

MIB = 1024 * 1024


def b(path: Path) -> bytes:
    return os.fsencode(path)


def write(picture: Path, id: int = 7, source: bytes = b"a.jpg", **changed: bytes | None) -> None:
    sha256 = changed.get("sha256", b"\xab" * 32)
    reason = QuarantineReason.TRUNCATED
    sidecars.write(b(picture), id, source, reason, "its end is missing: Brücke", sha256)


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    return tmp_path / "a.jpg.json"


def test_a_sidecar_can_be_read_by_a_person(tmp_path: Path, sidecar: Path) -> None:
    write(tmp_path / "a.jpg", source="Brücke/a.jpg".encode())
    assert sidecar.read_text("utf-8") == (
        "{\n"
        '  "id": 7,\n'
        '  "source": "Brücke/a.jpg",\n'
        '  "reason": "truncated",\n'
        '  "detail": "its end is missing: Brücke",\n'
        f'  "sha256": "{"ab" * 32}"\n'
        "}\n"
    )
    assert os.listdir(tmp_path) == ["a.jpg.json"]
    write(tmp_path / "a.jpg", source="Brücke/a.jpg".encode(), sha256=None)
    assert json.loads(sidecar.read_bytes())["sha256"] is None


@pytest.mark.parametrize(
    ("found", "ours"),
    [
        (b'{"id": 7, "source": "a.jpg"}', True),
        (b'{"id": 8, "source": "a.jpg"}', False),
        (b'{"id": 7, "source": "b.jpg"}', False),
        (b"[7]", False),
        (b"null", False),
        (b"somebody's", False),
        (b"[" * 200_000, False),
        (b"\xff", False),
    ],
)
def test_only_the_rows_own_sidecar_is_replaced(
    tmp_path: Path, sidecar: Path, found: bytes, ours: bool
) -> None:
    sidecar.write_bytes(found)
    assert sidecars.is_the_rows(b(sidecar), 7, b"a.jpg") is ours
    write(tmp_path / "a.jpg")
    assert (sidecar.read_bytes() != found) is ours
    assert os.listdir(tmp_path) == ["a.jpg.json"]


def test_what_an_interrupted_rename_reserved_is_replaced_and_nothing_is_there_to_be_ours(
    tmp_path: Path, sidecar: Path
) -> None:
    assert not sidecars.is_the_rows(b(sidecar), 7, b"a.jpg")
    os.close(os.open(sidecar, os.O_CREAT | os.O_WRONLY, 0o600))
    assert sidecars.is_the_rows(b(sidecar), 7, b"a.jpg")
    write(tmp_path / "a.jpg")
    assert json.loads(sidecar.read_bytes())["id"] == 7


@pytest.mark.parametrize(("size_bytes", "is_read"), [(MIB, True), (MIB + 1, False)])
def test_a_sidecar_of_more_than_a_megabyte_is_none(
    sidecar: Path, size_bytes: int, is_read: bool
) -> None:
    sidecar.write_bytes(b'{"id": 7}'.ljust(size_bytes))
    assert sidecars.read(b(sidecar)) == ({"id": 7} if is_read else None)


def test_what_is_no_file_is_not_read_and_waited_for_by_nobody(
    tmp_path: Path, sidecar: Path
) -> None:
    (tmp_path / "other").write_text('{"id": 7}')
    sidecar.symlink_to(tmp_path / "other")
    assert sidecars.read(b(sidecar)) is None
    sidecar.unlink()
    os.mkfifo(sidecar)
    assert sidecars.read(b(sidecar)) is None
    sidecar.unlink()
    sidecar.mkdir()
    assert sidecars.read(b(sidecar)) is None
    assert sidecars.read(b(tmp_path / "never was")) is None


# ------------------------------------------------------------------------------------ the copy


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755, 0o4751])
def test_a_copy_has_the_bytes_the_time_and_the_rights_and_may_do_no_more(
    tmp_path: Path, mode: int
) -> None:
    picture, partial = tmp_path / "a.jpg", tmp_path / "partial"
    picture.write_bytes(os.urandom(3 * MIB + 17))
    picture.chmod(mode)
    os.utime(picture, ns=(10**18 + 1, 10**18 + 2))
    with picture.open("rb") as reading, contents.copied(reading.fileno(), b(partial)) as copy:
        assert os.pread(copy, 4 * MIB, 0) == picture.read_bytes()
    status = partial.stat()
    assert status.st_mode & 0o7777 == mode & 0o777
    assert status.st_mtime_ns == 10**18 + 2


def test_a_copy_that_fails_is_nobody_elses_to_read(tmp_path: Path) -> None:
    reading = os.open(tmp_path, os.O_RDONLY)  # a folder, which cannot be read
    try:
        with (
            pytest.raises(OSError, match=os.strerror(errno.EISDIR)),
            contents.copied(reading, b(tmp_path / "partial")),
        ):
            pytest.fail("it was copied")
    finally:
        os.close(reading)
    assert (tmp_path / "partial").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("occupant", ["file", "link"])
def test_a_copy_replaces_nothing(tmp_path: Path, occupant: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    (tmp_path / "other").write_bytes(b"somebody's")
    if occupant == "file":
        (tmp_path / "partial").write_bytes(b"somebody's")
    else:
        (tmp_path / "partial").symlink_to(tmp_path / "other")
    with (
        (tmp_path / "a.jpg").open("rb") as reading,
        pytest.raises(FileExistsError),
        contents.copied(reading.fileno(), b(tmp_path / "partial")),
    ):
        pytest.fail("it was copied")
    assert (tmp_path / "other").read_bytes() == (tmp_path / "partial").read_bytes() == b"somebody's"
