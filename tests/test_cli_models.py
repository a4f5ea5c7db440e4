"""``crackwatch models``: what is there, whether it is sound, and which of it is in use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crackwatch import cli
from crackwatch.errors import EXIT_DONE, EXIT_LOCKED, EXIT_NO_MODEL, EXIT_USAGE
from crackwatch.registry import Registry
from tests.model_folders import publish

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "models")
    for model_id in ("one", "two"):
        publish(registry, model_id, model_id.encode())
        registry.promote(model_id)
    return registry


@pytest.fixture
def models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    config = tmp_path / "config.toml"
    config.write_text("[station]\nname = 'wall'\n")

    def run(*arguments: str) -> tuple[int, str, str]:
        name, *rest = arguments
        status = cli.execute(["models", name, "--config", str(config), *rest])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_list_as_json_has_the_promised_keys(registry: Registry, models: Run) -> None:
    status, out, _ = models("list", "--format", "json")
    assert status == EXIT_DONE
    first, second = json.loads(out)
    assert (first["id"], first["champion"], first["previous"]) == ("one", False, True)
    assert (second["id"], second["champion"], second["previous"]) == ("two", True, False)
    assert second["created_at"] == "2026-11-01T08:30:00+00:00"
    assert second["sha256"] == registry.card("two").files["lenet.keras"]
    assert second["metrics"] == {"validation": {"f1": 0.97, "recall": 0.96, "precision": 0.98}}


def test_list_shows_the_champion_with_a_star(registry: Registry, models: Run) -> None:
    _, out, err = models("list")
    header, first, second = out.splitlines()
    assert header.split() == [
        "id",
        "created",
        "sha256",
        "f1",
        "recall",
        "precision",
        "measured",
        "on",
    ]
    assert first.split()[:2] == ["<", "one"]
    assert second.split()[:2] == ["*", "two"]
    assert second.split()[4:7] == ["0.9700", "0.9600", "0.9800"]
    assert err == ""


def test_list_goes_on_past_a_card_that_cannot_be_read(registry: Registry, models: Run) -> None:
    (registry.folder_of("one") / "card.json").write_text("{")
    status, out, _ = models("list", "--format", "json")
    assert status == EXIT_DONE
    first, second = json.loads(out)
    assert "is not a model's card" in first["problem"]
    assert first["sha256"] is None
    assert second["problem"] is None
    _, _, err = models("list")
    assert err.startswith("one: ")


def test_a_station_without_models_is_told_how_to_get_one(models: Run) -> None:
    status, out, err = models("list")
    assert (status, out) == (EXIT_DONE, "")
    assert "crackwatch init" in err
    assert models("list", "--format", "json")[:2] == (EXIT_DONE, "[]\n")
    status, _, err = models("show")
    assert status == EXIT_NO_MODEL
    assert "there is no champion" in err


def test_show_is_the_whole_card_as_json(registry: Registry, models: Run) -> None:
    _, out, _ = models("show", "--format", "json")
    assert json.loads(out) == json.loads((registry.folder_of("two") / "card.json").read_text())
    _, out, _ = models("show", "one", "--format", "json")
    assert json.loads(out)["id"] == "one"


def test_show_for_a_person_names_what_matters(registry: Registry, models: Run) -> None:
    _, out, _ = models("show", "one")
    for words in ("threshold", "chosen_by", "a test", "a wall", "f1", "0.97", "lenet.keras"):
        assert words in out


def test_promote_and_rollback_say_what_is_in_use_now(registry: Registry, models: Run) -> None:
    status, out, _ = models("promote", "one")
    assert status == EXIT_DONE
    assert out.split() == ["champion", "one", "previous", "two"]
    status, out, _ = models("rollback")
    assert status == EXIT_DONE
    assert out.split() == ["champion", "two", "previous", "one"]
    assert registry.champion() == "two"


def test_the_card_tells_who_promoted_and_went_back_and_why(registry: Registry, models: Run) -> None:
    assert models("promote", "one", "--by", "anna", "--reason", "a trial")[0] == EXIT_DONE
    assert models("promote", "one", "--by", "anna")[0] == EXIT_DONE  # it is that already
    assert models("rollback", "--by", "ben", "--reason", "flags every shadow")[0] == EXIT_DONE
    (promoted,), (back,) = (registry.card(name).decisions for name in ("one", "two"))
    assert (promoted.what, promoted.decided_by, promoted.reason) == ("promotion", "anna", "a trial")
    assert promoted.figures == {"in_place_of": "two"}
    assert (back.what, back.decided_by, back.reason) == ("rollback", "ben", "flags every shadow")
    assert "rollback, by ben: flags every shadow" in models("show", "two")[1]


def test_the_scale_of_a_published_model_can_be_said_and_taken_back(
    registry: Registry, models: Run
) -> None:
    _, out, _ = models("scale", "--mm-per-px", "0.2", "--by", "anna", "--reason", "a ruler")
    assert out.startswith("two: 0.2 mm a pixel (before: not known)\n")
    assert (registry.card("two").mm_per_px, registry.card("one").mm_per_px) == (0.2, None)
    assert "scale 0.2 mm a pixel, by anna: a ruler" in models("show")[1]
    registry.promote("one")  # another decision leaves it
    assert registry.decide("two", registry.card("two").decisions[-1]).mm_per_px == 0.2
    _, out, _ = models("scale", "two", "--unknown")
    assert out.startswith("two: not known (before: 0.2)\n")
    assert registry.card("two").mm_per_px is None
    assert registry.verify("two").id == "two"


@pytest.mark.parametrize(
    "asked",
    [(), ("--mm-per-px", "0.2", "--unknown"), ("--mm-per-px", "nan"), ("--mm-per-px", "0")],
)
def test_a_scale_that_is_none_changes_nothing(
    registry: Registry, models: Run, asked: tuple[str, ...]
) -> None:
    before = (registry.folder_of("two") / "card.json").read_text()
    status, _, err = models("scale", *asked)
    assert status == EXIT_USAGE
    assert "--mm-per-px" in err
    assert (registry.folder_of("two") / "card.json").read_text() == before


@pytest.mark.parametrize("name", ["three", "../one", "champion", ""])
def test_a_model_that_is_not_there_cannot_be_promoted(
    registry: Registry, models: Run, name: str
) -> None:
    status, _, err = models("promote", name)
    assert status == EXIT_NO_MODEL
    assert "crackwatch models list" in err
    assert registry.champion() == "two"


def test_verify_finds_the_file_that_was_changed(registry: Registry, models: Run) -> None:
    assert models("verify")[0] == EXIT_DONE
    (registry.folder_of("one") / "lenet.keras").write_bytes(b"One")
    status, out, err = models("verify")
    assert status == EXIT_NO_MODEL
    assert out.splitlines() == ["NOT OK  one", "ok      two"]
    assert "one/lenet.keras: is not the file that was published" in err
    status, out, _ = models("verify", "--format", "json")
    assert status == EXIT_NO_MODEL
    assert [(result["id"], result["ok"]) for result in json.loads(out)] == [
        ("one", False),
        ("two", True),
    ]
    assert models("verify", "two")[0] == EXIT_DONE
    assert models("verify", "one")[0] == EXIT_NO_MODEL
    assert models("verify", "three")[0] == EXIT_NO_MODEL


def test_a_changed_model_cannot_be_promoted_or_gone_back_to(
    registry: Registry, models: Run
) -> None:
    (registry.folder_of("one") / "lenet.keras").write_bytes(b"One")
    for arguments in (["promote", "one"], ["rollback"]):
        status, _, err = models(*arguments)
        assert status == EXIT_NO_MODEL
        assert "lenet.keras" in err
    assert registry.champion() == "two"


def test_while_another_process_changes_the_folder_promotion_waits(
    registry: Registry, models: Run
) -> None:
    program = (
        "import sys, time; from pathlib import Path; from crackwatch.registry import Registry\n"
        "with Registry(Path(sys.argv[1])).lock():\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(registry.folder)], stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            status, _, err = models("promote", "one")
            assert status == EXIT_LOCKED
            assert f"process {holder.pid}" in err
            assert models("list")[0] == EXIT_DONE
        finally:
            holder.kill()


def test_nothing_heavy_is_imported(registry: Registry, models: Run, tmp_path: Path) -> None:
    program = (
        "import sys; from crackwatch import cli\n"
        "for name in ('list', 'show', 'verify', 'rollback'):\n"
        "    assert cli.execute(['models', name, '--config', sys.argv[1]]) == 0\n"
        "print(*{'tensorflow', 'keras', 'cv2', 'openvino', 'numpy'} & sys.modules.keys(),"
        " file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "config.toml")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == ""
