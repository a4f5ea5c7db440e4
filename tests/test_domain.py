"""The facts: names that are bytes and come back whole, days that begin where the station says."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackwatch.days import day_begins, working_day
from crackwatch.domain import Fingerprint
from crackwatch.escaping import path_bytes, path_text

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe"]

# -------------------------------------------------------------------------------- names are bytes


@given(st.binary(max_size=80))
def test_every_name_comes_back_from_its_text(name: bytes) -> None:
    assert path_bytes(path_text(name)) == name


@given(st.text(max_size=40))
def test_every_unicode_name_comes_back_from_its_text(name: str) -> None:
    raw = name.encode("utf-8", "surrogatepass")
    assert path_bytes(path_text(raw)) == raw


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=30).map(lambda t: t.encode("utf-8", "surrogatepass")),
    )
)
def test_a_shown_name_can_neither_end_its_line_nor_turn_it_round(name: bytes) -> None:
    shown = path_text(name)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Zl", "Zp", "Cs"}
    shown.encode("utf-8")  # and any terminal, file or JSON document can hold it


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_two_names_never_look_alike(one: bytes, other: bytes) -> None:
    assert (path_text(one) == path_text(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name.jpg", "plain name.jpg"),
        ("Häuser/straße.jpg".encode(), "Häuser/straße.jpg"),
        (b"line\nbreak", r"line\x0abreak"),
        (b"bell\x07\x7f", r"bell\x07\x7f"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"half \xc3", r"half \xc3"),
        (b"back\\slash", r"back\\slash"),
        ("gpj.\u202eevil".encode(), r"gpj.\u202eevil"),
        ("tag\U000e0041".encode(), r"tag\U000e0041"),
        ("next\u2028line".encode(), r"next\u2028line"),
        (b"c1\xc2\x85", r"c1\u0085"),
    ],
)
def test_names_are_shown_as_the_design_has_it(name: bytes, shown: str) -> None:
    assert path_text(name) == shown
    assert path_bytes(shown) == name


@pytest.mark.parametrize("typed", ["C:\\photos", "a\\", "\\q", "\\x4", "\\u12", "\\UFFFFFFFF"])
def test_a_backslash_that_begins_no_escape_stands_for_itself(typed: str) -> None:
    assert path_bytes(typed) == typed.encode()


def test_an_escape_may_be_typed_in_capitals() -> None:
    assert path_bytes(r"\xFF\u00E9") == b"\xff\xc3\xa9"


# ---------------------------------------------------------------------------------------- facts


def test_a_fingerprint_is_what_stat_says(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    stat = file.stat()
    assert dataclasses.astuple(Fingerprint.of(stat)) == (
        5,
        stat.st_mtime_ns,
        stat.st_ctime_ns,
        stat.st_dev,
        stat.st_ino,
    )


@given(*[st.integers(0, 2**64 - 1)] * 2, st.integers(-(2**67), 2**67))
def test_a_fingerprint_always_fits_a_database(device: int, inode: int, seconds: int) -> None:
    """FUSE hashes inodes into 64 bits; a producer may set any date, even the year 2400."""
    stat = os.stat_result((0, inode, device, 1, 0, 0, 7, *[0] * 6, *[seconds * 10**9] * 3))
    fields = dataclasses.astuple(Fingerprint.of(stat))
    assert all(-(2**63) <= field < 2**63 for field in fields)
    assert Fingerprint.of(stat) == Fingerprint.of(stat)
    if inode < 2**63:
        assert Fingerprint.of(stat).inode == inode


def test_identity_is_size_and_mtime_and_nothing_else() -> None:
    one = Fingerprint(5, 10, 11, 1, 2)
    assert one.same_identity(Fingerprint(5, 10, 99, 98, 97))
    assert not one.same_identity(Fingerprint(6, 10, 11, 1, 2))
    assert not one.same_identity(Fingerprint(5, 12, 11, 1, 2))


# ----------------------------------------------------------------------------------------- days


def test_a_night_shift_belongs_to_the_day_before() -> None:
    zone = ZoneInfo("Europe/Berlin")
    at_two = datetime(2026, 11, 24, 2, 0, tzinfo=zone)
    assert working_day(at_two, zone, time(6)) == date(2026, 11, 23)
    assert working_day(at_two, zone, time(0)) == date(2026, 11, 24)
    assert working_day(at_two.replace(hour=6), zone, time(6)) == date(2026, 11, 24)


def test_the_day_is_the_stations_and_not_utcs() -> None:
    late = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
    assert working_day(late, ZoneInfo("Europe/Berlin"), time(0)) == date(2026, 11, 24)
    assert working_day(late, ZoneInfo("America/New_York"), time(0)) == date(2026, 11, 23)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)])
def test_days_of_23_and_25_hours_are_that_long(day: date, hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    length = day_begins(day + timedelta(days=1), zone, time(0)) - day_begins(day, zone, time(0))
    assert length == timedelta(hours=hours)


def test_a_day_begins_in_utc() -> None:
    begin = day_begins(date(2026, 11, 23), ZoneInfo("Europe/Berlin"), time(6))
    assert begin.tzinfo is UTC
    assert begin == datetime(2026, 11, 23, 5, 0, tzinfo=UTC)


@given(
    st.integers(946_684_800, 2_840_140_800).map(lambda second: datetime.fromtimestamp(second, UTC)),
    st.sampled_from(ZONES),
    st.times().map(lambda moment: moment.replace(tzinfo=None)),
)
def test_every_instant_lies_in_exactly_the_day_that_it_is_said_to(
    moment: datetime, zone_name: str, day_start: time
) -> None:
    zone = ZoneInfo(zone_name)
    day = working_day(moment, zone, day_start)
    following = day_begins(day + timedelta(days=1), zone, day_start)
    assert day_begins(day, zone, day_start) <= moment < following


@pytest.mark.parametrize("minutes", range(0, 240, 10))
@pytest.mark.parametrize("night", [date(2026, 3, 29), date(2026, 10, 25)])
def test_a_day_that_begins_while_the_clocks_are_turned_is_still_one_day(
    night: date, minutes: int
) -> None:
    zone, half_past_two = ZoneInfo("Europe/Berlin"), time(2, 30)
    moment = datetime.combine(night, time(0), UTC) + timedelta(minutes=minutes - 60)
    day = working_day(moment, zone, half_past_two)
    assert day_begins(day, zone, half_past_two) <= moment
    assert moment < day_begins(day + timedelta(days=1), zone, half_past_two)
