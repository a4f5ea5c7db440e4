"""Models appear whole or not at all, cannot be changed unnoticed, and can always be gone back on."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from crackwatch.errors import LockedError, ModelError, ModelMissing, ModelTampered
from crackwatch.registry import Card, Decision, Guarantee, Registry, Threshold, new_id, read_card
from tests.model_folders import card, publish


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def everything(folder: Path) -> dict[str, bytes]:
    """What is in a folder, the lock aside."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


# -------------------------------------------------------------------------------------- reading


def test_a_folder_that_does_not_exist_holds_nothing_and_is_not_made(registry: Registry) -> None:
    assert registry.ids() == []
    assert registry.champion() is None
    assert registry.previous() is None
    assert not registry.folder.exists()


def test_ids_sort_by_the_time_they_name() -> None:
    first = datetime(2026, 11, 23, 12, 15, tzinfo=timezone(timedelta(hours=2)))
    ids = [new_id("station", first + timedelta(seconds=s), "ab12cd34" + "0" * 56) for s in (0, 61)]
    assert ids == ["2026-11-23T101500Z-station-ab12cd34", "2026-11-23T101601Z-station-ab12cd34"]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    "name", ["../outside", "a/b", "..", ".hidden", "", "champion", "a\nb", "a\0b", "x" * 101]
)
def test_a_name_that_is_no_id_never_reaches_the_file_system(registry: Registry, name: str) -> None:
    publish(registry, "one")
    for use in (registry.card, registry.verify, registry.promote, registry.folder_of):
        with pytest.raises(ModelMissing, match="is not the id of a model"):
            use(name)
    with pytest.raises(ValueError, match="plain file name"):
        card(name)


def test_a_pointer_that_leads_outside_is_not_followed_and_can_be_mended(registry: Registry) -> None:
    publish(registry, "one")
    (registry.folder / "champion").write_text("../../etc\n")
    with pytest.raises(ModelTampered, match="champion: does not hold the id"):
        registry.champion()
    registry.promote("one")
    assert registry.champion() == "one"
    assert registry.previous() is None


def test_what_is_not_a_model_is_not_listed(registry: Registry) -> None:
    publish(registry, "one")
    (registry.folder / "notes.txt").write_text("a file")
    (registry.folder / ".hidden").mkdir()
    (registry.folder / "link").symlink_to(registry.folder / "one")
    assert registry.ids() == ["one"]
    with pytest.raises(ModelMissing, match="no model link"):
        registry.card("link")


# ----------------------------------------------------------------------------------- publishing


def test_a_published_model_carries_the_hash_of_each_of_its_files(registry: Registry) -> None:
    folder = publish(registry, "one", b"the weights")
    assert registry.ids() == ["one"]
    published = registry.verify("one")
    assert published.files == {
        "lenet.keras": hashlib.sha256(b"the weights").hexdigest(),
        "golden/pictures.npy": hashlib.sha256(b"pictures").hexdigest(),
    }
    assert stat.S_IMODE(folder.stat().st_mode) & 0o055, "the daemon's user must get in"


def test_publishing_never_promotes(registry: Registry) -> None:
    publish(registry, "one")
    assert registry.champion() is None


def test_a_card_keeps_fields_that_this_version_does_not_know(registry: Registry) -> None:
    later = card("one").model_dump(mode="json") | {"promise": {"min_recall": 0.98}}
    with registry.staging() as staged:
        (staged / "lenet.keras").write_bytes(b"w")
        registry.publish(staged, Card.model_validate(later))
    written = json.loads((registry.folder / "one" / "card.json").read_text())
    assert written["promise"] == {"min_recall": 0.98}
    assert written["created_at"] == "2026-11-01T08:30:00Z"
    assert registry.card("one").created_at == datetime(2026, 11, 1, 8, 30, tzinfo=UTC)


def test_a_taken_id_is_refused_and_the_model_that_has_it_stays(registry: Registry) -> None:
    publish(registry, "one", b"first")
    before = everything(registry.folder)
    with pytest.raises(ModelError, match="there is a model of that id already"):
        publish(registry, "one", b"second")
    assert everything(registry.folder) == before


def test_an_incomplete_model_is_refused(registry: Registry) -> None:
    with registry.staging() as staged, pytest.raises(ModelError, match=r"holds no lenet\.keras"):
        registry.publish(staged, card("one"))
    assert registry.ids() == []


def test_a_link_is_not_published(registry: Registry, tmp_path: Path) -> None:
    with registry.staging() as staged:
        (staged / "lenet.keras").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ModelTampered, match="neither a file nor a folder"):
            registry.publish(staged, card("one"))
    assert registry.ids() == []


def test_only_a_staging_folder_can_be_published(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was not made by staging"):
        registry.publish(tmp_path, card("one"))


def test_a_run_that_fails_leaves_the_registry_as_it_was(registry: Registry) -> None:
    publish(registry, "one")
    before = everything(registry.folder)

    def run_that_fails() -> None:
        with registry.staging() as staged:
            (staged / "lenet.keras").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_that_fails()
    assert everything(registry.folder) == before


def test_leftovers_of_a_killed_run_go_with_the_next_lock(registry: Registry) -> None:
    publish(registry, "one")
    before = everything(registry.folder)
    leftover = registry.folder / ".staging-0123456789abcdef"
    leftover.mkdir()
    (leftover / "lenet.keras").write_bytes(b"half")
    (registry.folder / ".fresh-0123456789abcdef").write_text("one\n")
    assert registry.ids() == ["one"]
    with registry.lock():
        assert everything(registry.folder) == before


# -------------------------------------------------------------------------------------- hashes


def change_a_byte(folder: Path) -> None:
    file = folder / "lenet.keras"
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)


def remove_a_file(folder: Path) -> None:
    (folder / "golden" / "pictures.npy").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "golden" / "more.npy").write_bytes(b"")


def put_a_link_in_place(folder: Path) -> None:
    (folder / "lenet.keras").rename(folder.parent / "moved")
    (folder / "lenet.keras").symlink_to(folder.parent / "moved")


def give_it_the_card_of_another(folder: Path) -> None:
    (folder / "card.json").write_text(card("two").to_json())


def forget_the_model_file(folder: Path) -> None:
    known = read_card(folder)
    (folder / "lenet.keras").unlink()
    files = {name: sha for name, sha in known.files.items() if name != "lenet.keras"}
    (folder / "card.json").write_text(known.model_copy(update={"files": files}).to_json())


def spoil_the_card(folder: Path) -> None:
    (folder / "card.json").write_text('{"id": "one"}')


TAMPERINGS = {
    change_a_byte: r"lenet\.keras: is not the file that was published",
    remove_a_file: r"golden/pictures\.npy: is missing",
    add_a_file: r"golden/more\.npy: is not in the model's card",
    put_a_link_in_place: r"lenet\.keras: is neither a file nor a folder",
    give_it_the_card_of_another: r"card\.json: is the card of another model, two",
    forget_the_model_file: r"card\.json: lists no lenet\.keras",
    spoil_the_card: r"card\.json: is not a model's card: created_at",
}


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_a_tampered_model_is_named_and_cannot_be_promoted(registry: Registry, tamper) -> None:
    publish(registry, "good")
    registry.promote("good")
    folder = publish(registry, "one", b"weights of one")
    registry.verify("one")
    tamper(folder)
    with pytest.raises(ModelTampered, match=TAMPERINGS[tamper]):
        registry.verify("one")
    with pytest.raises(ModelTampered):
        registry.promote("one")
    assert registry.champion() == "good"


def test_a_card_of_a_newer_program_is_refused(registry: Registry) -> None:
    folder = publish(registry, "one")
    newer = json.loads((folder / "card.json").read_text()) | {"schema_version": 2}
    (folder / "card.json").write_text(json.dumps(newer))
    with pytest.raises(ModelError, match="written by a newer crackwatch"):
        registry.card("one")


def test_a_card_cannot_name_a_file_outside_its_folder() -> None:
    with pytest.raises(ValueError, match="inside the model's folder"):
        card("one", files={"../../state/crackwatch.db": "0" * 64})


# ------------------------------------------------------------------------------------- pointers


def test_promote_and_rollback_swap_the_two_pointers(registry: Registry) -> None:
    for model_id in ("one", "two", "three"):
        publish(registry, model_id)
    registry.promote("one")
    assert (registry.champion(), registry.previous()) == ("one", None)
    registry.promote("two")
    registry.promote("three")
    assert (registry.champion(), registry.previous()) == ("three", "two")
    assert registry.rollback() == "two"
    assert (registry.champion(), registry.previous()) == ("two", "three")
    assert registry.rollback() == "three"
    assert (registry.folder / "champion").read_text() == "three\n"


def test_promoting_the_champion_changes_nothing(registry: Registry) -> None:
    publish(registry, "one")
    publish(registry, "two")
    registry.promote("one")
    registry.promote("two")
    before = everything(registry.folder)
    registry.promote("two")
    assert everything(registry.folder) == before


def test_without_a_previous_model_there_is_nothing_to_go_back_to(registry: Registry) -> None:
    publish(registry, "one")
    registry.promote("one")
    with pytest.raises(ModelMissing, match="no previous model to go back to"):
        registry.rollback()
    assert registry.champion() == "one"


def test_a_previous_model_that_was_tampered_with_is_not_gone_back_to(registry: Registry) -> None:
    folder = publish(registry, "one")
    publish(registry, "two")
    registry.promote("one")
    registry.promote("two")
    change_a_byte(folder)
    with pytest.raises(ModelTampered):
        registry.rollback()
    assert (registry.champion(), registry.previous()) == ("two", "one")


def test_a_rollback_mends_a_broken_champion_pointer(registry: Registry) -> None:
    publish(registry, "one")
    publish(registry, "two")
    registry.promote("one")
    registry.promote("two")
    (registry.folder / "champion").write_bytes(b"\xff\xfe")
    assert registry.rollback() == "one"
    assert registry.champion() == "one"


def test_a_promotion_cut_off_after_the_decision_loses_no_pointer(registry: Registry) -> None:
    for model_id in ("one", "two", "three"):
        publish(registry, model_id)
    registry.promote("one")
    registry.promote("two")
    # as _swing leaves it when it dies between its two pointers
    (registry.folder / ".promotion").write_text("two three\n")
    (registry.folder / "champion").write_text("three\n")
    assert (registry.champion(), registry.previous()) == ("three", "two")
    with registry.lock():
        pass
    assert (registry.folder / "previous").read_text() == "two\n"
    assert not (registry.folder / ".promotion").exists()


def test_a_promotion_cut_off_before_the_decision_did_not_happen(registry: Registry) -> None:
    for model_id in ("one", "two", "three"):
        publish(registry, model_id)
    registry.promote("one")
    registry.promote("two")
    before = everything(registry.folder)
    (registry.folder / ".promotion").write_text("two three\n")
    assert (registry.champion(), registry.previous()) == ("two", "one")
    with registry.lock():
        pass
    assert everything(registry.folder) == before


# ---------------------------------------------------------------------------------- two processes

HOLDER = """
    import sys, time
    from pathlib import Path
    from crackwatch.registry import Registry
    with Registry(Path(sys.argv[1])).lock():
        print("held", flush=True)
        time.sleep(60)
"""

PUBLISHER = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from crackwatch.registry import Registry
    from tests.model_folders import publish
    registry = Registry(Path(sys.argv[1]))
    first = int(sys.argv[3])
    print("begun", flush=True)
    for number in range(first, first + 100_000):
        publish(registry, f"m{number:09}", b"w" * 500_000)
        registry.promote(f"m{number:09}")
        if number % 3 == 0:
            registry.rollback()
"""


def child(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline(), "the child has died"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)


def test_one_process_at_a_time_may_change_the_folder(registry: Registry) -> None:
    publish(registry, "one")
    process = child(HOLDER, registry.folder)
    try:
        with pytest.raises(LockedError, match=f"process {process.pid}") as refused:
            registry.promote("one")
        assert refused.value.exit_status == 3
        assert registry.champion() is None
        assert registry.verify("one").id == "one", "reading needs no lock"
    finally:
        end(process)
    registry.promote("one")
    assert registry.champion() == "one"


def test_the_lock_may_be_nested_and_is_given_back(registry: Registry) -> None:
    with registry.lock():
        publish(registry, "one")
        registry.promote("one")
        busy = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(HOLDER), str(registry.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"process {os.getpid()}" in busy.stderr
    end(child(HOLDER, registry.folder))


def test_a_publisher_killed_at_any_moment_leaves_whole_models_and_valid_pointers(
    registry: Registry,
) -> None:
    dice = random.Random(20261123)
    first = 0
    for _ in range(8):
        process = child(PUBLISHER, registry.folder, Path(__file__).parents[1], first)
        time.sleep(dice.uniform(0.02, 0.3))
        end(process)
        # as a daemon finds it, before anybody cleared up
        champion, previous = registry.champion(), registry.previous()
        ids = registry.ids()
        for model_id in ids[-3:]:
            assert registry.verify(model_id).id == model_id
        for pointer in (champion, previous):
            assert pointer is None or registry.verify(pointer).id == pointer
        assert champion is None or champion != previous
        with registry.lock():
            assert (registry.champion(), registry.previous()) == (champion, previous)
            hidden = sorted(entry.name for entry in registry.folder.glob(".*"))
            assert hidden == [".lock"]
        first = int(ids[-1][1:]) + 1 if ids else 0
    assert len(registry.ids()) > 8, "the children hardly came to publish anything"


# A process of its own, with few libraries: it forks, once for each moment to be killed at.
KILLED_EVERYWHERE = """
    import os, shutil, signal, sys
    from pathlib import Path
    from crackwatch.registry import Card, Decision, Registry

    CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}

    def dying(left):
        def hook(event, arguments):
            nonlocal left
            writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes or event in CHANGES:
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
        return hook

    def work(registry, card, decision):
        with registry.staging() as staged:
            (staged / "lenet.keras").write_bytes(b"weights of two")
            registry.publish(staged, card)
            registry.promote(card.id, decision)

    before = Path(sys.argv[1])
    card, decision = Card.model_validate_json(sys.argv[2]), Decision.model_validate_json(sys.argv[3])
    changes = 0
    while True:
        folder = before.with_name(f"killed-{changes:03}")
        shutil.copytree(before, folder)
        pid = os.fork()
        if not pid:
            try:
                sys.addaudithook(dying(changes))
                work(Registry(folder), card, decision)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != -signal.SIGKILL:
            sys.exit(status)
        changes += 1
"""


@pytest.mark.parametrize("champion", ["one", None])
def test_killed_before_any_change_of_a_file_no_card_tells_of_a_promotion_that_was_not(
    registry: Registry, champion: str | None
) -> None:
    publish(registry, "one")
    if champion:
        registry.promote(champion)
    decision = Decision(
        what="promotion",
        decided_at=datetime(2026, 11, 23, 7, tzinfo=UTC),
        decided_by="änna",
        reason="promoted: no worse\nthan before",
        figures={"comparison": {"f1_interval": [-0.1, 1 / 3], "flips": None}},
    )
    code = textwrap.dedent(KILLED_EVERYWHERE)
    arguments = (str(registry.folder), card("two").to_json(), decision.model_dump_json())
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    told, pending = [], 0
    for folder in sorted(registry.folder.parent.glob("killed-*")):
        found = Registry(folder)
        promoted = found.champion() == "two"
        told.append(promoted)
        for looked in ("as it was left", "after the next lock"):
            assert found.champion() == ("two" if promoted else champion), looked
            assert found.previous() == (champion if promoted else None), looked
            if "two" in found.ids():
                assert found.verify("two").decisions == ((decision,) if promoted else ()), looked
                written = read_card(found.folder_of("two")).decisions
                assert written == () or promoted, looked
                pending += promoted and not written
            with found.lock():
                pass
        assert promoted == ("two" in found.ids() and written == (decision,))
        assert [entry.name for entry in folder.glob(".*")] == [".lock"]
    assert told == sorted(told)
    assert len(told) > told.count(True) > 3, "it was hardly ever killed in between"
    assert pending, "it was never killed between the pointer and the card"


def test_a_promotion_whose_card_is_lost_meanwhile_is_not_in_the_way(registry: Registry) -> None:
    publish(registry, "one")
    publish(registry, "two")
    registry.promote("one")
    decision = Decision(
        what="promotion", decided_at=datetime.now(UTC), decided_by="anna", reason="no worse"
    )
    # as promote leaves it when it dies behind its first pointer
    (registry.folder / ".promotion").write_text(f"one two\n{decision.model_dump_json()}\n")
    (registry.folder / "champion").write_text("two\n")
    assert registry.card("two").decisions == (decision,)
    (registry.folder / "two" / "card.json").write_text("{")
    assert registry.rollback() == "one"
    assert not (registry.folder / ".promotion").exists()


def test_a_decision_on_the_champion_itself_is_written_down_at_once(registry: Registry) -> None:
    publish(registry, "one")
    registry.promote("one")
    decision = Decision(
        what="promotion", decided_at=datetime.now(UTC), decided_by="anna", reason="no worse"
    )
    registry.promote("one", decision)
    assert read_card(registry.folder_of("one")).decisions == (decision,)


# ------------------------------------------------------------------------------- the threshold

PROMISED = Threshold(
    value=0.25,
    chosen_by="recall of 0.98",
    promise=Guarantee(
        goal="min_recall",
        target=0.98,
        confidence=0.95,
        recall_bound=0.981,
        false_alarms_per_1000_bound=3.5,
        anomalies=457,
        normals=14_000,
        examples="out of fold",
    ),
)


def test_a_threshold_can_be_changed_and_the_card_remembers(registry: Registry) -> None:
    folder = publish(registry, "one", future_field={"kept": True})
    stamp = registry.card_stamp("one")
    registry.set_threshold("one", PROMISED, decided_by="anna", reason="a goal", figures={"fn": 7})
    again = Threshold(value=0.5, chosen_by="by hand")
    changed = registry.set_threshold("one", again, decided_by="ben", reason="second thoughts")
    assert registry.verify("one") == changed == read_card(folder)
    assert changed.threshold == again
    first, second = changed.decisions
    assert (first.what, first.decided_by, first.figures) == ("threshold", "anna", {"fn": 7})
    assert (first.old, first.new) == (card("one").threshold, PROMISED)
    assert (second.old, second.new) == (PROMISED, again)
    assert first.decided_at <= second.decided_at
    assert json.loads((folder / "card.json").read_text())["future_field"] == {"kept": True}
    assert registry.card_stamp("one") != stamp
    assert registry.card_stamp("one") == registry.card_stamp("one")


def test_a_card_that_is_replaced_keeps_its_mode_and_its_owner(registry: Registry) -> None:
    file = publish(registry, "one") / "card.json"
    file.chmod(0o640)
    owner = (12_345, 12_346) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(file, *owner)
    registry.set_threshold("one", PROMISED, decided_by="anna", reason="")
    found = file.stat()
    assert (found.st_uid, found.st_gid) == owner
    assert stat.S_IMODE(found.st_mode) == 0o640


def test_a_card_from_before_there_were_decisions_is_read(registry: Registry) -> None:
    folder = publish(registry, "one")
    document = json.loads((folder / "card.json").read_text())
    del document["decisions"], document["threshold"]["promise"]
    (folder / "card.json").write_text(json.dumps(document))
    assert registry.set_threshold("one", PROMISED, decided_by="anna", reason="").decisions


def test_a_model_that_was_tampered_with_gets_no_other_threshold(registry: Registry) -> None:
    folder = publish(registry, "one")
    change_a_byte(folder)
    before = everything(registry.folder)
    with pytest.raises(ModelTampered, match=r"lenet\.keras"):
        registry.set_threshold("one", PROMISED, decided_by="anna", reason="")
    with pytest.raises(ModelMissing):
        registry.set_threshold("two", PROMISED, decided_by="anna", reason="")
    with pytest.raises(ModelMissing):
        registry.card_stamp("two")
    assert everything(registry.folder) == before


def test_nobody_else_may_change_a_threshold_meanwhile(registry: Registry) -> None:
    publish(registry, "one")
    process = child(HOLDER, registry.folder)
    try:
        with pytest.raises(LockedError):
            registry.set_threshold("one", PROMISED, decided_by="anna", reason="")
    finally:
        end(process)
    assert registry.card("one").decisions == ()


TUNER = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from crackwatch.registry import Registry, Threshold
    registry = Registry(Path(sys.argv[1]))
    print("ready", flush=True)
    while True:
        with registry.lock():
            so_far = len(registry.card("one").decisions)
            registry.set_threshold(
                "one", Threshold(value=1 / (2 + so_far), chosen_by=str(so_far)),
                decided_by="a child", reason="",
            )
"""


def test_a_tuner_killed_at_any_moment_leaves_the_old_card_or_the_new_one(
    registry: Registry,
) -> None:
    publish(registry, "one")
    dice = random.Random(20261124)
    for _ in range(6):
        process = child(TUNER, registry.folder, Path(__file__).parents[1])
        time.sleep(dice.uniform(0.02, 0.2))
        end(process)
        known = registry.verify("one")
        assert [decision.new for decision in known.decisions][-1:] in ([known.threshold], [])
        for one, after in zip(known.decisions, known.decisions[1:], strict=False):
            assert one.new == after.old
        with registry.lock():
            assert [entry.name for entry in registry.folder.glob(".*")] == [".lock"]
    assert len(registry.card("one").decisions) > 6, "the children hardly came to decide anything"


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    registry = Registry(tmp_path / "models")
    with pytest.raises(ModelError, match="cannot lock"), registry.lock():
        pass
    with pytest.raises(ModelError, match="cannot read"):
        registry.ids()
