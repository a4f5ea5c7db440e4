"""The database is what the code was written for, or says clearly what it is and what to do."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Select, create_engine, insert, select

from crackwatch import packaged
from crackwatch.cli import execute as cli
from crackwatch.errors import (
    EXIT_NO_DATABASE,
    StoreError,
    StoreVersionError,
    SystemFault,
    UsageError,
)
from crackwatch.store import engine as engines
from crackwatch.store import migrate
from crackwatch.store.books import Books
from crackwatch.store.inspected import Inspected, Judged, every_inspection, judgements
from crackwatch.store.schema import (
    HEAD,
    from_microseconds,
    inspections,
    metadata,
    models,
    to_microseconds,
)
from tests.disks import as_an_ordinary_user

TABLES = {
    "alembic_version", "batches", "departures", "heartbeats", "inspections", "models", "photographs",
    "reviews", "sqlite_sequence",
}  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "state" / "crackwatch.db"
    migrate.upgrade(file)
    return file


@contextmanager
def raw(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file)) as connection, connection:
        yield connection


def tables(file: Path) -> set[str]:
    with raw(file) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in found}


# ------------------------------------------------------------------------------------- the schema


def test_the_migrations_make_what_the_code_expects(database: Path) -> None:
    engine = engines.open_reader(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_indexes_and_their_conditions_are_the_same_on_both_sides(
    database: Path, tmp_path: Path
) -> None:
    """alembic does not compare what makes an index partial, nor AUTOINCREMENT."""
    made = tmp_path / "made.db"
    engine = create_engine(f"sqlite:///{made}")
    metadata.create_all(engine)
    engine.dispose()

    def described(file: Path) -> dict[str, object]:
        with raw(file) as connection:
            indexes = connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            ).fetchall()
            columns = {
                table: connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
                for table in TABLES - {"alembic_version", "sqlite_sequence"}
            }
            counted = connection.execute(
                "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
            ).fetchall()
        return {
            "indexes": {name: re.sub(r"\s+", " ", sql) for name, sql in indexes},
            "columns": columns,
            "counted": counted,
        }

    assert described(database) == described(made)
    assert described(made)["counted"] == [("inspections",)]


def test_the_code_is_written_for_the_newest_revision() -> None:
    assert ScriptDirectory.from_config(migrate.configuration()).get_current_head() == HEAD


@given(
    st.datetimes(
        min_value=datetime(1900, 1, 1),  # noqa: DTZ001 (Hypothesis wants naive limits)
        timezones=st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours))),
    )
)
def test_a_time_comes_back_to_the_microsecond(moment: datetime) -> None:
    back = from_microseconds(to_microseconds(moment))
    assert back == moment and back.tzinfo is UTC


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        to_microseconds(datetime(2026, 11, 23))  # noqa: DTZ001 (the point)


# -------------------------------------------------------------------------------------- opening


def test_a_writer_commits_durably_in_wal(database: Path) -> None:
    with engines.writing(engines.open_writer(database)) as connection:
        asked = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert asked == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }


def test_a_writer_holds_the_write_lock_from_its_first_word(database: Path) -> None:
    with (
        engines.writing(engines.open_writer(database)),
        closing(sqlite3.connect(database, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")


def test_a_transaction_is_whole_or_nothing(database: Path) -> None:
    engine = engines.open_writer(database)
    row = {"id": "m", "sha256": "", "card": "", "first_used_at": datetime.now(UTC)}
    with pytest.raises(StoreError, match="UNIQUE"), engines.writing(engine) as connection:
        connection.execute(insert(models), [row, row])
    with engine.connect() as connection:
        assert connection.execute(select(models)).all() == []


def test_a_reader_can_change_nothing(database: Path) -> None:
    engine = engines.open_reader(database)
    with pytest.raises(Exception, match="readonly"), engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM models")


@pytest.mark.parametrize("name", ["a b", "100%", "q?x=1#y", "ü", os.fsdecode(b"\xff\xfe")])
def test_a_station_may_stand_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "crackwatch.db"
    assert migrate.upgrade(file) == (None, HEAD)
    assert file.is_file()
    engines.open_reader(file)
    engines.open_writer(file)
    assert migrate.backup(file, tmp_path / name / "copy.db") > 0


def newer(file: Path) -> None:
    with raw(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def older(file: Path) -> None:
    with raw(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")


def unmigrated(file: Path) -> None:
    file.unlink()
    file.touch()


def text(file: Path) -> None:
    file.write_text("this is a text, and no database at all; " * 100)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 // 4096 * 4096)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (newer, StoreVersionError, "schema 9999.*needs.*\n.*newer crackwatch"),
        (older, StoreVersionError, "schema 0000.*\n.*db upgrade"),
        (unmigrated, StoreVersionError, "not been migrated\n.*db upgrade"),
        (Path.unlink, StoreError, "no database here\n.*crackwatch init"),
        (a_folder, StoreError, "no database here\n.*crackwatch init"),
        (text, StoreError, "not a database\n.*backup"),
        (cut, StoreError, "malformed\n.*backup"),
    ],
)
@pytest.mark.parametrize("open_it", [engines.open_reader, engines.open_writer])
def test_a_database_that_cannot_be_used_says_why_and_what_to_do(
    database: Path,
    spoil: Callable[[Path], object],
    error: type[StoreError],
    told: str,
    open_it: Callable[[Path], object],
) -> None:
    spoil(database)
    with pytest.raises(StoreError, match=f"(?s){told}") as caught:
        open_it(database)
    assert type(caught.value) is error
    assert str(database) in caught.value.problem
    assert caught.value.exit_status == EXIT_NO_DATABASE


def test_a_database_that_may_not_be_written_can_be_read_and_says_so_to_a_writer() -> None:
    with as_an_ordinary_user() as folder:
        database = folder / "crackwatch.db"
        migrate.upgrade(database)
        database.chmod(0o444)
        engines.open_reader(database)
        books = Books(engines.open_writer(database), "station")
        assert books.unfiled() == []
        with pytest.raises(SystemFault, match=r"readonly[^\n]*\nMake the state folder") as caught:
            books.probe()
        assert caught.value.code == "database_readonly"


def test_a_state_folder_that_may_not_be_entered_is_told() -> None:
    with as_an_ordinary_user() as folder:
        database = folder / "state" / "crackwatch.db"
        migrate.upgrade(database)
        (folder / "state").chmod(0)
        for open_it in (engines.open_reader, engines.open_writer, migrate.upgrade):
            with pytest.raises(StoreError) as caught:
                open_it(database)
            assert str(database) in caught.value.problem and caught.value.remedy
        (folder / "state").chmod(0o700)


# ------------------------------------------------------------------------------------- upgrading


def test_an_upgrade_makes_the_tables_once(tmp_path: Path) -> None:
    file = tmp_path / "state" / "crackwatch.db"
    assert migrate.upgrade(file) == (None, HEAD)
    assert tables(file) == TABLES
    with raw(file) as connection:
        connection.execute("INSERT INTO models VALUES (1, 'm', '', '', 0)")
    before = file.read_bytes()
    assert migrate.upgrade(file) == (HEAD, HEAD)
    assert file.read_bytes() == before


def of_the_first_schema(file: Path) -> None:
    """A database as version 0.1.0 made it, with one inspection."""
    engine = engines.open_for_migration(file)
    config = migrate.configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with closing(sqlite3.connect(file)) as books, books:
        books.execute(
            "INSERT INTO batches (runtime, precision, closed_by, size, recorded_at, read_us, "
            "classify_us) VALUES ('openvino', 'f32', 'age', 1, 5, 5, 5)"
        )
        row = {
            "station": "'s'", "source": "x'61'", "size_bytes": 1, "mtime_ns": 1, "ctime_ns": 1,
            "device": 1, "inode": 1, "outcome": "'normal'", "score": 0.25, "threshold": 0.5,
            "batch_id": 1, "settled_at": 5, "settled_by": "'time'", "inspected_at": 5,
            "place": "'kept'", "filed_at": 5,
        }  # fmt: skip
        values = ", ".join(map(str, row.values()))
        books.execute(f"INSERT INTO inspections ({', '.join(row)}) VALUES ({values})")


@pytest.mark.parametrize("reviewed", [False, True])
def test_a_database_of_the_first_schema_keeps_every_row(tmp_path: Path, reviewed: bool) -> None:
    """No crackwatch wrote the first schema's reviews; what somebody put there is set aside."""
    file = tmp_path / "crackwatch.db"
    of_the_first_schema(file)
    with closing(sqlite3.connect(file)) as books, books:
        if reviewed:
            books.execute(
                "INSERT INTO reviews (inspection_id, label, reviewed_by, reviewed_at) "
                "VALUES (1, 'anomaly', 'anna', 7)"
            )
        before = books.execute("SELECT * FROM inspections").fetchall()
    assert migrate.upgrade(file) == ("0001", HEAD)
    with closing(sqlite3.connect(file)) as books, books:
        after = books.execute("SELECT * FROM inspections").fetchall()
        assert after == [(*row, None, None, None) for row in before]
        tables = {name for (name,) in books.execute("SELECT name FROM sqlite_master")}
        assert {"reviews", "heartbeats", "ix_inspections_review_band"} <= tables
        assert books.execute("SELECT count(*) FROM reviews").fetchone() == (0,)
        assert ("reviews_0001" in tables) == reviewed
        if reviewed:
            kept = books.execute("SELECT reviewed_by FROM reviews_0001").fetchall()
            assert kept == [("anna",)]
        assert books.execute("PRAGMA foreign_key_check").fetchall() == []
        # a daemon of the first schema, still running, goes on writing
        books.execute(
            "INSERT INTO inspections (station, source, size_bytes, mtime_ns, ctime_ns, device, inode, "
            "outcome, batch_id, settled_at, settled_by, inspected_at, place) "
            "VALUES ('s', x'62', 1, 1, 1, 1, 1, 'normal', 1, 6, 'time', 6, 'kept')"
        )
    engine = engines.open_writer(file)  # of this version, or it would be refused
    with engine.connect() as connection:
        assert connection.scalar(select(inspections.c.brightness).limit(1)) is None
    engine.dispose()
    assert migrate.upgrade(file) == (HEAD, HEAD)


def test_what_a_newer_program_wrote_stays_as_it_is(database: Path) -> None:
    newer(database)
    before = database.read_bytes()
    with pytest.raises(StoreVersionError, match="newer"):
        migrate.upgrade(database)
    assert database.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "addresses.db"
    with raw(file) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    with pytest.raises(StoreError, match="another program"):
        migrate.upgrade(file)
    assert tables(file) == {"people"}


def test_an_upgrade_that_dies_in_the_middle_leaves_nothing_half_made(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
import alembic.op
from crackwatch.store import migrate
from crackwatch.store.books import Books
alembic.op.create_index = lambda *a, **k: os._exit(7)
migrate.upgrade(Path(sys.argv[1]))
"""
    file = tmp_path / "crackwatch.db"
    done = subprocess.run([sys.executable, "-c", program, str(file)], check=False)
    assert done.returncode == 7
    assert tables(file) == set()
    assert migrate.upgrade(file) == (None, HEAD)


def test_two_upgrades_at_once_make_one_schema(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from crackwatch.store import migrate; "
    program += "sys.stdin.readline(); migrate.upgrade(Path(sys.argv[1]))"
    file = tmp_path / "crackwatch.db"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(file)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in both:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
    engines.open_reader(file)


def test_the_migrations_are_found_where_a_percent_sign_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(packaged.migrations(), tmp_path / "100%" / "migrations")
    monkeypatch.setattr(packaged, "migrations", lambda: tmp_path / "100%" / "migrations")
    assert migrate.upgrade(tmp_path / "crackwatch.db") == (None, HEAD)


# ----------------------------------------------------------------------------------------- backup

BUSY = """
import sqlite3, sys, itertools
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("PRAGMA synchronous = OFF")
print(flush=True)
for number in itertools.count(1):
    connection.execute("INSERT INTO models VALUES (NULL, ?, '', '', 0)", (f"busy {number}",))
"""


def test_a_backup_beside_a_busy_station_ends_and_is_one_moment_of_it(
    database: Path, tmp_path: Path
) -> None:
    with raw(database) as connection:
        connection.executemany(
            "INSERT INTO models VALUES (NULL, ?, '', zeroblob(500000), 0)",
            [(f"old {number}",) for number in range(80)],
        )
    busy = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(database)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        began = time.monotonic()
        size_bytes = migrate.backup(database, tmp_path / "copy.db")
        assert time.monotonic() - began < 30
        assert busy.poll() is None
    finally:
        busy.kill()
        busy.communicate()
    assert size_bytes == (tmp_path / "copy.db").stat().st_size > 40_000_000
    with raw(tmp_path / "copy.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = [name for (name,) in connection.execute("SELECT id FROM models ORDER BY pk")]
    assert names[:80] == [f"old {number}" for number in range(80)]
    assert names[80:] == [f"busy {number}" for number in range(1, len(names) - 79)]
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "state"]


@pytest.mark.parametrize("spoil", [newer, older])
def test_a_database_of_any_version_can_be_backed_up(
    database: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Before an upgrade, by the program that will do it."""
    spoil(database)
    migrate.backup(database, tmp_path / "copy.db")
    assert tables(tmp_path / "copy.db") == TABLES


@pytest.mark.parametrize("occupant", ["a backup", "a dangling link"])
def test_a_backup_never_replaces_anything(database: Path, tmp_path: Path, occupant: str) -> None:
    there = tmp_path / "copy.db"
    if occupant == "a backup":
        there.write_bytes(b"last year's")
    else:
        there.symlink_to("nowhere")
    with pytest.raises(UsageError, match="exists already"):
        migrate.backup(database, there)
    if occupant == "a backup":
        assert there.read_bytes() == b"last year's"
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "state"]


@pytest.mark.parametrize("links", [True, False], ids=["a disk", "a memory stick"])
def test_a_backup_that_is_overtaken_replaces_nothing_and_leaves_nothing_behind(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    real = os.link

    def overtaken(source: Path, destination: Path) -> None:
        destination.write_bytes(b"another's")
        if not links:
            raise PermissionError(1, "Operation not permitted")
        real(source, destination)

    monkeypatch.setattr(os, "link", overtaken)
    with pytest.raises(UsageError, match=r"copy\.db: cannot be written: File exists"):
        migrate.backup(database, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_bytes() == b"another's"
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "state"]


def test_a_backup_goes_to_a_memory_stick_which_knows_no_links(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    migrate.backup(database, tmp_path / "copy.db")
    engines.open_reader(tmp_path / "copy.db")
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "state"]


def test_what_an_interrupted_backup_left_is_in_nobodys_way(database: Path, tmp_path: Path) -> None:
    (tmp_path / ".copy.db.part").write_bytes(b"half of one")
    migrate.backup(database, tmp_path / "copy.db")
    engines.open_reader(tmp_path / "copy.db")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [(text, "not a database"), (unmigrated, "nothing yet"), (Path.unlink, "no database here")],
)
def test_what_is_no_database_is_not_backed_up(
    database: Path, tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(database)
    with pytest.raises(StoreError, match=told):
        migrate.backup(database, tmp_path / "copy.db")
    assert os.listdir(tmp_path) == ["state"]


def test_a_damaged_database_gives_no_backup_that_looks_sound(
    database: Path, tmp_path: Path
) -> None:
    with raw(database) as connection:
        connection.executemany(
            "INSERT INTO models VALUES (NULL, ?, '', zeroblob(3000), 0)",
            [(f"{number}",) for number in range(100)],
        )
    with database.open("r+b") as file:
        file.seek(database.stat().st_size // 2)
        file.write(os.urandom(40_000))
    with pytest.raises(StoreError, match=r"damaged|malformed"):
        migrate.backup(database, tmp_path / "copy.db")
    assert os.listdir(tmp_path) == ["state"]


def test_a_backup_into_no_folder_or_a_closed_one_is_told(database: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        migrate.backup(database, tmp_path / "missing" / "copy.db")
    with as_an_ordinary_user() as folder:
        mine = folder / "crackwatch.db"
        migrate.upgrade(mine)
        (folder / "closed").mkdir(mode=0o500)
        with pytest.raises((UsageError, StoreError), match=r"cannot be (written|copied)"):
            migrate.backup(mine, folder / "closed" / "copy.db")


# ---------------------------------------------------------------------------------- crackwatch db


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text("")
    return file


def test_the_commands_migrate_tell_and_copy(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option = ["--config", str(config)]
    assert cli(["db", "current", *option]) == EXIT_NO_DATABASE
    assert "no database here" in capsys.readouterr().err
    assert cli(["db", "upgrade", *option]) == 0
    assert f"none -> {HEAD}" in capsys.readouterr().out
    assert cli(["db", "upgrade", *option]) == 0
    assert f"already at schema {HEAD}" in capsys.readouterr().out
    assert cli(["db", "current", "--format", "json", *option]) == 0
    told = json.loads(capsys.readouterr().out)
    file = str(tmp_path / "state" / "crackwatch.db")
    assert told == {"database": file, "schema": HEAD, "needed": HEAD}
    assert cli(["db", "backup", str(tmp_path / "copy.db"), *option]) == 0
    assert "integrity ok" in capsys.readouterr().out
    assert cli(["db", "backup", str(tmp_path / "copy.db"), *option]) == 2
    assert "exists already" in capsys.readouterr().err


def test_asking_which_schema_it_is_changes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").mkdir()
    file = tmp_path / "state" / "crackwatch.db"
    with raw(file) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    before = file.read_bytes()
    assert cli(["db", "current", "--config", str(config)]) == 0
    assert "schema none" in capsys.readouterr().out
    assert file.read_bytes() == before
    assert os.listdir(tmp_path / "state") == ["crackwatch.db"]


@pytest.mark.parametrize(
    ("query", "fact"), [(every_inspection(), Inspected), (judgements(), Judged)]
)
def test_an_inspection_is_read_in_the_order_of_its_facts_fields(
    query: Select[tuple[object, ...]], fact: type
) -> None:
    """Rows become facts by position."""
    assert query.selected_columns.keys() == [field.name for field in fields(fact)]


def test_two_backups_to_one_name_take_turns_and_the_first_is_whole(
    database: Path, tmp_path: Path
) -> None:
    """Both wrote to one unfinished copy once, and the first gave the second's its name."""
    folder = tmp_path / "copies"
    folder.mkdir()
    refused: list[str] = []

    def copy() -> None:
        try:
            migrate.backup(database, folder / "copy.db")
        except UsageError as exc:
            refused.append(exc.problem)

    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as another backup holds it
    threads = [threading.Thread(target=copy) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert os.listdir(folder) == []
    os.close(descriptor)
    for thread in threads:
        thread.join(30)
    assert len(refused) == 1 and "File exists" in refused[0]
    assert os.listdir(folder) == ["copy.db"]
    with closing(sqlite3.connect(folder / "copy.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
