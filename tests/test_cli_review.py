"""``crackwatch review`` as a technician and a script see it."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crackwatch.cli import execute, retrain
from crackwatch.config_file import load
from crackwatch.domain import ReviewBand
from crackwatch.errors import EXIT_DONE, EXIT_FOUND, EXIT_NO_DATABASE, EXIT_USAGE
from crackwatch.review.exchange import guarded, unguarded
from tests.station import Station, jpeg


class Shell:
    """Runs ``crackwatch review`` on a station and keeps what it said."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], **station: Any) -> None:
        self.root = root
        self.config = root / "config.toml"
        self.config.write_text("[station]\ntimezone = 'Europe/Berlin'\n")
        self.station = Station(root, **station)
        self._capsys = capsys
        self.error = ""

    def __call__(self, *arguments: str | Path, status: int = EXIT_DONE) -> str:
        self._capsys.readouterr()
        words = ["review", *map(str, arguments), "--config", str(self.config)]
        found = execute(words)
        said = self._capsys.readouterr()
        self.error = said.err
        assert found == status, said.err
        return said.out

    def json(self, *arguments: str | Path, status: int = EXIT_DONE) -> Any:
        return json.loads(self(*arguments, "--format", "json", status=status))

    def labels(self) -> list[tuple[str, str, str | None]]:
        with closing(sqlite3.connect(self.station.database)) as connection:
            return connection.execute(
                "SELECT label, reviewed_by, note FROM reviews ORDER BY id"
            ).fetchall()

    def table(self, text: str | bytes) -> Path:
        file = self.root / "table.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A station with a flagged crack (inspection 1) and a wall in the inbox (inspection 2)."""
    shell = Shell(tmp_path, capsys)
    shell.station.put("crack.jpg", jpeg(dark=True))
    shell.station.put("wall.jpg", jpeg(dark=False))
    shell.station.inspect("crack.jpg", "wall.jpg")
    return shell


def test_retrain_says_which_labels_it_cannot_learn_from(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    document = shell.json("mark", "1", "ok", "--by", "anna")
    retrain._look_after_reviews(load(shell.config, {}))
    assert capsys.readouterr().err == ""
    os.unlink(document["picture"])
    retrain._look_after_reviews(load(shell.config, {}))
    said = capsys.readouterr().err
    assert f"{shell.root}/dataset/reviewed: copies of reviewed pictures that are gone" in said
    assert "cannot be learned from: 1. " in said


# ---------------------------------------------------------------------------------------- mark


def test_mark_says_what_it_did_and_whether_the_station_agreed(shell: Shell) -> None:
    said = shell("mark", "1", "ok", "--by", "anna", "--note", "a joint")
    assert said.startswith(f"marked ok by anna: {shell.root}/flagged/2026-11-23/crack.jpg\n")
    assert "inspection 1 DISAGREES: anomaly, score 0.9000\n" in said
    assert f"to learn from: {shell.root}/dataset/reviewed/normal/crack-" in said
    assert shell("mark", "1", "ok", "--by", "anna", "--note", "a joint").startswith(
        "was marked already ok by anna"
    )
    said = shell("mark", "1", "crack", "--by", "ben")
    assert "inspection 1 agrees" in said
    assert "earlier label ok by anna, 20" in said


def test_mark_as_json_is_one_document(shell: Shell) -> None:
    document = shell.json("mark", "wall.jpg", "crack", "--by", "anna")
    assert {key: document[key] for key in ("label", "by", "note", "changed", "inspection")} == {
        "label": "crack",
        "by": "anna",
        "note": None,
        "changed": True,
        "inspection": 2,
    }
    assert (document["verdict"], document["agrees"], document["earlier"]) == ("normal", False, [])
    assert document["path"] == str(shell.root / "inbox/wall.jpg")
    assert Path(document["picture"]).read_bytes() == jpeg(dark=False)
    assert datetime.fromisoformat(document["at"]).utcoffset() is not None


def test_who_is_the_one_who_called_sudo_else_the_user(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "station-user")
    monkeypatch.delenv("SUDO_USER", raising=False)
    shell("mark", "1", "ok")
    monkeypatch.setenv("SUDO_USER", "anna")
    shell("mark", "2", "ok")
    assert [by for _, by, _ in shell.labels()] == ["station-user", "anna"]


@pytest.mark.parametrize("by", ["", "  ", "a\x1b[2J", "x" * 201, "b\udcff"])
def test_what_is_no_name_is_refused(shell: Shell, by: str) -> None:
    shell("mark", "1", "ok", "--by", by, status=EXIT_USAGE)
    assert "is not the name of a person" in shell.error
    assert shell.labels() == []


@pytest.mark.parametrize("note", ["x" * 2_001, "b\udcff"])
def test_a_note_that_cannot_be_kept_is_refused(shell: Shell, note: str) -> None:
    shell("mark", "1", "ok", "--note", note, status=EXIT_USAGE)
    assert "the note" in shell.error


def test_another_word_than_crack_or_ok_is_refused(shell: Shell) -> None:
    shell("mark", "1", "craack", status=EXIT_USAGE)
    assert "crack" in shell.error


def test_a_deleted_picture_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path, capsys, normal="delete")
    shell.station.put("wall.jpg", jpeg(dark=False))
    shell.station.inspect("wall.jpg")
    shell("mark", "1", "ok", status=EXIT_USAGE)
    assert "inspection 1 (wall.jpg): there is no file to copy: it was deleted" in shell.error


def test_without_a_database_nothing_is_marked(shell: Shell) -> None:
    shell.station.database.unlink()
    shell("mark", "1", "ok", status=EXIT_NO_DATABASE)
    assert not (shell.root / "dataset").exists()


def test_a_folder_that_cannot_be_written_is_named(shell: Shell) -> None:
    (shell.root / "dataset").write_text("a file")
    shell("mark", "1", "ok", status=EXIT_USAGE)
    assert f"{shell.root}/dataset/reviewed: cannot be written: Not a directory" in shell.error
    assert shell.labels() == []


# ---------------------------------------------------------------------------------------- list


def test_list_shows_labels_verdicts_notes_and_contradictions(shell: Shell) -> None:
    shell("mark", "1", "ok", "--by", "anna", "--note", "a joint\nin the wall")
    shell("mark", "2", "ok", "--by", "anna")
    shell("mark", "1", "crack", "--by", "ben")
    said = shell("list")
    first, *lines = said.splitlines()
    assert first == "2 reviewed: 1 crack, 1 ok; 0 against the verdict, 1 contradictory"
    assert "crack ben          0.9000 anomaly  agrees     " in lines[0]
    assert lines[0].endswith(f"{shell.root}/flagged/2026-11-23/crack.jpg")
    assert lines[1] == "      both labels were given:"
    assert lines[2].startswith("        ok    anna, 20")
    assert "ok    anna         0.1000 normal   agrees" in lines[4]
    assert len(shell("list", "--contradictions").splitlines()) == 5
    assert "note: a joint in the wall" not in said  # the note of a label that no longer counts
    assert len(shell("list", "--limit", "1").splitlines()) == 6
    assert shell.error == ""


def test_list_as_json_has_every_label_of_a_picture(shell: Shell) -> None:
    shell("mark", "1", "ok", "--by", "anna")
    shell("mark", "1", "crack", "--by", "ben", "--note", "sure")
    shell("mark", "2", "crack", "--by", "anna")
    document = shell.json("list")
    assert {key: document[key] for key in document if key != "reviews"} == {
        "crack": 2,
        "ok": 0,
        "disagreeing": 1,
        "contradictions": 1,
        "shown": 2,
    }
    wall, crack = document["reviews"]
    assert [(each["label"], each["by"]) for each in crack["labels"]] == [
        ("ok", "anna"),
        ("crack", "ben"),
    ]
    assert (crack["label"], crack["note"], crack["inspection"]) == ("crack", "sure", 1)
    assert (crack["score"], crack["verdict"], crack["agrees"]) == (
        pytest.approx(0.9),
        "anomaly",
        True,
    )
    assert (wall["agrees"], wall["contradictory"], wall["copy_lost"]) == (False, False, False)
    assert shell.json("list", "--contradictions")["reviews"] == [crack]
    assert shell.json("list", "--since", "2026-11-01T00:00")["shown"] == 2
    shell("list", "--since", "whenever", status=EXIT_USAGE)
    assert "--since 'whenever'" in shell.error


def test_list_puts_copies_right_and_tells_of_lost_ones(shell: Shell) -> None:
    kept = Path(shell.json("mark", "1", "ok")["picture"])
    lost = Path(shell.json("mark", "2", "ok")["picture"])
    kept.rename(kept.parents[1] / ".staged" / jpeg_hash(shell))  # as after a crash
    lost.unlink()
    wall, crack = shell.json("list")["reviews"]
    assert (wall["copy_lost"], crack["copy_lost"]) == (True, False)
    assert kept.exists()
    assert "its copy is gone: mark it again" in shell("list")


def jpeg_hash(shell: Shell) -> str:
    return bytes(shell.station.rows()[0]["sha256"]).hex()


def test_a_list_of_nothing_says_so_and_makes_no_folder(shell: Shell) -> None:
    assert shell("list").startswith("0 reviewed")
    assert shell.json("list")["reviews"] == []
    assert not (shell.root / "dataset").exists()


def test_a_list_that_may_not_mend_lists_all_the_same(shell: Shell) -> None:
    shell("mark", "1", "ok")
    (shell.root / "dataset").rename(shell.root / "elsewhere")
    (shell.root / "dataset").write_text("a file")
    assert shell.json("list")["reviews"][0]["copy_lost"] is True
    assert "copies were not looked after" in shell.error


def test_band_lists_what_to_look_at_next(shell: Shell) -> None:
    shell.station.put("doubtful.jpg", jpeg(dark=True, seed=2))
    with shell.station.pipeline(review_band=ReviewBand(0.5, 0.95)) as pipeline:
        pipeline.inspect(shell.station.batch("doubtful.jpg"), shell.station.judging(0.8))
        pipeline.file()
        pipeline.close()
    document = shell.json("list", "--band")
    assert (document["waiting"], document["shown"]) == (1, 1)
    assert document["band"][0]["inspection"] == 3
    assert document["band"][0]["verdict"] == "anomaly"
    said = shell("list", "--band")
    assert said.startswith("1 waiting for a person's eye\n")
    assert said.endswith("Say what one shows: crackwatch review mark 3 ok\n")
    assert "This station has no review band" in shell.error
    assert shell.json("list", "--band", "--limit", "0")["shown"] == 0
    shell("mark", "3", "ok")
    assert shell.json("list", "--band")["band"] == []
    shell("list", "--band", "--contradictions", status=EXIT_USAGE)


def test_the_band_as_csv_can_be_labelled_and_imported(shell: Shell) -> None:
    shell.station.put("=doubtful.jpg", jpeg(dark=True, seed=2))
    with shell.station.pipeline(review_band=ReviewBand(0.5, 0.95)) as pipeline:
        pipeline.inspect(shell.station.batch("=doubtful.jpg"), shell.station.judging(0.8))
        pipeline.file()
    rows = list(csv.DictReader(io.StringIO(shell("list", "--band", "--format", "csv"))))
    assert rows[0]["source"] == "'=doubtful.jpg"
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*rows[0], "label"])
    writer.writeheader()
    writer.writerow({**rows[0], "label": "ok"})
    assert shell.json("import", shell.table(stream.getvalue()))["marked"] == 1


# ------------------------------------------------------------------------------ import and export


def test_export_and_import_are_a_round_trip(shell: Shell, tmp_path: Path) -> None:
    formula = tmp_path / "=cmd.jpg"
    formula.write_bytes(jpeg(dark=True, seed=6))
    shell("mark", "1", "ok", "--by", "=anna", "--note", '\'=quoted, and\nmore; than a "line"')
    shell("mark", "1", "crack", "--by", "ben", "--note", "'+1")
    shell("mark", formula, "crack", "--by", "anna", "--note", "'plain")
    exported = shell("export")
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert [row["by"] for row in rows] == ["'=anna", "ben", "anna"]
    assert [row["note"] for row in rows][1:] == ["''+1", "'plain"]
    before = shell.labels()
    table = shell.table(exported)
    assert shell.json("import", table) == {
        "marked": 0,
        "unchanged": 3,
        "contradictory": 1,
        "without_label": 0,
        "ignored_columns": [],
        "refused": [],
    }
    with closing(sqlite3.connect(shell.station.database)) as connection:
        connection.execute("DELETE FROM reviews")  # a database made anew
        connection.commit()
    assert shell.json("import", table)["marked"] == 3
    assert shell.labels() == before
    assert shell("export") == exported
    assert {each["label"] for each in shell.json("list")["reviews"]} == {"crack"}


def test_a_relabelled_picture_comes_back_into_a_database_that_knows_no_inspection(
    shell: Shell, tmp_path: Path
) -> None:
    """The copy lies where the last label put it; the earlier one's row names where it was."""
    shell("mark", "1", "crack", "--by", "anna")
    shell("mark", "1", "ok", "--by", "ben")
    table = shell.table(shell("export"))
    before = shell.labels()
    (shell.station.root / "flagged").rename(tmp_path / "gone")
    with closing(sqlite3.connect(shell.station.database)) as connection:
        connection.execute("DELETE FROM reviews")
        connection.execute("DELETE FROM inspections")
        connection.commit()
    assert shell.json("import", table)["refused"] == []
    assert shell.labels() == before
    (review,) = shell.json("list")["reviews"]
    assert (review["label"], review["copy_lost"]) == ("ok", False)
    assert len(list(shell.root.glob("dataset/reviewed/*/*.jpg"))) == 1


def test_a_number_that_no_inspection_has_is_said_to_be_none_however_long(shell: Shell) -> None:
    for number in ("0", "99", "9" * 19, "9" * 5_000):
        shell("mark", number, "ok", status=EXIT_USAGE)
        assert "this station has none of that number" in shell.error
        shell("import", shell.table(f"id,label\n{number},ok\n"), status=EXIT_USAGE)
        assert "this station has none of that number" in shell.error
    assert shell.json("mark", "0" * 30 + "1", "ok")["inspection"] == 1


def test_export_writes_a_file_whole_or_not_at_all(shell: Shell, tmp_path: Path) -> None:
    shell("mark", "1", "ok")
    file = tmp_path / "reviews.csv"
    assert shell("export", file) == ""
    assert file.read_text() == shell("export")
    shell("export", tmp_path / "nowhere" / "reviews.csv", status=EXIT_USAGE)
    assert "cannot be written" in shell.error


@pytest.mark.parametrize(
    "text", ["", "a", "=1", "'=1", "''=1", "'a", "''", "-", "\t", "+", "@x", "'"]
)
def test_a_guarded_cell_is_no_formula_and_comes_back(text: str) -> None:
    assert not guarded(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "path,label\ncrack.jpg,ok\nwall.jpg,crack\n",
        "id,label\r\n1,OK\r\n2, Anomaly \r\n",
        "\ufeffLabel;Path;Remark\nok;crack.jpg;x, y\ncrack;wall.jpg;\n",
        "label\tpath\nnormal\tcrack.jpg\n\nanomaly\twall.jpg",
        'path,label,by\n"crack.jpg","ok",""\nwall.jpg,crack\n',
    ],
    ids=["plain", "ids", "semicolons and a byte order mark", "tabs", "quotes and short lines"],
)
def test_tables_are_read_as_people_save_them(shell: Shell, text: str) -> None:
    result = shell.json("import", shell.table(text), "--by", "anna")
    assert (result["marked"], result["refused"]) == (2, [])
    assert shell.labels() == [("normal", "anna", None), ("anomaly", "anna", None)]


def test_by_note_and_at_of_a_row_are_kept(shell: Shell) -> None:
    table = shell.table(
        "path,label,by,note,at\n"
        "crack.jpg,ok,ben,a joint,2026-11-02T08:00:00+01:00\n"
        "crack.jpg,crack,anna,,2026-11-01 09:30\n"  # the station's own time
    )
    shell("import", table, "--by", "nobody")
    assert shell.labels() == [("normal", "ben", "a joint"), ("anomaly", "anna", None)]
    (review,) = shell.json("list")["reviews"]
    assert [each["at"] for each in review["labels"]] == [
        "2026-11-01T09:30:00+01:00",
        "2026-11-02T08:00:00+01:00",
    ]
    assert review["label"] == "ok"  # the later one counts, wherever it stands in the table


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("path,lable\na,ok\n", "line 1: the columns are path, lable; label, and path or id"),
        ("path,label,path\n", "column path is there twice"),
        ("path,label\nwall.jpg,craack\n", "line 2, column label: 'craack' is none of crack, ok"),
        ("id,label\nx1,ok\n", "line 2, column id: 'x1' is not the number"),
        ("id,path,label\n,,ok\n", "line 2, column path: is empty, and so is id"),
        ("path,label,at\nwall.jpg,ok,monday\n", "line 2, column at: 'monday' is not an ISO 8601"),
        ("path,label,at\nwall.jpg,ok,1969-12-31\n", "column at: '1969-12-31' lies before 1970"),
        ("path,label,at\nwall.jpg,ok,0001-01-01T00:00+14:00\n", "lies before 1970"),
        ("path,label,by\nwall.jpg,ok,a\x07b\n", "line 2, column by: 'a\\x07b': is not the name"),
        ("path,label,sha256\nwall.jpg,ok,12\n", "column sha256: is not 64 hexadecimal digits"),
        ("path,label\nwall.jpg,ok,anna\n", "line 2: 3 cells, but 2 columns"),
        ('path,label,note\nwall.jpg,ok,"two\nlines"\nx,y,\n', "line 4, column label: 'y'"),
        ('path,label\nwall.jpg,"ok\n', "is not CSV"),
        (b"path,label\nwall.jpg,ok\n\xe4.jpg,ok\n", "line 3: is not UTF-8"),
    ],
)
def test_a_mistake_is_named_by_line_and_column_and_nothing_is_marked(
    shell: Shell, text: str | bytes, why: str
) -> None:
    good = "path,label\ncrack.jpg,ok\n"
    shell("import", shell.table(text), status=EXIT_USAGE)
    assert f"{shell.root}/table.csv: " in shell.error
    assert why in shell.error
    assert shell.labels() == []
    assert shell.json("import", shell.table(good))["marked"] == 1


def test_a_label_of_the_future_is_refused_by_itself_and_kept_where_a_wrong_clock_gave_it(
    shell: Shell,
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    rows = f"path,label,by,at\ncrack.jpg,ok,ben,{tomorrow.isoformat()}\nwall.jpg,crack,ben,\n"
    done = shell.json("import", shell.table(rows), status=EXIT_FOUND)
    (refused,) = done["refused"]
    assert (done["marked"], refused["line"], refused["what"]) == (1, 2, "crack.jpg")
    assert "lies in the future" in refused["reason"]
    assert shell.labels() == [("anomaly", "ben", None)]

    rows = "path,label,at\ncrack.jpg,ok,9999-12-31T23:59:59-14:00\nwall.jpg,ok,\n"
    (refused,) = shell.json("import", shell.table(rows), status=EXIT_FOUND)["refused"]
    assert "lies in the future" in refused["reason"]

    with closing(sqlite3.connect(shell.station.database)) as connection:
        ahead = int(tomorrow.timestamp() * 1e6)
        connection.execute("DELETE FROM reviews WHERE label = 'normal'")
        connection.execute("UPDATE reviews SET reviewed_at = ?", (ahead,))
        connection.commit()
    shell("mark", "1", "ok", "--by", "anna")
    done = shell.json("import", shell.table(shell("export")))
    assert (done["unchanged"], done["marked"], done["refused"]) == (2, 0, [])


def test_every_mistake_of_a_table_is_told_at_once(shell: Shell) -> None:
    lines = "".join(f"{row}.jpg,perhaps\n" for row in range(30))
    shell("import", shell.table("path,label\ncrack.jpg,ok\n" + lines), status=EXIT_USAGE)
    assert shell.error.count("column label") == 20
    assert "and 10 more" in shell.error
    assert shell.labels() == []


def test_pictures_that_cannot_be_marked_are_refused_and_the_others_marked(shell: Shell) -> None:
    table = shell.table(
        "id,path,label,sha256\n"
        "1,,ok,\n"
        "77,,ok,\n"
        ",nothing.jpg,crack,\n"
        f"2,,crack,{'0' * 64}\n"
        ",wall.jpg,,\n"
    )
    result = shell.json("import", table, status=EXIT_FOUND)
    assert (result["marked"], result["unchanged"], result["without_label"]) == (1, 0, 1)
    assert [(each["line"], each["what"]) for each in result["refused"]] == [
        (3, "77"),
        (4, "nothing.jpg"),
        (5, "2"),
    ]
    assert "none of that number" in result["refused"][0]["reason"]
    assert "is not the picture of column sha256" in result["refused"][2]["reason"]
    shell("import", shell.table("id,label\n77,ok\n"), status=EXIT_USAGE)
    assert "not one of its 1 pictures could be marked" in shell.error


def test_a_report_with_a_column_of_labels_is_enough(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    name = b"-b\xff.jpg"
    shell.station.put(name, jpeg(dark=True, seed=3))
    shell.station.inspect(name)
    capsys.readouterr()
    report = ["report", "--since", "2026-11-01", "--format", "csv", "--config", str(shell.config)]
    assert execute(report) == EXIT_DONE
    header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    labels = ["ok", "", "crack"]
    stream = io.StringIO()
    csv.writer(stream).writerows(
        [[*header, "label"], *([*row, label] for row, label in zip(rows, labels, strict=True))]
    )
    result = shell.json("import", shell.table(stream.getvalue()), "--by", "anna")
    assert (result["marked"], result["without_label"], result["refused"]) == (2, 1, [])
    assert "score" in result["ignored_columns"]
    reviewed = {each["inspection"]: each["label"] for each in shell.json("list")["reviews"]}
    assert reviewed == {1: "ok", 3: "crack"}


# ---------------------------------------------------------------------------------- what it costs


def test_listing_loads_neither_decoder_nor_model(shell: Shell) -> None:
    shell("mark", "1", "ok")
    script = (
        "import sys; from crackwatch.cli import execute; "
        "status = execute(sys.argv[1:]); "
        "heavy = {'cv2', 'tensorflow', 'keras', 'openvino', 'sklearn', 'scipy'} & set(sys.modules); "
        "sys.exit(f'{status} {heavy}' if status or heavy else 0)"
    )
    for words in (["list"], ["list", "--band"], ["export"]):
        done = subprocess.run(
            [sys.executable, "-c", script, "review", *words, "--config", str(shell.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        assert done.returncode == 0, done.stderr
