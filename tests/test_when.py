"""``--since`` and ``--until``: each text is one instant, whatever the clocks do that day."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackwatch.days import day_begins, working_day
from crackwatch.errors import WhenError
from crackwatch.reporting.when import instant, on_the_clock, window

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    ZoneInfo(name)
    for name in (
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",  # clocks change at midnight
        "America/St_Johns",  # half an hour
        "Asia/Kolkata",
        "Asia/Kathmandu",  # three quarters of an hour
        "Africa/Cairo",  # midnight does not exist on one day of the year
        "Australia/Lord_Howe",  # daylight saving of half an hour
        "Pacific/Apia",
        "Pacific/Kiritimati",
        "UTC",
    )
]
zones = st.sampled_from(ZONES)
day_starts = st.times(max_value=time(23, 59)).map(lambda t: t.replace(second=0, microsecond=0))
# when the clocks were and will be set, as far as the tables know
FIRST = datetime(2015, 1, 1)  # noqa: DTZ001 (hypothesis adds the zone)
LAST = datetime(2032, 1, 1)  # noqa: DTZ001 (hypothesis adds the zone)
nows = st.datetimes(FIRST, LAST, timezones=st.just(UTC))

FRIDAY = datetime(2026, 11, 20, 10, 15, tzinfo=BERLIN)


def berlin(text: str, now: datetime = FRIDAY, day_start: time = time(6)) -> str:
    """What ``text`` means in Berlin, as its clock shows it."""
    found = instant(text, now=now, zone=BERLIN, day_start=day_start)
    assert found.tzinfo is UTC
    return found.astimezone(BERLIN).isoformat()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        # day words: the start of that working day
        ("today", "2026-11-20T06:00:00+01:00"),
        ("  Today ", "2026-11-20T06:00:00+01:00"),
        ("yesterday", "2026-11-19T06:00:00+01:00"),
        ("day before yesterday", "2026-11-18T06:00:00+01:00"),
        ("tomorrow", "2026-11-21T06:00:00+01:00"),
        ("monday", "2026-11-16T06:00:00+01:00"),
        ("Sat", "2026-11-14T06:00:00+01:00"),
        ("friday", "2026-11-20T06:00:00+01:00"),  # today is one
        ("last friday", "2026-11-13T06:00:00+01:00"),
        ("last monday", "2026-11-16T06:00:00+01:00"),
        ("this week", "2026-11-16T06:00:00+01:00"),
        ("last week", "2026-11-09T06:00:00+01:00"),
        ("this month", "2026-11-01T06:00:00+01:00"),
        ("last month", "2026-10-01T06:00:00+02:00"),
        ("this year", "2026-01-01T06:00:00+01:00"),
        ("2026-11-01", "2026-11-01T06:00:00+01:00"),
        ("20261101", "2026-11-01T06:00:00+01:00"),
        ("2026-07-01", "2026-07-01T06:00:00+02:00"),
        ("2 days ago", "2026-11-18T06:00:00+01:00"),
        ("two days ago", "2026-11-18T06:00:00+01:00"),
        ("a week ago", "2026-11-13T06:00:00+01:00"),
        ("1 week and 2 days ago", "2026-11-11T06:00:00+01:00"),
        ("9 months ago", "2026-02-20T06:00:00+01:00"),
        ("2 years ago", "2024-11-20T06:00:00+01:00"),
        # hours, minutes, moments: that very instant
        ("now", "2026-11-20T10:15:00+01:00"),
        ("3 hours ago", "2026-11-20T07:15:00+01:00"),
        ("90 minutes ago", "2026-11-20T08:45:00+01:00"),
        ("1.5 hours ago", "2026-11-20T08:45:00+01:00"),
        ("an hour ago", "2026-11-20T09:15:00+01:00"),
        ("1 hour 30 minutes ago", "2026-11-20T08:45:00+01:00"),
        ("1 day, 2 hours ago", "2026-11-19T08:15:00+01:00"),
        ("08:30", "2026-11-20T08:30:00+01:00"),
        ("05:00", "2026-11-20T05:00:00+01:00"),  # before the day start, yet this morning
        ("14:30", "2026-11-19T14:30:00+01:00"),  # the last one that was
        ("14:30:15", "2026-11-19T14:30:15+01:00"),
        ("2pm", "2026-11-19T14:00:00+01:00"),
        ("9:30 am", "2026-11-20T09:30:00+01:00"),
        ("12am", "2026-11-20T00:00:00+01:00"),
        ("noon", "2026-11-19T12:00:00+01:00"),
        ("yesterday 14:30", "2026-11-19T14:30:00+01:00"),
        ("yesterday at 2pm", "2026-11-19T14:00:00+01:00"),
        ("yesterday 05:00", "2026-11-19T05:00:00+01:00"),  # the calendar's, not the shift's
        ("monday 06:30", "2026-11-16T06:30:00+01:00"),
        ("2026-11-01 14:30", "2026-11-01T14:30:00+01:00"),
        ("2026-11-01T14:30", "2026-11-01T14:30:00+01:00"),
        ("2026-11-01T14:30:15.25", "2026-11-01T14:30:15.250000+01:00"),
        ("2026-11-01T14:30Z", "2026-11-01T15:30:00+01:00"),
        ("2026-11-01T14:30:00-05:00", "2026-11-01T20:30:00+01:00"),
        # months by name: dateparser
        ("1 November", "2026-11-01T06:00:00+01:00"),
        ("Nov 1st 2026", "2026-11-01T06:00:00+01:00"),
        ("November", "2026-11-01T06:00:00+01:00"),
        ("25 december", "2025-12-25T06:00:00+01:00"),  # the last one that was
        ("1 Nov 2026, 2 pm", "2026-11-01T14:00:00+01:00"),
        ("1 Nov 2026 14:30 +05:00", "2026-11-01T10:30:00+01:00"),
        ("31.12.2025", "2025-12-31T06:00:00+01:00"),  # there is no month 31
    ],
)
def test_a_text_means_one_instant(text: str, meant: str) -> None:
    assert berlin(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        *("", "   ", "banana", "a", "-3", "10", "2026", "1e9", "12 foo", "yesterdayy", "ago"),
        *("25:00", "13pm", "0pm", "14:60", "2026-02-30", "2026-13-01", "30 feb 2026"),
        *("2026-11-01T25:00", "2026-11-01T06:00 CET", "1 Nov 2026 14:30 EST", "Q3", "-1 days ago"),
        *("1.5 days ago", "99999999999 days ago", "99999 years ago", "0000-00-00"),
        *(
            "01/11/2026",
            "1.2.2026",
            "in 2 hours",
            "2 days",
            "yesterday tomorrow",
            "\x00",
            "٣ hours",
        ),
        "2 days ago " * 50,
    ],
)
def test_what_makes_no_sense_is_refused_with_examples(text: str) -> None:
    with pytest.raises(WhenError) as refused:
        instant(text, now=FRIDAY, zone=BERLIN, day_start=time(6))
    assert refused.value.exit_status == 2
    assert refused.value.problem.startswith("--since")
    assert "yesterday" in refused.value.remedy or "offset" in refused.value.remedy


def test_an_error_names_the_option_that_was_wrong() -> None:
    with pytest.raises(WhenError, match=r"^--until 'soon': not understood"):
        window("today", "soon", now=FRIDAY, zone=BERLIN, day_start=time(6))


# ------------------------------------------------------------------------------ working days


def test_before_the_day_starts_today_is_the_day_that_began_yesterday() -> None:
    night = datetime(2026, 11, 20, 2, 0, tzinfo=BERLIN)
    assert berlin("today", night) == "2026-11-19T06:00:00+01:00"
    assert berlin("yesterday", night) == "2026-11-18T06:00:00+01:00"
    assert berlin("thursday", night) == "2026-11-19T06:00:00+01:00"
    assert berlin("friday", night) == "2026-11-13T06:00:00+01:00"
    assert berlin("22:00", night) == "2026-11-19T22:00:00+01:00"
    assert berlin("yesterday 22:00", night) == "2026-11-19T22:00:00+01:00"


def test_at_the_very_start_of_a_day_it_is_that_day() -> None:
    start = datetime(2026, 11, 20, 6, 0, tzinfo=BERLIN)
    assert berlin("today", start) == "2026-11-20T06:00:00+01:00"
    assert berlin("today", start - timedelta(microseconds=1)) == "2026-11-19T06:00:00+01:00"


def test_the_end_of_a_short_month_stands_in_for_a_day_that_it_lacks() -> None:
    march = datetime(2026, 3, 31, 12, tzinfo=BERLIN)
    assert berlin("a month ago", march) == "2026-02-28T06:00:00+01:00"


# ------------------------------------------------------------------------ clocks that are set


def test_days_of_23_and_25_hours_are_so_long() -> None:
    def hours(day: date) -> float:
        begin = day_begins(day, BERLIN, time(0))
        return (day_begins(day + timedelta(days=1), BERLIN, time(0)) - begin) / timedelta(hours=1)

    assert hours(date(2026, 3, 29)) == 23
    assert hours(date(2026, 10, 25)) == 25
    assert hours(date(2026, 11, 1)) == 24


def test_hours_ago_are_hours_that_passed() -> None:
    after_the_change = datetime(2026, 10, 25, 3, 30, tzinfo=BERLIN)
    assert berlin("2 hours ago", after_the_change) == "2026-10-25T02:30:00+02:00"
    assert berlin("1 hour ago", after_the_change) == "2026-10-25T02:30:00+01:00"


def test_a_time_that_comes_twice_means_its_first_coming() -> None:
    assert berlin("2026-10-25T02:30") == "2026-10-25T02:30:00+02:00"
    assert berlin("2026-10-25T02:30+01:00") == "2026-10-25T02:30:00+01:00"


def test_a_time_that_is_jumped_over_counts_by_the_clock_before_the_jump() -> None:
    assert berlin("2026-03-29T02:00") == "2026-03-29T03:00:00+02:00"
    assert berlin("2026-03-29T02:30") == "2026-03-29T03:30:00+02:00"
    assert berlin("2026-03-29", day_start=time(2, 30)) == "2026-03-29T03:30:00+02:00"


def test_a_day_that_has_begun_goes_on_when_the_clock_is_set_back_over_its_start() -> None:
    begun = "2026-10-25T02:30:00+02:00"
    second_time = datetime.fromisoformat("2026-10-25T02:15:00+01:00")  # 45 minutes later
    assert berlin("today", second_time, time(2, 30)) == begun
    assert berlin("today", second_time - timedelta(hours=1), time(2, 30)) != begun


def test_a_day_without_a_midnight_begins_when_the_clock_has_jumped() -> None:
    cairo = ZoneInfo("Africa/Cairo")
    begin = day_begins(date(2025, 4, 25), cairo, time(0))
    assert begin.astimezone(cairo).isoformat() == "2025-04-25T01:00:00+03:00"


def test_a_day_that_an_island_left_out_is_empty() -> None:
    apia = ZoneInfo("Pacific/Apia")
    left_out = day_begins(date(2011, 12, 30), apia, time(0))
    assert left_out == day_begins(date(2011, 12, 31), apia, time(0))
    assert left_out.astimezone(apia).isoformat() == "2011-12-31T00:00:00+14:00"


# ------------------------------------------------------------------------------------ windows


def test_a_window_ends_now_in_the_stations_zone() -> None:
    now = FRIDAY.astimezone(UTC)
    found = window("yesterday", None, now=now, zone=BERLIN, day_start=time(6))
    assert found.since.isoformat() == "2026-11-19T06:00:00+01:00"
    assert found.until.isoformat() == "2026-11-20T10:15:00+01:00"


def test_until_is_exclusive_so_two_dates_make_one_day() -> None:
    found = window("2026-11-01", "2026-11-02", now=FRIDAY, zone=BERLIN, day_start=time(6))
    assert found.since.isoformat() == "2026-11-01T06:00:00+01:00"
    assert found.until.isoformat() == "2026-11-02T06:00:00+01:00"


def test_until_may_lie_in_the_future() -> None:
    found = window("today", "tomorrow", now=FRIDAY, zone=BERLIN, day_start=time(6))
    assert found.until > FRIDAY


@pytest.mark.parametrize(
    ("since", "until", "ends"),
    [
        ("22:00", "06:00", "2026-11-20T06:00:00+01:00"),
        ("08:00", "16:00", "2026-11-20T16:00:00+01:00"),  # not yet, but no other is after since
        ("monday", "14:30", "2026-11-19T14:30:00+01:00"),
    ],
)
def test_a_clock_time_as_until_is_the_last_one_or_else_the_next(
    since: str, until: str, ends: str
) -> None:
    found = window(since, until, now=FRIDAY, zone=BERLIN, day_start=time(0))
    assert found.until.isoformat() == ends


@pytest.mark.parametrize("since", ["tomorrow", "2027-01-01", "2026-11-20T10:16"])
def test_since_may_not_lie_in_the_future(since: str) -> None:
    with pytest.raises(WhenError, match="lies in the future"):
        window(since, None, now=FRIDAY, zone=BERLIN, day_start=time(6))


@pytest.mark.parametrize(
    ("since", "until"),
    [("today", "yesterday"), ("today", "today"), ("2026-11-02", "2026-11-01"), ("now", "now")],
)
def test_until_must_be_later_than_since(since: str, until: str) -> None:
    with pytest.raises(WhenError, match="is not later than --since"):
        window(since, until, now=FRIDAY, zone=BERLIN, day_start=time(6))


def test_the_order_of_two_moments_is_that_of_the_instants_not_of_the_clock() -> None:
    # 02:45 before the clock is set back, 02:15 after it: half an hour later, not earlier
    found = window(
        "2026-10-25T02:45+02:00",
        "2026-10-25T02:15+01:00",
        now=FRIDAY,
        zone=BERLIN,
        day_start=time(0),
    )
    assert found.until.astimezone(UTC) - found.since.astimezone(UTC) == timedelta(minutes=30)


# --------------------------------------------------------------------------------- properties


@given(nows, zones, day_starts)
def test_now_lies_in_today(now: datetime, zone: ZoneInfo, day_start: time) -> None:
    current = working_day(now, zone, day_start)
    begin = day_begins(current, zone, day_start)
    end = day_begins(current + timedelta(days=1), zone, day_start)
    assert begin <= now < end
    assert timedelta(hours=23) <= end - begin <= timedelta(hours=25)
    assert instant("today", now=now, zone=zone, day_start=day_start) == begin
    # and yesterday ends where today begins
    assert window("yesterday", "today", now=now, zone=zone, day_start=day_start).until == begin


@given(nows, zones)
def test_every_moment_with_its_offset_means_itself(now: datetime, zone: ZoneInfo) -> None:
    text = now.astimezone(zone).isoformat()
    assert instant(text, now=now, zone=zone, day_start=time(0)) == now


@given(st.datetimes(FIRST, LAST).map(lambda wall: wall.replace(fold=0)), zones)
def test_a_time_that_the_clock_shows_is_its_first_coming(wall: datetime, zone: ZoneInfo) -> None:
    found = on_the_clock(wall, zone)
    shown = found.astimezone(zone)
    if shown.replace(tzinfo=None) == wall:
        assert shown.fold == 0
    else:  # jumped over: shown by as much later as the clock jumped
        offset_before = (found - timedelta(hours=2)).astimezone(zone).utcoffset()
        assert offset_before is not None
        assert found.replace(tzinfo=None) == wall - offset_before


@given(nows, zones, st.integers(0, 10_000))
def test_minutes_ago_are_exact(now: datetime, zone: ZoneInfo, minutes: int) -> None:
    found = instant(f"{minutes} minutes ago", now=now, zone=zone, day_start=time(6))
    assert now - found == timedelta(minutes=minutes)


@given(st.text(max_size=30), nows)
def test_no_text_at_all_raises_anything_but_a_when_error(text: str, now: datetime) -> None:
    try:
        found = instant(text, now=now, zone=BERLIN, day_start=time(6))
    except WhenError:
        return
    assert found.tzinfo is UTC


@given(st.from_regex(r"[0-9a-z:/. +-]{1,24}", fullmatch=True), nows)
def test_no_text_that_looks_like_a_time_raises_anything_but_a_when_error(
    text: str, now: datetime
) -> None:
    test_no_text_at_all_raises_anything_but_a_when_error.hypothesis.inner_test(text, now)  # type: ignore[attr-defined]  # set by @given


def test_the_common_words_do_not_load_dateparser() -> None:
    code = (
        "import sys; from datetime import *; from crackwatch.reporting.when import window\n"
        "for since in ('yesterday', 'monday', '2026-11-01', '2 days ago', '3 hours ago', '14:30'):\n"
        "    window(since, None, now=datetime(2026, 11, 20, 10, tzinfo=UTC), zone=UTC,"
        " day_start=time(0))\n"
        "assert 'dateparser' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
