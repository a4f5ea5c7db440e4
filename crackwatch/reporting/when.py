"""What a person means by ``--since`` and ``--until``, as instants; asks no clock and no network.

A day word (yesterday, monday, 2026-11-01, "2 days ago") is the first instant of that working day, as
``days.day_begins`` has it. Anything that names an hour or a minute is that very moment on the wall
calendar. Every text is one instant, so that the end of one report is the beginning of the next and
nothing is counted twice: a time that the clock shows twice in autumn means the first time.

dateparser, which takes a third of a second to import, reads only dates with a month's name in them.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from crackwatch.days import Window, day_begins, working_day
from crackwatch.errors import WhenError

EXAMPLES = (
    "Write for instance: yesterday, today, monday, 2026-11-01, '2 days ago', '3 hours ago', "
    "14:30, 'yesterday 14:30', 2026-11-01T06:00 or 2026-11-01T06:00+01:00."
)

_LONGEST_TEXT = 80
_DAY = timedelta(days=1)

_WEEKDAYS = {
    name: number
    for number, names in enumerate(
        (
            ("monday", "mon"),
            ("tuesday", "tue", "tues"),
            ("wednesday", "wed"),
            ("thursday", "thu", "thur", "thurs"),
            ("friday", "fri"),
            ("saturday", "sat"),
            ("sunday", "sun"),
        )
    )
    for name in names
}
_MONTH_NAME = re.compile(
    r"\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b"
)
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_NUMBERS |= {"seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12}
_PERIODS_S = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "hr": 3600}
_PERIODS_DAYS = {"day": 1, "week": 7, "fortnight": 14}
_PERIODS_MONTHS = {"month": 1, "year": 12}
_UNIT = "|".join([*_PERIODS_S, *_PERIODS_DAYS, *_PERIODS_MONTHS])
_AMOUNT = rf"([0-9]+(?:\.[0-9]+)?|{'|'.join(_NUMBERS)})\s*({_UNIT})s?"
_AGO = re.compile(rf"{_AMOUNT}(?:(?:\s+|\s*,\s*|\s+and\s+){_AMOUNT})*\s+ago")
_AMOUNTS = re.compile(rf"\b{_AMOUNT}\b")

_CLOCK = re.compile(r"([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2}))?)?\s*(am|pm|a\.m\.|p\.m\.)?")
_DAY_AND_CLOCK = re.compile(
    r"(?P<day>.+?)(?:\s*,\s*|\s+at\s+|\s+)"
    r"(?P<clock>noon|midnight|[0-9]{1,2}(?::[0-9]{2}){1,2}(?:\s*[ap]\.?m\.?)?"
    r"|[0-9]{1,2}\s*[ap]\.?m\.?)"
)
_ISO_DATE = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}")
_ISO_MOMENT = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}[t ][0-9]{2}.*")
_SLASHED = re.compile(r"([0-9]{1,2})([./-])([0-9]{1,2})\2[0-9]{2,4}")


def window(
    since: str, until: str | None, *, now: datetime, zone: tzinfo, day_start: time
) -> Window:
    """The span that two texts name, both ends in the station's zone; without ``until`` it ends now.

    ``now`` is timezone-aware. Raises WhenError, with examples, for what is not understood, for a
    ``since`` in the future and for an ``until`` that is not later than ``since``.
    """
    begin = instant(since, now=now, zone=zone, day_start=day_start, option="--since")
    if begin > now.astimezone(UTC):
        raise WhenError(
            f"--since {since!r}: {_shown(begin, zone)} lies in the future",
            f"Nothing has been inspected since then. {EXAMPLES}",
        )
    if until is None:
        end = now.astimezone(UTC)
    else:
        end = instant(until, now=now, zone=zone, day_start=day_start, option="--until")
        if end <= begin and _clock(_normal(until)) is not None:
            # "14:30" is the last one that was; where that is too early, the next one is meant
            tomorrow = now + _DAY
            end = instant(until, now=tomorrow, zone=zone, day_start=day_start, option="--until")
        if end <= begin:
            raise WhenError(
                f"--until {until!r}: {_shown(end, zone)} is not later than "
                f"--since {since!r}: {_shown(begin, zone)}",
                "Give a later --until; it is exclusive, so one whole day is "
                "--since 2026-11-01 --until 2026-11-02.",
            )
    return Window(begin.astimezone(zone), end.astimezone(zone))


def instant(
    text: str, *, now: datetime, zone: tzinfo, day_start: time, option: str = "--since"
) -> datetime:
    """The moment that ``text`` names, in UTC; ``option`` is what an error calls it.

    Raises WhenError, with examples, for a text that is empty or not understood.
    """
    words = _normal(text)
    if not words:
        raise WhenError(f"{option}: is empty", EXAMPLES)
    if len(words) > _LONGEST_TEXT:
        raise WhenError(f"{option}: is too long to be a time", EXAMPLES)
    try:
        found = _understand(words, now, zone, day_start, option)
        if found is not None:
            found.astimezone(zone)  # at either end of the calendar another zone has no date for it
    except (OverflowError, ValueError) as exc:
        raise WhenError(f"{option} {text!r}: is not a date or time that exists", EXAMPLES) from exc
    if found is None:
        raise WhenError(f"{option} {text!r}: not understood", EXAMPLES)
    return found


def on_the_clock(wall: datetime, zone: tzinfo) -> datetime:
    """The instant, in UTC, at which the station's clock shows ``wall`` (naive); as a day begins.

    A time that comes twice means its first coming. One that is jumped over counts as if the clock
    had not been turned yet: half past two is half an hour after two, though the clock shows 03:30.
    """
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


# ------------------------------------------------------------------------------ understanding


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def _shown(moment: datetime, zone: tzinfo) -> str:
    return moment.astimezone(zone).isoformat(sep=" ", timespec="seconds")


def _understand(
    words: str, now: datetime, zone: tzinfo, day_start: time, option: str
) -> datetime | None:
    """The instant, None for what makes no sense; ValueError and OverflowError for 30 February."""
    if words == "now":
        return now.astimezone(UTC)
    current = working_day(now, zone, day_start)
    day = _day_named(words, current)
    if day is not None:
        return day_begins(day, zone, day_start)
    if _AGO.fullmatch(words):
        return _ago(words, now, zone, day_start, current)
    if _ISO_MOMENT.fullmatch(words):
        return _moment(datetime.fromisoformat(words.upper()), zone)
    clock = _clock(words)
    if clock is not None:
        return _last_time_at(clock, now, zone)
    both = _DAY_AND_CLOCK.fullmatch(words)
    if both:
        calendar_day = _day_named(both["day"], now.astimezone(zone).date())
        clock = _clock(both["clock"])
        if calendar_day is not None and clock is not None:
            return on_the_clock(datetime.combine(calendar_day, clock), zone)
    return _with_dateparser(words, now, zone, day_start, option)


def _day_named(words: str, current: date) -> date | None:
    """The date that a day word names, seen from ``current``."""
    days = {"today": 0, "yesterday": 1, "day before yesterday": 2, "tomorrow": -1}
    if words in days:
        return current - days[words] * _DAY
    if _ISO_DATE.fullmatch(words):
        return date.fromisoformat(words)
    which, _, name = words.rpartition(" ")
    if name in _WEEKDAYS and which in ("", "last"):
        back = (current.weekday() - _WEEKDAYS[name]) % 7
        return current - (back or (7 if which else 0)) * _DAY
    if which in ("this", "last"):
        last = which == "last"
        if name == "week":
            return current - (current.weekday() + 7 * last) * _DAY
        if name == "month":
            return _months_before(current.replace(day=1), int(last))
        if name == "year":
            return date(current.year - last, 1, 1)
    return None


def _ago(words: str, now: datetime, zone: tzinfo, day_start: time, current: date) -> datetime:
    """Whole days, weeks, months and years lead to the start of a day; hours and less do not."""
    seconds = 0.0
    days = months = 0
    exact = False
    for amount, unit in _amounts(words):
        if unit in _PERIODS_S:
            exact = True
            seconds += amount * _PERIODS_S[unit]
        elif not amount.is_integer():
            raise ValueError(f"{amount} {unit}s is no whole number of days")
        elif unit in _PERIODS_DAYS:
            days += int(amount) * _PERIODS_DAYS[unit]
        else:
            months += int(amount) * _PERIODS_MONTHS[unit]
    if not exact:
        return day_begins(_months_before(current, months) - days * _DAY, zone, day_start)
    back = now.astimezone(UTC)
    if days or months:
        local = now.astimezone(zone)
        day = _months_before(local.date(), months) - days * _DAY
        back = on_the_clock(datetime.combine(day, local.time()), zone)
    # hours are as long as they are: in UTC no clock is set meanwhile
    return back - timedelta(seconds=seconds)


def _amounts(words: str) -> Iterator[tuple[float, str]]:
    for amount, unit in _AMOUNTS.findall(words):
        yield (float(_NUMBERS[amount]) if amount in _NUMBERS else float(amount)), unit


def _months_before(day: date, months: int) -> date:
    """The same day of an earlier month, or that month's last day if it is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    if year < 1:
        raise ValueError("before the first year")
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _clock(words: str) -> time | None:
    """A time of day, or None. Raises ValueError for one that no clock shows."""
    if words in ("noon", "midnight"):
        return time(12 if words == "noon" else 0)
    match = _CLOCK.fullmatch(words)
    if match is None or (match[2] is None and match[4] is None):
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if match[4]:
        if not 1 <= hour <= 12:
            raise ValueError(f"there is no {words}")
        hour = hour % 12 + (12 if match[4].startswith("p") else 0)
    return time(hour, minute, second)


def _last_time_at(clock: time, now: datetime, zone: tzinfo) -> datetime:
    """The last moment, now included, at which the station's clock showed this time of day."""
    day = now.astimezone(zone).date()
    found = on_the_clock(datetime.combine(day, clock), zone)
    return found if found <= now else on_the_clock(datetime.combine(day - _DAY, clock), zone)


def _moment(found: datetime, zone: tzinfo) -> datetime:
    """A date and time as an instant; one without an offset is read off the station's clock."""
    return on_the_clock(found, zone) if found.tzinfo is None else found.astimezone(UTC)


def _with_dateparser(
    words: str, now: datetime, zone: tzinfo, day_start: time, option: str
) -> datetime | None:
    """Dates such as "1 November" or "Nov 1st 2026, 2 pm": months by name, the rest is refused.

    dateparser gives a date to nearly everything ("a", "-3"), so it is asked only where a month is
    named, or where a date with the year last can be read in one way only.
    """
    slashed = _SLASHED.fullmatch(words)
    if slashed and max(int(slashed[1]), int(slashed[3])) <= 12 and slashed[1] != slashed[3]:
        raise WhenError(
            f"{option} {words!r}: can be read in two ways, day first or month first", EXAMPLES
        )
    if not slashed and not _MONTH_NAME.search(words):
        return None
    from dateparser.date import DateDataParser

    parser = DateDataParser(
        languages=["en"],
        settings={
            "PARSERS": ["absolute-time"],
            "RELATIVE_BASE": now.astimezone(zone).replace(tzinfo=None),
            "PREFER_DATES_FROM": "past",
            "PREFER_DAY_OF_MONTH": "first",
            "RETURN_TIME_AS_PERIOD": True,
        },
    )
    read = parser.get_date_data(words)
    found: datetime | None = read.date_obj
    if found is None:
        return None
    if found.tzinfo is not None and not re.search(r"(?:utc|gmt|z|[+-]\d\d:?\d\d)$", words):
        raise WhenError(
            f"{option} {words!r}: an abbreviated time zone can mean several",
            "Write the offset as a number, such as +01:00, or leave it out: the station's clock.",
        )
    if read.period == "time":
        return _moment(found, zone)
    if read.period in ("day", "month", "year"):
        return day_begins(found.date(), zone, day_start)
    return None
