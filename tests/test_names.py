"""Destinations: by day, under the old name, unique, and never longer than the kernel allows."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crackwatch.domain import Place
from crackwatch.filing.names import PATH_MAX_BYTES, DayDestinations, fit

MOVED = [Place.FLAGGED, Place.ARCHIVED, Place.QUARANTINED]
DAY = b"2026-11-23"
PATH_MAX = 4095  # and a zero byte
BESIDE = {Place.QUARANTINED: b".json", Place.FLAGGED: b".overlay.jpg"}

part = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
picture = st.builds(lambda stem, end: stem[:250] + end, part, st.sampled_from([b".jpg", b".TIFF"]))
source = st.builds(lambda folders, name: b"/".join([*folders, name]), st.lists(part), picture)


@pytest.fixture
def destinations(tmp_path: Path) -> DayDestinations:
    folders = {place: os.fsencode(tmp_path / place.value) for place in MOVED}
    for folder in folders.values():
        os.mkdir(folder)
    return DayDestinations(folders, lambda: date(2026, 11, 23))


def put(destinations: DayDestinations, place: Place, destination: bytes) -> None:
    path = destinations.path(place, destination)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb"):
        pass


@pytest.mark.parametrize(
    ("attempt", "name"), [(0, b"a.jpg"), (1, b"a (7).jpg"), (2, b"a (7-2).jpg")]
)
def test_a_destination_is_the_day_and_the_path_in_the_inbox(
    destinations: DayDestinations, attempt: int, name: bytes
) -> None:
    proposed = destinations.propose(Place.FLAGGED, b"line 2/sub/a.jpg", 7, attempt)
    assert proposed == b"2026-11-23/line 2/sub/" + name


@pytest.mark.parametrize("place", [Place.KEPT, Place.DELETED])
def test_what_is_not_moved_has_no_destination(destinations: DayDestinations, place: Place) -> None:
    assert destinations.propose(place, b"a.jpg", 7, 0) is None


@pytest.mark.parametrize("place", MOVED)
def test_a_name_is_taken_by_whatever_stands_there(
    destinations: DayDestinations, place: Place
) -> None:
    path = destinations.path(place, b"2026-11-23/a.jpg")
    os.makedirs(os.path.dirname(path))
    assert not destinations.taken(place, b"2026-11-23/a.jpg")
    os.symlink(b"nowhere", path)
    assert destinations.taken(place, b"2026-11-23/a.jpg")


def test_a_quarantined_picture_needs_its_sidecars_name_as_well(
    destinations: DayDestinations,
) -> None:
    for place in (Place.FLAGGED, Place.QUARANTINED):
        put(destinations, place, b"2026-11-23/a.jpg.json")
    assert destinations.taken(Place.QUARANTINED, b"2026-11-23/a.jpg")
    assert not destinations.taken(Place.FLAGGED, b"2026-11-23/a.jpg")


def test_a_flagged_picture_needs_its_marked_copys_name_as_well(
    destinations: DayDestinations,
) -> None:
    """A copy that was left behind would pass for that of the next picture of the name."""
    for place in (Place.FLAGGED, Place.QUARANTINED):
        put(destinations, place, b"2026-11-23/a.jpg.overlay.jpg")
    assert destinations.taken(Place.FLAGGED, b"2026-11-23/a.jpg")
    assert not destinations.taken(Place.QUARANTINED, b"2026-11-23/a.jpg")


@pytest.mark.parametrize(
    ("in_the_way", "instead"),
    [
        (b"2026-11-23/sub.jpg", b"2026-11-23/sub (7).jpg/a.jpg"),
        (b"2026-11-23", b"2026-11-23 (7)/sub.jpg/a.jpg"),
    ],
)
def test_a_file_in_a_folders_place_is_walked_round(
    destinations: DayDestinations, in_the_way: bytes, instead: bytes
) -> None:
    """A camera writes sub.jpg, which is flagged; a year later somebody makes a folder sub.jpg."""
    put(destinations, Place.FLAGGED, in_the_way)
    assert destinations.taken(Place.FLAGGED, b"2026-11-23/sub.jpg/a.jpg")
    proposed = destinations.propose(Place.FLAGGED, b"sub.jpg/a.jpg", 7, 0)
    assert proposed == instead
    assert not destinations.taken(Place.FLAGGED, instead)
    put(destinations, Place.FLAGGED, instead)


def test_a_path_that_would_be_too_long_loses_its_folders(destinations: DayDestinations) -> None:
    deep = b"/".join([b"f" * 100] * 39)
    assert len(deep) < PATH_MAX_BYTES
    proposed = destinations.propose(Place.FLAGGED, deep + b"/a.jpg", 7, 0)
    assert proposed == b"2026-11-23/a.jpg"
    put(destinations, Place.FLAGGED, proposed)


@pytest.mark.parametrize("longer", [False, True])
def test_the_folders_stay_as_long_as_the_longest_name_has_room_below_them(
    destinations: DayDestinations, longer: bool
) -> None:
    room = PATH_MAX - 1 - 255 - len(destinations.path(Place.FLAGGED, DAY)) + longer
    whole, rest = divmod(room, 101)
    if not rest:
        whole, rest = whole - 1, 101
    parts = [b"f" * 100] * (whole - 1) + [b"g" * (100 + rest - 51), b"h" * 50][: 1 + 1]
    folders = b"/".join(parts)
    assert (
        len(destinations.path(Place.FLAGGED, DAY) + b"/" + folders) + 1 + 255 == PATH_MAX + longer
    )
    proposed = destinations.propose(Place.FLAGGED, folders + b"/a.jpg", 7, 0)
    assert proposed == (DAY + b"/a.jpg" if longer else DAY + b"/" + folders + b"/a.jpg")
    if not longer:
        put(destinations, Place.FLAGGED, DAY + b"/" + folders + b"/" + b"x" * 255)


@pytest.mark.parametrize(("place", "beside"), [*BESIDE.items(), (Place.ARCHIVED, b"")])
@pytest.mark.parametrize("attempt", [0, 1])
def test_a_name_is_cut_by_no_more_than_what_stands_beside_it_needs(
    destinations: DayDestinations, place: Place, beside: bytes, attempt: int
) -> None:
    proposed = destinations.propose(place, b"a" * 251 + b".jpg", 7, attempt)
    assert proposed is not None
    assert len(os.path.basename(proposed) + beside) == 255
    put(destinations, place, proposed + beside)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source, st.sampled_from(MOVED), st.integers(1, 2**62), st.integers(0, 3))
def test_whatever_a_producer_calls_its_file_the_destination_can_be_made(
    destinations: DayDestinations, source: bytes, place: Place, id: int, attempt: int
) -> None:
    proposed = destinations.propose(place, source, id, attempt)
    assert proposed is not None and proposed.startswith(DAY)
    path = destinations.path(place, proposed)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = BESIDE.get(place, b"")
    for name in (path, path + beside):
        if len(name) <= PATH_MAX_BYTES:
            with open(name, "ab"):
                pass
        else:
            pytest.fail(f"{len(name)} bytes")


@given(picture, st.integers(1, 2**62), st.sampled_from([250, 255]))
def test_the_id_makes_a_name_unique_however_long_it_is(name: bytes, id: int, limit: int) -> None:
    names = [fit(name, extra, limit) for extra in (b"", b" (%d)" % id, b" (%d-2)" % id)]
    assert len(set(names)) == 3
    assert all(len(each) <= limit for each in names)
    assert all(os.path.splitext(each)[1] == os.path.splitext(name)[1] for each in names)


@given(st.text("aé€𝄞", max_size=120), st.integers(1, 10**9))
def test_a_cut_never_halves_a_character(stem: str, id: int) -> None:
    name = f"x{stem}.jpg".encode()[:4000]
    fit(name, b" (%d)" % id, 250).decode()


def test_a_name_that_is_no_text_is_cut_where_the_limit_is() -> None:
    assert fit(b"\xff" * 300 + b".jpg", b" (7)", 255) == b"\xff" * 247 + b" (7).jpg"


def test_a_suffix_as_long_as_a_name_gives_way() -> None:
    assert fit(b"a." + b"x" * 253, b" (7)", 255) == b"a." + b"x" * 249 + b" (7)"
    assert fit(b"ab." + b"x" * 250, b" (7)", 255) == b"ab." + b"x" * 248 + b" (7)"
    assert fit(b"ab." + b"x" * 249, b" (7)", 255) == b"a (7)." + b"x" * 249  # one byte is a stem


def test_a_name_that_fits_is_left_as_it_is() -> None:
    assert fit("Brücke 7.jpg".encode(), b"", 255) == "Brücke 7.jpg".encode()
    assert fit(b"archive.tar.gz", b" (7)", 255) == b"archive.tar (7).gz"
