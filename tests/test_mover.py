"""No content is lost, nothing is overwritten, and a move can be repeated from wherever it broke off."""

from __future__ import annotations

import builtins
import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crackwatch import syncing
from crackwatch.domain import Filing, Fingerprint, MoveResult, Place, QuarantineReason
from crackwatch.errors import SystemFault
from crackwatch.filing import contents, sidecars
from crackwatch.filing import mover as mover_module
from crackwatch.filing.mover import Mover
from crackwatch.filing.names import DayDestinations
from tests.disks import another_file_system, as_an_ordinary_user

DAY = date(2026, 11, 23)
PICTURE = b"the picture that was inspected"
OTHER = b"some other picture, same size!"
assert len(PICTURE) == len(OTHER)


class Died(BaseException):
    """The process ends here."""


@dataclass
class Bench:
    """An inbox with its places; ``demand`` is what a row would say of a file that is there."""

    root: Path
    elsewhere: Path

    def __post_init__(self) -> None:
        self.inbox = self.root / "inbox"
        self.inbox.mkdir()
        self.places = {
            place: os.fsencode(self.elsewhere / place.value)
            for place in (Place.FLAGGED, Place.ARCHIVED, Place.QUARANTINED)
        }
        for folder in self.places.values():
            os.mkdir(folder)
        self.destinations = DayDestinations(self.places, lambda: DAY)
        self.restart()

    def restart(self) -> None:
        self.mover = Mover(os.fsencode(self.inbox), self.places)

    @property
    def crosses(self) -> bool:
        return self.root.stat().st_dev != self.elsewhere.stat().st_dev

    def put(self, name: str, content: bytes = PICTURE) -> Path:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def demand(self, name: str, place: Place = Place.FLAGGED, id: int = 7) -> Filing:
        path = self.inbox / name
        source = os.fsencode(name)
        return Filing(
            id=id,
            source=source,
            fingerprint=Fingerprint.of(path.lstat()),
            sha256=hashlib.sha256(path.read_bytes()).digest(),
            place=place,
            destination=self.destinations.propose(place, source, id, 0),
            reason=QuarantineReason.TRUNCATED if place is Place.QUARANTINED else None,
            detail="its end is missing" if place is Place.QUARANTINED else None,
            inspected_at=datetime(2026, 11, 23, tzinfo=UTC),
        )

    def at(self, demand: Filing) -> Path:
        """The absolute path of a destination."""
        assert demand.destination is not None
        return Path(os.fsdecode(self.destinations.path(demand.place, demand.destination)))

    def files(self) -> dict[str, bytes]:
        """Every regular file, by its path below the inbox's or the places' parent."""
        return {
            str(path.relative_to(root)): path.read_bytes()
            for root in {self.root, self.elsewhere}
            for path in root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }


@pytest.fixture(params=["one file system", "two file systems"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "one file system":
        yield Bench(tmp_path, tmp_path)
    else:
        with another_file_system(tmp_path) as elsewhere:
            yield Bench(tmp_path, elsewhere)


@pytest.fixture
def local(tmp_path: Path) -> Bench:
    return Bench(tmp_path, tmp_path)


def keep_times(path: Path, act: Callable[[], object]) -> None:
    """Does something to a file as a producer does that preserves modification times."""
    stat = path.stat()
    act()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


# ---------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("place", [Place.FLAGGED, Place.ARCHIVED])
def test_a_file_is_moved_whole_with_its_time(bench: Bench, place: Place) -> None:
    path = bench.put("sub/a.jpg")
    mtime_ns = path.stat().st_mtime_ns
    demand = bench.demand("sub/a.jpg", place)
    assert bench.mover.file(demand).result is MoveResult.DONE
    bench.mover.sync()
    assert bench.files() == {f"{place.value}/2026-11-23/sub/a.jpg": PICTURE}
    assert bench.at(demand).stat().st_mtime_ns == mtime_ns


def test_a_quarantined_file_has_its_reason_beside_it(bench: Bench) -> None:
    bench.put("a\n.jpg")
    demand = bench.demand("a\n.jpg", Place.QUARANTINED)
    assert bench.mover.file(demand).result is MoveResult.DONE
    sidecar = json.loads(bench.files().pop("quarantined/2026-11-23/a\n.jpg.json"))
    assert sidecar == {
        "id": 7,
        "source": r"a\x0a.jpg",
        "reason": "truncated",
        "detail": "its end is missing",
        "sha256": hashlib.sha256(PICTURE).hexdigest(),
    }


def test_a_sidecar_is_rewritten_from_the_row(bench: Bench) -> None:
    bench.put("a.jpg")
    demand = bench.demand("a.jpg", Place.QUARANTINED)
    bench.mover.file(demand)
    bench.mover.file(replace(demand, detail="told better"))
    sidecar = bench.at(demand).with_name("a.jpg.json")
    assert json.loads(sidecar.read_bytes())["detail"] == "told better"


def test_a_deleted_file_is_gone_and_nothing_else_is(bench: Bench) -> None:
    bench.put("a.jpg")
    bench.put("b.jpg", OTHER)
    assert bench.mover.file(bench.demand("a.jpg", Place.DELETED)).result is MoveResult.DONE
    assert bench.files() == {"inbox/b.jpg": OTHER}


@pytest.mark.parametrize("place", [Place.FLAGGED, Place.ARCHIVED, Place.QUARANTINED, Place.DELETED])
def test_a_move_that_is_asked_for_again_is_found_done(bench: Bench, place: Place) -> None:
    bench.put("a.jpg")
    demand = bench.demand("a.jpg", place)
    bench.mover.file(demand)
    done = bench.files()
    bench.restart()
    assert bench.mover.file(demand).result is MoveResult.DONE
    assert bench.files() == done


def test_what_a_producer_took_away_is_gone(bench: Bench) -> None:
    bench.put("sub/a.jpg")
    demand = bench.demand("sub/a.jpg")
    shutil.rmtree(bench.inbox / "sub")
    assert bench.mover.file(demand).result is MoveResult.GONE
    bench.put("sub", b"a file where its folder was")
    assert bench.mover.file(demand).result is MoveResult.GONE
    bench.mover.sync()


@pytest.mark.parametrize("place", [Place.FLAGGED, Place.DELETED])
def test_without_an_inbox_nothing_is_taken_for_gone(bench: Bench, place: Place) -> None:
    bench.put("a.jpg")
    demand = bench.demand("a.jpg", place)
    bench.inbox.rename(bench.root / "unplugged")
    with pytest.raises(SystemFault) as caught:
        bench.mover.file(demand)
    assert caught.value.code == "inbox_missing"
    (bench.root / "unplugged").rename(bench.inbox)
    assert bench.mover.file(demand).result is MoveResult.DONE


def test_a_file_at_the_destination_keeps_its_name(bench: Bench) -> None:
    bench.put("a.jpg")
    demand = bench.demand("a.jpg")
    bench.at(demand).parent.mkdir()
    bench.at(demand).write_bytes(OTHER)
    assert bench.mover.file(demand).result is MoveResult.TAKEN
    assert bench.files() == {"inbox/a.jpg": PICTURE, "flagged/2026-11-23/a.jpg": OTHER}
    elsewhere = replace(demand, destination=b"2026-11-23/a (7).jpg")
    assert bench.mover.file(elsewhere).result is MoveResult.DONE


@pytest.mark.parametrize("in_the_way", ["sub.jpg", "."])
def test_a_file_in_the_place_of_a_destinations_folder_is_walked_round(
    bench: Bench, in_the_way: str
) -> None:
    bench.put("sub.jpg/a.jpg")
    demand = bench.demand("sub.jpg/a.jpg")
    day = Path(os.fsdecode(bench.places[Place.FLAGGED])) / "2026-11-23"
    if in_the_way != ".":
        day.mkdir()
    (day / in_the_way).write_bytes(OTHER)
    assert bench.mover.file(demand).result is MoveResult.TAKEN
    again = bench.destinations.propose(demand.place, demand.source, demand.id, 0)
    assert bench.mover.file(replace(demand, destination=again)).result is MoveResult.DONE
    assert Counter(bench.files().values()) == Counter([PICTURE, OTHER])


def test_a_sidecar_never_replaces_a_picture_of_that_name(bench: Bench) -> None:
    """With patterns = ["*"], x.jpg and x.jpg.json may both be quarantined in one batch."""
    bench.put("x.jpg.json", OTHER)
    bench.put("x.jpg")
    first = bench.demand("x.jpg.json", Place.QUARANTINED, id=1)
    second = bench.demand("x.jpg", Place.QUARANTINED, id=2)
    assert bench.mover.file(first).result is MoveResult.DONE
    assert bench.mover.file(second).result is MoveResult.TAKEN
    assert bench.mover.file(replace(second, destination=b"2026-11-23/x (2).jpg")).result is (
        MoveResult.DONE
    )
    names = {"x.jpg.json", "x.jpg.json.json", "x (2).jpg", "x (2).jpg.json"}
    assert set(bench.files()) == {f"quarantined/2026-11-23/{name}" for name in names}
    assert bench.files()["quarantined/2026-11-23/x.jpg.json"] == OTHER


# ------------------------------------------------------------------- producers that do not wait


def rewritten(path: Path) -> None:
    path.write_bytes(OTHER)


def rewritten_with_its_old_time(path: Path) -> None:
    keep_times(path, lambda: path.write_bytes(OTHER))


def replaced_by_a_rename_with_its_old_time(path: Path) -> None:
    def act() -> None:
        path.with_name("new").write_bytes(OTHER)
        path.with_name("new").replace(path)

    keep_times(path, act)


def deleted_and_made_anew_with_its_old_time(path: Path) -> None:
    """The inode number is likely to be the same: nothing but the content differs."""

    def act() -> None:
        path.unlink()
        path.write_bytes(OTHER)

    keep_times(path, act)


REPLACEMENTS = [
    rewritten,
    rewritten_with_its_old_time,
    replaced_by_a_rename_with_its_old_time,
    deleted_and_made_anew_with_its_old_time,
]
PLACES = [Place.FLAGGED, Place.QUARANTINED, Place.DELETED]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("replaced", REPLACEMENTS)
def test_content_that_took_the_name_before_the_move_stays_in_the_inbox(
    bench: Bench, place: Place, replaced: Callable[[Path], None]
) -> None:
    path = bench.put("a.jpg")
    demand = bench.demand("a.jpg", place)
    replaced(path)
    assert bench.mover.file(demand).result is MoveResult.REPLACED
    assert bench.files() == {"inbox/a.jpg": OTHER}


@pytest.mark.parametrize("place", PLACES)
def test_content_that_took_the_name_at_the_last_moment_goes_back(
    bench: Bench, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.put("a.jpg")
    demand = bench.demand("a.jpg", place)
    real = mover_module.durable.rename_noreplace

    def racing(source: bytes, destination: bytes) -> None:
        monkeypatch.undo()
        replaced_by_a_rename_with_its_old_time(path)
        real(source, destination)

    monkeypatch.setattr(mover_module.durable, "rename_noreplace", racing)
    assert bench.mover.file(demand).result is MoveResult.REPLACED
    assert bench.files() == {"inbox/a.jpg": OTHER}


def test_content_that_cannot_have_its_name_back_gets_one_beside_it(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local.put("sub/a.jpg")
    demand = local.demand("sub/a.jpg")
    real = mover_module.durable.rename_noreplace
    calls: list[bytes] = []

    def racing(source: bytes, destination: bytes) -> None:
        if not calls:
            replaced_by_a_rename_with_its_old_time(path)
        real(source, destination)
        if not calls:
            path.write_bytes(b"a third one")
        calls.append(destination)

    monkeypatch.setattr(mover_module.durable, "rename_noreplace", racing)
    assert local.mover.file(demand).result is MoveResult.REPLACED
    assert local.files() == {"inbox/sub/a.jpg": b"a third one", "inbox/sub/a (7-1).jpg": OTHER}


def test_content_whose_folder_has_gone_goes_back_to_the_inbox_itself(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local.put("sub/a.jpg")
    demand = local.demand("sub/a.jpg")
    real = mover_module.durable.rename_noreplace
    calls: list[bytes] = []

    def racing(source: bytes, destination: bytes) -> None:
        if not calls:
            replaced_by_a_rename_with_its_old_time(path)
        real(source, destination)
        if not calls:
            path.parent.rmdir()
        calls.append(destination)

    monkeypatch.setattr(mover_module.durable, "rename_noreplace", racing)
    assert local.mover.file(demand).result is MoveResult.REPLACED
    assert local.files() == {"inbox/a (7-1).jpg": OTHER}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("thing", ["symlink", "pipe", "folder"])
def test_something_that_is_no_file_is_left_where_it_is(
    bench: Bench, place: Place, thing: str
) -> None:
    path = bench.put("a.jpg")
    demand = bench.demand("a.jpg", place)
    path.rename(bench.root / "kept.jpg")
    if thing == "symlink":
        path.symlink_to(bench.root / "kept.jpg")
    elif thing == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
        (path / "b.jpg").write_bytes(OTHER)
    before = path.lstat().st_ino
    assert bench.mover.file(demand).result is MoveResult.REPLACED
    assert path.lstat().st_ino == before
    assert (bench.root / "kept.jpg").read_bytes() == PICTURE


def test_a_folder_that_became_a_link_is_not_followed_out_of_the_inbox(bench: Bench) -> None:
    bench.put("sub/a.jpg")
    demand = bench.demand("sub/a.jpg")
    (bench.inbox / "sub").rename(bench.root / "outside")
    (bench.inbox / "sub").symlink_to(bench.root / "outside")
    bench.mover.file(demand)
    assert PICTURE in bench.files().values()


def test_the_same_bytes_sent_again_after_the_move_are_an_arrival_of_their_own(
    bench: Bench,
) -> None:
    """A crash lies between the move and its closing, and the camera uses one name for ever."""
    bench.put("latest.jpg")
    demand = bench.demand("latest.jpg")
    bench.mover.file(demand)
    for content in (PICTURE, OTHER):
        path = bench.put("latest.jpg", content)
        os.utime(path, ns=(1, demand.fingerprint.mtime_ns + 1))
        bench.restart()
        assert bench.mover.file(demand).result is MoveResult.DONE
        assert bench.files() == {
            "inbox/latest.jpg": content,
            "flagged/2026-11-23/latest.jpg": PICTURE,
        }


def test_the_same_bytes_sent_again_are_not_deleted_for_the_first_ones(bench: Bench) -> None:
    bench.put("latest.jpg")
    demand = bench.demand("latest.jpg", Place.DELETED)
    bench.mover.file(demand)
    path = bench.put("latest.jpg")
    os.utime(path, ns=(1, demand.fingerprint.mtime_ns + 1))
    bench.restart()
    assert bench.mover.file(demand).result is MoveResult.REPLACED
    assert bench.files() == {"inbox/latest.jpg": PICTURE}


def test_a_hard_link_at_the_destination_is_the_picture(local: Bench) -> None:
    path = local.put("a.jpg")
    demand = local.demand("a.jpg")
    local.at(demand).parent.mkdir()
    os.link(path, local.at(demand))
    assert local.mover.file(demand).result is MoveResult.DONE
    assert local.files() == {"flagged/2026-11-23/a.jpg": PICTURE}


# ---------------------------------------------------------------------- leftovers of interruptions


def test_an_empty_file_that_reserved_the_destination_is_ours_to_replace(bench: Bench) -> None:
    bench.put("a.jpg")
    demand = bench.demand("a.jpg")
    bench.at(demand).parent.mkdir()
    os.close(os.open(bench.at(demand), os.O_CREAT | os.O_WRONLY, 0o600))
    assert bench.mover.file(demand).result is MoveResult.DONE
    assert bench.files() == {"flagged/2026-11-23/a.jpg": PICTURE}


def test_a_half_written_copy_is_thrown_away(bench: Bench) -> None:
    bench.put("a.jpg")
    demand = bench.demand("a.jpg")
    bench.at(demand).parent.mkdir()
    bench.at(demand).with_name(".crackwatch-7.part").write_bytes(PICTURE[:4])
    assert bench.mover.file(demand).result is MoveResult.DONE
    assert bench.at(demand).read_bytes() == PICTURE
    if bench.crosses:
        assert set(bench.files()) == {"flagged/2026-11-23/a.jpg"}


def test_a_copy_whose_source_is_still_there_is_finished(bench: Bench) -> None:
    path = bench.put("a.jpg")
    demand = bench.demand("a.jpg")
    bench.at(demand).parent.mkdir()
    shutil.copy2(path, bench.at(demand))
    assert bench.mover.file(demand).result is MoveResult.DONE
    assert bench.files() == {"flagged/2026-11-23/a.jpg": PICTURE}


def test_a_copy_whose_sidecar_cannot_be_read_just_now_is_finished_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: bytes) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def unreadable(sidecar: bytes) -> None:
        return None

    with another_file_system(tmp_path) as elsewhere:
        bench = Bench(tmp_path, elsewhere)
        bench.put("a.jpg")
        demand = bench.demand("a.jpg", Place.QUARANTINED)
        with monkeypatch.context() as patched:
            patched.setattr(syncing, "fsync_folder", refused)
            assert bench.mover.file(demand).result is MoveResult.REFUSED
        with monkeypatch.context() as patched:
            patched.setattr(sidecars, "read", unreadable)
            assert bench.mover.file(demand).result is MoveResult.DONE
        names = {name for name in bench.files() if "a.jpg" in name}
        assert names == {
            "quarantined/2026-11-23/a.jpg",
            "quarantined/2026-11-23/a.jpg.json",
        }


def test_a_copy_whose_source_is_hidden_with_its_inbox_is_not_finished(tmp_path: Path) -> None:
    """It was once: the source came back with the inbox, and was inspected a second time."""
    away: list[bool] = []

    def check() -> None:
        if away:
            raise SystemFault("inbox_unmarked", "the inbox: is not mounted", "")

    with another_file_system(tmp_path) as elsewhere:
        bench = Bench(tmp_path, elsewhere)
        bench.mover = Mover(os.fsencode(bench.inbox), bench.places, check)
        path = bench.put("a.jpg")
        demand = bench.demand("a.jpg")
        bench.at(demand).parent.mkdir()
        shutil.copy2(path, bench.at(demand))  # killed before the source was given up
        hidden = path.rename(tmp_path / "hidden.jpg")
        away.append(True)
        with pytest.raises(SystemFault):
            bench.mover.file(demand)
        away.clear()
        hidden.rename(path)
        assert bench.mover.file(demand).result is MoveResult.DONE
        assert bench.files() == {"flagged/2026-11-23/a.jpg": PICTURE}


def test_a_source_that_was_being_given_up_is_given_up(bench: Bench) -> None:
    path = bench.put("a.jpg")
    demand = bench.demand("a.jpg")
    bench.at(demand).parent.mkdir()
    shutil.copy2(path, bench.at(demand))
    path.rename(bench.inbox / ".crackwatch-7.gone")
    newcomer = bench.put("a.jpg", OTHER)
    assert bench.mover.file(demand).result is MoveResult.DONE
    assert newcomer.read_bytes() == OTHER
    assert set(bench.files()) == {"flagged/2026-11-23/a.jpg", "inbox/a.jpg"}


def test_a_source_given_up_for_a_copy_that_the_power_cut_took_is_moved_again(
    bench: Bench,
) -> None:
    path = bench.put("a.jpg")
    demand = bench.demand("a.jpg")
    path.rename(bench.inbox / ".crackwatch-7.gone")
    assert bench.mover.file(demand).result is MoveResult.DONE
    assert bench.files() == {"flagged/2026-11-23/a.jpg": PICTURE}


@pytest.mark.parametrize("place", [Place.FLAGGED, Place.DELETED])
def test_foreign_content_under_our_name_goes_back(bench: Bench, place: Place) -> None:
    """The station died between the rename to its own name and the comparison there."""
    path = bench.put("a.jpg")
    demand = bench.demand("a.jpg", place)
    path.write_bytes(OTHER)
    path.rename(bench.inbox / ".crackwatch-7.gone")
    assert bench.mover.file(demand).result is MoveResult.REPLACED
    assert bench.files() == {"inbox/a.jpg": OTHER}


@pytest.mark.parametrize("taken", ["deleted", "replaced"])
def test_an_unfinished_copy_does_not_outlive_a_source_that_was_taken_away(
    bench: Bench, taken: str
) -> None:
    """The station died while it copied, and the producer was quicker than the next start."""
    path = bench.put("a.jpg")
    demand = bench.demand("a.jpg")
    half = bench.at(demand).with_name(".crackwatch-7.part")
    half.parent.mkdir()
    half.write_bytes(PICTURE[:10])
    path.unlink()
    if taken == "replaced":
        path.write_bytes(OTHER)
    wanted = {"deleted": MoveResult.GONE, "replaced": MoveResult.REPLACED}[taken]
    assert bench.mover.file(demand).result is wanted
    assert bench.files() == ({} if taken == "deleted" else {"inbox/a.jpg": OTHER})


OS = ["open", "mkdir", "unlink", "rename", "write", "utime", "fchmod", "fsync"]
RENAMES = ["rename_noreplace", "syncfs"]
EFFECTS: list[tuple[ModuleType, str, list[str]]] = [
    (mover_module, "os", OS),
    (mover_module, "durable", RENAMES),
    (mover_module, "syncing", ["fsync_folder"]),
    (contents, "os", OS),
    (sidecars, "os", OS),
    (sidecars, "durable", RENAMES),
]


class Mortal:
    """Everything that the mover does to the world; dies before or after the n-th such thing.

    Once it is dead nothing reaches the world any more, clean-up included: as with SIGKILL.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, die_at: int, *, after: bool) -> None:
        self._left, self._after = die_at, after
        self.died = False
        for module, name, effects in EFFECTS:
            real = getattr(module, name)
            wrapped = {effect: self._mortal(getattr(real, effect)) for effect in effects}
            monkeypatch.setattr(module, name, _Overlay(real, wrapped))
        monkeypatch.setattr(sidecars, "open", self._mortal(builtins.open), raising=False)

    def _mortal(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.died:
                raise Died
            self._left -= 1
            if self._left:
                return real(*args, **kwargs)
            self.died = True
            if self._after:
                with contextlib.suppress(OSError):
                    done = real(*args, **kwargs)
                    if real is os.open:
                        os.close(done)
                    elif hasattr(done, "close"):
                        done.close()
            raise Died

        return call


class _Overlay:
    def __init__(self, real: Any, instead: dict[str, Any]) -> None:
        self.__dict__.update(instead)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def final_state(bench: Bench, demand: Filing) -> dict[str, bytes]:
    assert bench.mover.file(demand).result is MoveResult.DONE
    bench.mover.sync()
    return bench.files()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", PLACES)
def test_a_station_that_dies_at_any_step_is_finished_by_the_next_one(
    bench: Bench, place: Place, after: bool
) -> None:
    steps = 0
    for number in range(1, 60):
        for root in {bench.inbox, *map(Path, map(os.fsdecode, bench.places.values()))}:
            shutil.rmtree(root)
            root.mkdir()
        bench.put("sub/a.jpg")
        bench.put("bystander.jpg", OTHER)
        demand = bench.demand("sub/a.jpg", place)
        expected = {"inbox/bystander.jpg": OTHER}
        if place is not Place.DELETED:
            expected[f"{place.value}/2026-11-23/sub/a.jpg"] = PICTURE
        bench.restart()
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, number, after=after)
            with contextlib.suppress(Died):
                bench.mover.file(demand)
                bench.mover.sync()
        if not mortal.died:
            break
        steps = number
        if place is not Place.DELETED:
            assert PICTURE in bench.files().values(), f"lost at step {number}"
        bench.restart()
        found = final_state(bench, demand)
        found.pop("quarantined/2026-11-23/sub/a.jpg.json", None)
        assert found == expected, f"after dying at step {number}"
    assert steps >= 3


# -------------------------------------------------------------------------- faults and refusals


@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_may_not_be_moved_is_refused_and_moved_later(place: Place) -> None:
    with as_an_ordinary_user() as folder:
        bench = Bench(folder, folder)
        bench.put("sub/a.jpg")
        demand = bench.demand("sub/a.jpg", place)
        (bench.inbox / "sub").chmod(0o500)
        filed = bench.mover.file(demand)
        assert filed.result is MoveResult.REFUSED
        assert filed.detail == f"{bench.inbox / 'sub'}: Permission denied"
        assert bench.files() == {"inbox/sub/a.jpg": PICTURE}
        (bench.inbox / "sub").chmod(0o700)
        assert bench.mover.file(demand).result is MoveResult.DONE


def test_a_refusal_names_the_folder_that_refused_be_it_the_destinations() -> None:
    with as_an_ordinary_user() as folder:
        bench = Bench(folder, folder)
        bench.put("sub/a.jpg")
        demand = bench.demand("sub/a.jpg", Place.FLAGGED)
        flagged = bench.at(demand).parents[2]
        flagged.chmod(0o500)
        filed = bench.mover.file(demand)
        assert filed.result is MoveResult.REFUSED
        assert filed.detail == f"{flagged}: Permission denied"
        flagged.chmod(0o700)
        assert bench.mover.file(demand).result is MoveResult.DONE


def test_a_folder_whose_rights_were_taken_away_stops_no_sync() -> None:
    with as_an_ordinary_user() as folder:
        bench = Bench(folder, folder)
        bench.put("sub/a.jpg")
        assert bench.mover.file(bench.demand("sub/a.jpg")).result is MoveResult.DONE
        (bench.inbox / "sub").chmod(0)
        bench.mover.sync()
        (bench.inbox / "sub").chmod(0o700)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS", "EDQUOT"])
def test_a_fault_of_the_disk_leaves_no_half_copy_and_is_the_stations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    import errno

    with another_file_system(tmp_path) as elsewhere:
        bench = Bench(tmp_path, elsewhere)
        bench.put("a.jpg")
        demand = bench.demand("a.jpg")
        code = getattr(errno, error)

        def failing(*_: object) -> int:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(contents, "os", _Overlay(os, {"write": failing}))
        with pytest.raises(SystemFault) as caught:
            bench.mover.file(demand)
        full = error in ("ENOSPC", "EDQUOT")
        assert caught.value.code == ("disk_full" if full else "filing_failed")
        assert caught.value.remedy
        monkeypatch.undo()
        assert bench.files() == {"inbox/a.jpg": PICTURE}
        assert bench.mover.file(demand).result is MoveResult.DONE


def test_one_name_that_is_impossible_there_does_not_stop_the_others(local: Bench) -> None:
    local.put("a.jpg")
    demand = replace(local.demand("a.jpg"), destination=b"2026-11-23/" + b"x" * 300)
    filed = local.mover.file(demand)
    assert filed.result is MoveResult.REFUSED and "too long" in filed.detail
    assert local.files() == {"inbox/a.jpg": PICTURE}


def test_a_copy_onto_a_disk_that_keeps_coarse_times_is_still_the_picture(tmp_path: Path) -> None:
    """FAT keeps two seconds; a file too big to be read has nothing but its times and size."""
    with another_file_system(tmp_path) as elsewhere:
        bench = Bench(tmp_path, elsewhere)
        bench.put("a.jpg")
        demand = replace(
            bench.demand("a.jpg", Place.QUARANTINED),
            sha256=None,
            reason=QuarantineReason.OVERSIZE,
        )
        assert bench.mover.file(demand).result is MoveResult.DONE
        at = bench.at(demand)
        os.utime(at, ns=(0, at.stat().st_mtime_ns // 2_000_000_000 * 2_000_000_000))
        bench.restart()
        assert bench.mover.file(demand).result is MoveResult.DONE
        assert {"inbox/a.jpg"}.isdisjoint(bench.files())


def test_moves_leave_no_descriptor_open(bench: Bench) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for index in range(10):
        bench.put(f"{index}.jpg")
        place = PLACES[index % 3]
        bench.mover.file(bench.demand(f"{index}.jpg", place, index))
    bench.mover.sync()
    bench.mover.sync_inbox()
    assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------- everything, in any order


@contextlib.contextmanager
def two_folders(*, crossing: bool) -> Iterator[tuple[Path, Path]]:
    """For an inbox and its places: in memory where there is such a thing, for the sake of speed."""
    with tempfile.TemporaryDirectory() as here, contextlib.ExitStack() as stack:
        try:
            memory = stack.enter_context(another_file_system(Path(here)))
        except pytest.skip.Exception:
            memory = Path(here)
        yield memory, Path(here) if crossing else memory


class World:
    """A producer, a person and a station that dies now and then share two names.

    Every content is written once only, so a content that cannot be found has been lost, and one
    that is where another was has replaced it. The only ones who may end a content's life are the
    producer, who overwrites or deletes what stands under a name, and a row that says deleted.
    """

    NAMES = ("a.jpg", "sub/a.jpg")

    def __init__(self, bench: Bench, chance: random.Random) -> None:
        self.bench = bench
        self.chance = chance
        self.alive: set[bytes] = set()
        self.deleting: set[bytes] = set()
        self.owed: list[Filing] = []
        self.written = self.ids = 0
        self.mtime_ns = 10**18
        self.history: list[str] = []

    def step(self) -> None:
        """Something happens, and afterwards nothing is lost."""
        happening = self.chance.choice(
            [self.produce, self.produce, self.rename, self.meddle, *[self.record, self.file] * 3]
        )
        self.history.append(happening.__name__)
        happening()
        found = set(self.bench.files().values())
        self.alive -= self.deleting - found  # deleted as a row said, and by its hash
        assert self.alive <= found, self.history

    def present(self) -> list[str]:
        return [name for name in self.NAMES if (self.bench.inbox / name).is_file()]

    def fresh(self) -> bytes:
        self.written += 1
        self.alive.add(b"%08d" % self.written)
        return b"%08d" % self.written

    def forget(self, path: Path) -> None:
        """The producer gives up what stands under its name."""
        if path.is_file():
            self.alive.discard(path.read_bytes())

    def produce(self) -> None:
        path = self.bench.inbox / self.chance.choice(self.NAMES)
        act = self.chance.choice(["write", "rename over", "delete and write", "delete"])
        same_time = self.chance.random() < 0.6
        self.history.append(f"  {act} {path.relative_to(self.bench.inbox)} {same_time=}")
        self.forget(path)
        if act in ("delete", "delete and write"):
            path.unlink(missing_ok=True)
        if act == "delete":
            return
        path.parent.mkdir(exist_ok=True)
        self.mtime_ns += not same_time
        written = path.with_name("new.tmp") if act == "rename over" else path
        written.write_bytes(self.fresh())
        os.utime(written, ns=(0, self.mtime_ns))
        written.replace(path)

    def rename(self) -> None:
        if len(self.present()) == 1:
            (name,) = self.present()
            to = self.bench.inbox / self.NAMES[1 - self.NAMES.index(name)]
            to.parent.mkdir(exist_ok=True)
            (self.bench.inbox / name).replace(to)

    def meddle(self) -> None:
        """A person puts a file where one is about to go, or takes a folder of the inbox away."""
        if self.chance.random() < 0.2:
            if not list((self.bench.inbox / "sub").glob("*")):
                shutil.rmtree(self.bench.inbox / "sub", ignore_errors=True)
        elif self.owed:
            demand = self.chance.choice(self.owed)
            if demand.destination is not None and not self.bench.at(demand).exists():
                self.bench.at(demand).parent.mkdir(parents=True, exist_ok=True)
                self.bench.at(demand).write_bytes(self.fresh())

    def record(self) -> None:
        owed = {each.source for each in self.owed}
        free = [name for name in self.present() if name.encode() not in owed]
        if not free:
            return
        name, place = self.chance.choice(free), self.chance.choice(PLACES)
        self.ids += 1
        self.history.append(f"  {name} -> {place} as {self.ids}")
        demand = self.bench.demand(name, place, self.ids)
        self.owed.append(self.with_a_free_name(demand))
        if place is Place.DELETED:
            self.deleting.add((self.bench.inbox / name).read_bytes())

    def with_a_free_name(self, demand: Filing) -> Filing:
        """Another destination is committed, as the pipeline does it."""
        held = {each.destination for each in self.owed}
        for attempt in itertools.count():
            again = self.bench.destinations.propose(demand.place, demand.source, demand.id, attempt)
            if again is None:
                return demand
            if again not in held and not self.bench.destinations.taken(demand.place, again):
                return replace(demand, destination=again)
        raise AssertionError

    def file(self) -> None:
        if not self.owed:
            return
        demand = self.chance.choice(self.owed)
        self.history.append(f"  {demand.id}")
        try:
            if self.chance.random() < 0.5:
                filed = self.bench.mover.file(demand)
            else:
                with pytest.MonkeyPatch.context() as patch:
                    Mortal(patch, self.chance.randint(1, 12), after=self.chance.random() < 0.5)
                    filed = self.bench.mover.file(demand)
        except Died:
            self.history.append("  died")
            self.bench.restart()
            return
        self.history.append(f"  {filed.result.value}")
        self.owed.remove(demand)
        if filed.result is MoveResult.TAKEN:
            self.owed.append(self.with_a_free_name(demand))
        elif filed.result is MoveResult.GONE:
            assert not (self.bench.inbox / os.fsdecode(demand.source)).exists(), self.history
        elif filed.result is MoveResult.DONE and demand.destination is not None:
            content = self.bench.at(demand).read_bytes()
            assert hashlib.sha256(content).digest() == demand.sha256, self.history


@pytest.mark.parametrize("crossing", [False, True], ids=["one file system", "two file systems"])
@pytest.mark.parametrize("seed", range(6))
def test_in_whatever_order_things_happen_nothing_is_lost(seed: int, crossing: bool) -> None:
    with two_folders(crossing=crossing) as (root, elsewhere):
        world = World(Bench(root, elsewhere), random.Random(seed))
        for _ in range(400):
            world.step()
        assert world.ids > 30
