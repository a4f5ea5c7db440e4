"""Settings, times, tables and names that nobody sane would write end in a sentence, never in a trace."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from crackwatch import config_file
from crackwatch.dataset.cutting import read_boxes
from crackwatch.days import Window
from crackwatch.domain import Label, Outcome
from crackwatch.errors import SettingsError, UsageError, WhenError
from crackwatch.escaping import path_bytes, path_text
from crackwatch.people import checked_name, checked_note
from crackwatch.reported import FoundAnomaly, QuarantinedPicture, Summary
from crackwatch.reporting import render_csv, render_html, render_table, when
from crackwatch.review import exchange
from crackwatch.settings import Settings
from crackwatch.store.reviews import Review
from crackwatch.store.standing import Standing
from tests.hostile.fuzzing import examples

NOW = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)

# ------------------------------------------------------------------------------------ settings

SECTIONS = {
    name: list(field.annotation.model_fields)
    for name, field in Settings.model_fields.items()
    if name != "file"
}
KEYS = [(section, key) for section, keys in SECTIONS.items() for key in keys]

words = st.one_of(
    st.sampled_from(["inbox", "../..", ".", "/", "model", "06:00", "Europe", "sqlite:///", "*["]),
    st.text(max_size=12),
)
values = st.recursive(
    st.one_of(
        words.map(lambda text: json.dumps(text, ensure_ascii=True)),
        st.integers().map(str),
        st.floats().map(repr),
        st.sampled_from(["true", "2026-02-30", "0x1F", "1e999", "07:00:00", '"""', "9" * 5_000]),
        st.text(max_size=10),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]"),
        inner.map(lambda each: f"{{a={each}}}"),
    ),
    max_leaves=4,
)
lines = st.one_of(
    st.tuples(st.sampled_from(KEYS), values).map(lambda it: f"[{it[0][0]}]\n{it[0][1]} = {it[1]}"),
    st.tuples(st.sampled_from(sorted(SECTIONS)), values).map(lambda it: f"{it[0]} = {it[1]}"),
    st.text(max_size=20),
)


def loads(content: bytes, environment: dict[str, str], folder: Path) -> bool:
    """Whether these are settings; whatever else than SettingsError is raised fails the test."""
    file = folder / "config.toml"
    file.write_bytes(content)
    try:
        found = config_file.load(file, environment)
    except SettingsError as exc:
        assert exc.problem.startswith((str(file), "environment variable ")) and exc.remedy  # noqa: PT017 - both ends are claims
        return False
    assert all(path.is_absolute() and "\0" not in str(path) for _, path in found.folders)
    return True


@examples(60)
@given(st.lists(lines, max_size=3).map("\n".join))
@example("a = " + "[" * 5_000)
@example("a = " + "{a=" * 5_000)
@example("[batch]\nmax_size = " + "9" * 5_000)
@example('[folders]\ninbox = "in\\u0000box"')
@example('[database]\nurl = "sqlite:///a\\u0000b"')
def test_whatever_config_toml_holds_it_is_settings_or_a_sentence(tmp_path: Path, text: str) -> None:
    loads(text.encode("utf-8", "surrogatepass"), {}, tmp_path)


@examples(40)
@given(st.binary(max_size=60))
def test_a_config_toml_that_is_no_text_is_a_sentence_too(tmp_path: Path, content: bytes) -> None:
    loads(content, {}, tmp_path)


names = st.one_of(
    st.sampled_from([f"CRACKWATCH_{section.upper()}__{key.upper()}" for section, key in KEYS]),
    st.text(st.characters(exclude_characters="\0="), max_size=8).map("CRACKWATCH_".__add__),
)
# as os.environ holds it: bytes that are not UTF-8 are lone surrogates
raw = st.binary(max_size=20).map(
    lambda each: each.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


@examples(80)
@given(
    st.dictionaries(names, st.one_of(raw, values.filter(lambda each: "\0" not in each)), max_size=3)
)
@example({"CRACKWATCH_BATCH__MAX_SIZE": "[" * 50_000})
@example({"CRACKWATCH_BATCH__MAX_SIZE": "9" * 5_000})
@example({"CRACKWATCH_STATION__NAME": "\udcff"})
def test_whatever_the_environment_holds_it_is_settings_or_a_sentence(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    loads(b"", environment, tmp_path)


def test_a_config_whose_name_no_file_can_have_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match="too long"):
        config_file.find_config("a" * 5_000, {})


# -------------------------------------------------------------------------------- --since, --until

COMMON = (
    "ago last this at and noon midnight am pm utc z gmt+14 est , - / . : "
    "day days weeks month year hours fortnight monday tues yesterday a ten"
)
MONTHS = "january feb march apr may june jul august sept october nov december"
tokens = st.one_of(
    st.sampled_from(MONTHS.split()),
    st.sampled_from(COMMON.split()),
    st.integers(0, 9_999).map(str),
    st.sampled_from(["1st", "31", "29", "2026", "0001", "9999", "99999999999999999999", "1e9"]),
    st.sampled_from(
        ["12:60", "24:00", "+23:59", "-14:00", "0001-01-01t00:00+00:00", "٣", "ⅳ", "\0"]
    ),
)
texts = st.lists(tokens, min_size=1, max_size=6).flatmap(
    lambda parts: st.sampled_from([" ", "", "-"]).map(lambda joint: joint.join(parts))
)
zones = st.sampled_from(["UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"]).map(
    ZoneInfo
)
ENDS = ("0001-01-01T00:00+00:00", "0001-01-01", "9999-12-31T23:59+00:00", "9999-12-31T23:59:59Z")


@examples(100)
@given(texts, st.one_of(st.none(), texts, st.sampled_from(ENDS)), zones, st.integers(0, 23))
@example(ENDS[0], None, ZoneInfo("America/New_York"), 0)
@example("yesterday", ENDS[2], ZoneInfo("Asia/Tokyo"), 0)
@example(ENDS[2], None, ZoneInfo("Asia/Tokyo"), 0)
@example("9999-12-31", ENDS[3], ZoneInfo("Pacific/Kiritimati"), 6)
def test_two_texts_are_a_window_or_a_sentence_with_examples(
    since: str, until: str | None, zone: ZoneInfo, hour: int
) -> None:
    try:
        found = when.window(since, until, now=NOW, zone=zone, day_start=time(hour))
    except WhenError as exc:
        assert exc.remedy  # noqa: PT017 - a refusal without a way out is no refusal
        return
    assert found.since.astimezone(UTC) <= NOW and found.since < found.until


# ----------------------------------------------------------------------------------------- names

NASTY = [
    b"-rf.jpg", b"--config=x.jpg", b"../../etc/passwd", b"a\nb.jpg", b"a\r\nb.jpg", b"\x1b[2J.jpg",
    b"\xff\xfe.jpg", "‮gpj.crack.jpg".encode(), "⁦a⁩.jpg".encode(), "\u200f.jpg".encode(),
    b"=cmd|'/c calc'!A1.jpg", b"+1.jpg", b"@SUM(1).jpg", b"\t.jpg", b"\r.jpg", b"'=1.jpg",
    b"<script>alert(1)</script>.jpg", b"\"onload=x.jpg", b"{{7*7}}.jpg", b"[red]x[/red].jpg",
    b"&#x3c;b&#x3e;.jpg", b"\\x00.jpg", b"\\\\.jpg", "\u2028.jpg".encode(), b"a\x7fb.jpg", b"a\xc2\x85b",
]  # fmt: skip
file_names = st.one_of(st.sampled_from(NASTY), st.binary(min_size=1, max_size=40)).map(
    lambda each: each.replace(b"\0", b"0")
)


@examples(80)
@given(file_names)
def test_a_shown_name_comes_back_and_holds_nothing_that_acts(name: bytes) -> None:
    shown = path_text(name)
    assert path_bytes(shown) == name
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert json.loads(json.dumps(shown)) == shown and shown.encode().decode() == shown


class Outline(HTMLParser):
    """The tags of a page with their attributes, and the text of its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[Any] = []
        self.cells: list[str] = []
        self._within = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))
        self._within = tag == "td"
        if self._within:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(tag)
        self._within = False

    def handle_data(self, data: str) -> None:
        if self._within:
            self.cells[-1] += data


def summary(name: bytes) -> Summary:
    """One anomaly and one quarantined picture of that name."""
    return Summary(
        window=Window(NOW - timedelta(days=1), NOW),
        normal=0, anomaly=1, quarantined=1, superseded=0, pending=None, pending_as_of=None,
        models=(),
        anomalies=(FoundAnomaly(name, b"/flagged/" + name, 0.9, NOW, "model"),),
        quarantine=(QuarantinedPicture(name, b"/quarantine/" + name, "unreadable"),),
        hourly=(),
    )  # fmt: skip


@examples(25)
@given(file_names)
def test_no_name_changes_the_page_that_it_stands_on(name: bytes) -> None:
    plain = Outline(render_html.html(summary(b"a.jpg"), "station", NOW))
    page = Outline(render_html.html(summary(name), "station", NOW))
    assert page.tags == plain.tags
    assert page.cells[-1] == path_text(b"/quarantine/" + name)


@examples(25)
@given(file_names)
def test_no_name_makes_a_line_of_its_own_in_the_table(name: bytes) -> None:
    plain = render_table.plain(summary(b"a.jpg"), "station")
    told = render_table.plain(summary(name), "station")
    assert len(told.splitlines()) == len(plain.splitlines()) == told.count("\n")
    drawn = io.StringIO()
    render_table.on_terminal(summary(name), "station", drawn, width=400)
    assert path_text(b"/flagged/" + name) in drawn.getvalue() and "\x1b" not in drawn.getvalue()


class Line:
    """What the CSV asks of an inspection."""

    id = 1
    inspected_at = NOW
    outcome = Outcome.QUARANTINED
    standing = Standing.QUARANTINED
    score = threshold = model = sha256 = duplicate_of = None
    reason = "unreadable"

    def __init__(self, source: bytes, detail: str) -> None:
        self.source = source
        self.detail = detail


def is_formula(cell: str) -> bool:
    return cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@examples(80)
@given(file_names, st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@example(b"\r=1.jpg", "\r\n=1")
def test_every_inspection_is_one_line_of_csv_without_a_formula(name: bytes, detail: str) -> None:
    assume("\r" not in detail and "\0" not in detail)  # details are ours, names are not
    written = io.StringIO(newline="")
    line: Any = Line(name, detail)
    render_csv.write(written, [(line, None)] * 2, lambda _: b"/q/" + name, UTC)
    header, *rows = csv.reader(io.StringIO(written.getvalue(), newline=""))
    assert header == list(render_csv.COLUMNS) and rows[0] == rows[1] and len(rows) == 2
    assert not any(is_formula(cell) for row in rows for cell in row)
    shown = path_text(name)
    assert rows[0][header.index("source")] == ("'" + shown if is_formula(shown) else shown)


# -------------------------------------------------------------------------------- reviewers' tables


@examples(80)
@given(st.text(max_size=40))
def test_what_a_reviewer_notes_comes_back_from_the_table_as_it_was(text: str) -> None:
    try:
        note, by = checked_note(text), checked_name(text[:20] or "-")
    except UsageError:
        assume(False)
    review = Review(
        sha256=bytes(32), inspection_id=7, label=Label.ANOMALY, by=by, at=NOW, note=note,
        picture=b"", pixels=bytes(16),
    )  # fmt: skip
    written = io.StringIO(newline="")
    no_copies: Any = None
    exchange.write(written, [review], no_copies, UTC)
    for row in csv.reader(io.StringIO(written.getvalue(), newline="")):
        assert not any(is_formula(cell) for cell in row)
    table = exchange.parse(written.getvalue().encode(), "t.csv", UTC)
    assert [(each.by, each.note) for each in table.rows] == [(by, note)]


cells = st.one_of(
    st.sampled_from(["crack", "ok", "", "7", "9" * 5_000, "a.jpg", "\\x00", "../../x", "=1", "'"]),
    st.sampled_from(["2026-11-01T10:00", "0001-01-01T00:00+23:59", "9999-12-31", "0,0,9,9", '"']),
    st.text(max_size=8),
)
tables = st.lists(st.lists(cells, max_size=6).map(",".join), max_size=4).map("\n".join)
headers = st.sampled_from(["path,label", "id,label,at", "path,label,box,photograph,sha256,by,note"])


@examples(80)
@given(headers, tables, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
@example("path,label", "\\x00,crack", "utf-8")
@example("path,label", '"' + "a" * 200_000 + '",crack', "utf-8")
def test_any_table_is_labels_or_a_sentence_that_names_it(header: str, body: str, code: str) -> None:
    content = f"{header}\n{body}".encode(code, "replace")
    try:
        table = exchange.parse(content, "t.csv", UTC)
    except UsageError as exc:
        assert exc.problem.startswith("t.csv")  # noqa: PT017 - which file it was is the claim
        return
    for row in table.rows:
        assert row.path is None or b"\0" not in path_bytes(row.path)
        assert row.at is None or row.at >= datetime(1970, 1, 1, tzinfo=UTC)


@examples(60)
@given(st.one_of(st.binary(max_size=80), st.tuples(headers, tables).map("\n".join).map(str.encode)))
@example(b"file,x,y,w,h,label\n\\x00,1,1,9,9,crack")
def test_any_bytes_at_all_are_a_table_or_a_sentence(tmp_path: Path, content: bytes) -> None:
    with suppress(UsageError):
        exchange.parse(content, "t.csv", UTC)
    file = tmp_path / "boxes.csv"
    file.write_bytes(content)
    with suppress(UsageError):
        assert all(isinstance(each, bytes) for each in read_boxes(file))
