"""A setting that cannot work is one clear error: the file, the key, what to do; never a guess."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from crackwatch import packaged
from crackwatch.config_file import find_config, load, require_inbox
from crackwatch.domain import ReviewBand
from crackwatch.errors import EXIT_USAGE, SettingsError
from crackwatch.settings import FolderSettings, Settings
from tests.disks import as_an_ordinary_user


def config(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


BAD = {
    "unknown key": ("[model]\nthresold = 0.5", ("model.thresold", "unknown key", "threshold")),
    "unknown section": ("[modl]\nthreshold = 0.5", ("modl", "unknown section", "model")),
    "key without a section": ("threshold = 0.5", ("threshold", "unknown section or key")),
    "section as a value": ("model = 3", ("model", "[model]")),
    "impossible threshold": ("[model]\nthreshold = 1.5", ("model.threshold", "1.5", "0.0 to 1.0")),
    "not a number": ("[model]\nthreshold = 'high'", ("model.threshold", "'high'")),
    "wrong type": ("[watch]\nsettle_s = 'two'", ("watch.settle_s", "'two'")),
    "text for a number": ("[batch]\nmax_size = '64'", ("batch.max_size", "'64'")),
    "truth for a number": ("[batch]\nmax_size = true", ("batch.max_size",)),
    "negative": ("[watch]\nrescan_s = -1", ("watch.rescan_s", "-1")),
    "not finite": ("[watch]\nrescan_s = inf", ("watch.rescan_s",)),
    "less than nothing free": ("[limits]\nmin_free_bytes = -1", ("limits.min_free_bytes", "-1")),
    "no such choice": ("[files]\nnormal = 'burn'", ("files.normal", "keep", "burn")),
    "no patterns": ("[files]\npatterns = []", ("files.patterns",)),
    "no such zone": ("[station]\ntimezone = 'Mars/Base'", ("station.timezone", "Europe/Berlin")),
    "no such time": ("[report]\nday_starts_at = '6 am'", ("report.day_starts_at", "HH:MM")),
    "not SQLite": ("[database]\nurl = 'postgresql://x'", ("database.url", "sqlite:///")),
    "no way with larger ones": ("[images]\nlarger = 'shrink'", ("images.larger", "tile", "shrink")),
    "nothing but overlap": ("[images]\ntile_overlap = 201", ("images.tile_overlap", "200")),
    "no scale": ("[images]\nmm_per_px = 0", ("images.mm_per_px", "0")),
    "no finite scale": ("[images]\nmm_per_px = inf", ("images.mm_per_px", "finite")),
    "fast by Keras": (
        "[model]\nprecision = 'fast'\nruntime = 'keras'",
        ("model.precision", "openvino", "keras"),
    ),
    "flagged in the inbox": ("[folders]\nflagged = 'inbox/bad'", ("folders.flagged", "inside")),
    "inbox in the archive": ("[folders]\ninbox = 'archive/new'", ("folders.inbox", "inside")),
    "one folder for two": ("[folders]\narchive = './flagged/'", ("folders.archive", "same folder")),
    "own field": ("[file]\nx = 1", ("file", "unknown section or key")),
    "truth for a threshold": ("[model]\nthreshold = true", ("model.threshold", "True")),
    "a word for a threshold": ("[model]\nthreshold = 'modell'", ("model.threshold", "'modell'")),
    "pattern with a folder": ("[files]\npatterns = ['in/*.jpg']", ("files.patterns", "in/*.jpg")),
    "empty pattern": ("[files]\npatterns = ['']", ("files.patterns",)),
    "no such zone but a folder": ("[station]\ntimezone = 'Europe'", ("station.timezone",)),
    "no zone": ("[station]\ntimezone = ''", ("station.timezone",)),
    "zone out of its folder": ("[station]\ntimezone = '../../etc/passwd'", ("station.timezone",)),
    "start with a zone": ("[report]\nday_starts_at = '06:00+01:00'", ("report.day_starts_at",)),
    "database without a file": ("[database]\nurl = 'sqlite:///'", ("database.url", "sqlite:///F")),
    "database in memory": ("[database]\nurl = 'sqlite:///:memory:'", ("database.url",)),
    "database with options": ("[database]\nurl = 'sqlite:///a.db?mode=ro'", ("database.url",)),
    "empty folder": ("[folders]\ninbox = ''", ("folders.inbox",)),
    "number for a folder": ("[folders]\ninbox = 3", ("folders.inbox",)),
    "empty name": ("[station]\nname = ''", ("station.name",)),
    "not TOML": ("[model\n", ("not valid TOML", "line 1")),
    "not text": ("\x00", ("not valid TOML",)),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD.keys())
def test_what_cannot_work_is_told_with_file_key_and_remedy(
    tmp_path: Path, text: str, told: tuple[str, ...]
) -> None:
    file = config(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    message = str(caught.value)
    assert str(file) in message
    for part in told:
        assert part in message
    assert caught.value.remedy
    assert caught.value.exit_status == EXIT_USAGE


def test_several_mistakes_are_counted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"2 more after this one"):
        load(config(tmp_path, "[model]\na = 1\nb = 2\n[batch]\nc = 3\n"), {})


def test_the_shipped_file_has_every_key_with_its_default_and_a_comment() -> None:
    file = packaged.default_config()
    lines = file.read_text().splitlines()
    written = tomllib.loads(file.read_text())
    settings, defaults = load(file, {}), Settings(file=file)
    for name, field in Settings.model_fields.items():
        if name == "file":
            continue
        section = field.annotation
        assert section is not None
        optional = {key for key, each in section.model_fields.items() if each.default is None}
        assert set(written[name]) == set(section.model_fields) - optional, name
        for key in optional:  # TOML has no way to write "none": its line is there, as a comment
            assert sum(line.startswith(f"# {key} = ") for line in lines) == 1, key
        if name != "folders":
            assert getattr(settings, name) == getattr(defaults, name)
    for line in lines:
        if "=" in line and not line.startswith("#"):
            assert "  # " in line, f"no comment: {line}"


def test_a_review_band_has_both_ends_or_is_none(tmp_path: Path) -> None:
    whole = load(config(tmp_path, "[model]\nreview_low = 0.05\nreview_high = 0.95\n"), {})
    assert whole.model.review_band == ReviewBand(0.05, 0.95)
    assert load(config(tmp_path, ""), {}).model.review_band is None
    point = load(config(tmp_path, "[model]\nreview_low = 0.5\nreview_high = 0.5\n"), {})
    assert point.model.review_band is not None and 0.5 in point.model.review_band


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("review_low = 0.05", "review_low is given without model.review_high"),
        ("review_high = 0.05", "review_high is given without model.review_low"),
        ("review_low = 0.9\nreview_high = 0.1", r"review_low \(0.9\) is above"),
        ("review_low = -0.1\nreview_high = 0.1", "review_low: .*greater than or equal to 0"),
        ("review_low = 0.1\nreview_high = 1.1", "review_high: .*less than or equal to 1"),
        ("review_low = '0.1'\nreview_high = 1", "review_low: .*valid number"),
        ("review_low = nan\nreview_high = 1", "review_low: "),
    ],
)
def test_half_a_review_band_or_a_crooked_one_is_refused(
    tmp_path: Path, lines: str, why: str
) -> None:
    with pytest.raises(SettingsError, match=why):
        load(config(tmp_path, f"[model]\n{lines}\n"), {})


def test_a_review_band_can_come_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "CRACKWATCH_MODEL__REVIEW_LOW": "0.25",
        "CRACKWATCH_MODEL__REVIEW_HIGH": "1",
    }
    assert load(config(tmp_path, ""), environment).model.review_band == ReviewBand(0.25, 1.0)


def test_folders_resolve_against_the_file_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    settings = load(config(tmp_path, "[folders]\narchive = '../elsewhere'\nmodels = '/m'"), {})
    assert settings.folders.inbox == tmp_path / "inbox"
    assert settings.folders.archive == tmp_path.parent / "elsewhere"
    assert settings.folders.models == Path("/m")
    assert settings.database_file == tmp_path / "state" / "crackwatch.db"
    for name in FolderSettings.model_fields:
        assert getattr(settings.folders, name).is_absolute()


@pytest.mark.parametrize(
    ("variable", "value", "section", "key", "expected"),
    [
        ("CRACKWATCH_FILES__NORMAL", "archive", "files", "normal", "archive"),
        ("CRACKWATCH_FILES__RECURSIVE", "false", "files", "recursive", False),
        ("CRACKWATCH_FILES__PATTERNS", '["*.png"]', "files", "patterns", ["*.png"]),
        ("CRACKWATCH_MODEL__THRESHOLD", "0.25", "model", "threshold", 0.25),
        ("CRACKWATCH_MODEL__THRESHOLD", "model", "model", "threshold", "model"),
        ("CRACKWATCH_STATION__NAME", "42", "station", "name", "42"),
        ("CRACKWATCH_BATCH__MAX_SIZE", "8", "batch", "max_size", 8),
        ("CRACKWATCH_FOLDERS__FLAGGED", "/f", "folders", "flagged", Path("/f")),
    ],
)
def test_the_environment_overrides_a_key(
    tmp_path: Path, variable: str, value: str, section: str, key: str, expected: object
) -> None:
    settings = load(config(tmp_path, ""), {variable: value, "CRACKWATCH_CONFIG": "elsewhere"})
    assert getattr(getattr(settings, section), key) == expected


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("CRACKWATCH_MODEL__THRESHOLD", "2", "model.threshold"),
        ("CRACKWATCH_MODEL__TRESHOLD", "0.5", "unknown key"),
        ("CRACKWATCH_MODL__THRESHOLD", "0.5", "unknown section"),
        ("CRACKWATCH_FILE__NORMAL", "archive", "unknown section"),
    ],
)
def test_a_wrong_override_names_the_variable_and_not_the_file(
    tmp_path: Path, variable: str, value: str, told: str
) -> None:
    file = config(tmp_path, "")
    with pytest.raises(SettingsError) as caught:
        load(file, {variable: value})
    assert variable in caught.value.problem and told in caught.value.problem
    assert str(file) not in caught.value.problem
    assert caught.value.remedy


def test_a_whole_number_does_for_seconds_and_for_a_threshold(tmp_path: Path) -> None:
    settings = load(config(tmp_path, "[watch]\nsettle_s = 2\n[model]\nthreshold = 1\n"), {})
    assert (settings.watch.settle_s, settings.model.threshold) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("url", "file"), [("sqlite:////var/a.db", "/var/a.db"), ("sqlite:///sub/a.db", "sub/a.db")]
)
def test_a_database_is_beside_the_file_or_where_its_whole_path_says(
    tmp_path: Path, url: str, file: str
) -> None:
    settings = load(config(tmp_path, f"[database]\nurl = '{url}'"), {})
    assert settings.database_file == tmp_path / file


def test_a_relative_file_gives_absolute_folders_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    settings = load(Path("config.toml"), {})
    monkeypatch.chdir("/")
    assert settings.folders.inbox == tmp_path / "inbox"
    assert settings.file == tmp_path / "config.toml"


def test_settings_cannot_be_changed_once_read(tmp_path: Path) -> None:
    settings = load(config(tmp_path, ""), {})
    with pytest.raises(ValueError, match="frozen"):
        settings.model.threshold = 0.1  # type: ignore[misc]  # what the test is about


def test_the_file_is_the_one_given_else_the_variable_s_else_the_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named, here = tmp_path / "given", tmp_path / "named", tmp_path / "here"
    for folder in (given, named, here):
        folder.mkdir()
        config(folder, "")
    monkeypatch.chdir(here)
    environment = {"CRACKWATCH_CONFIG": str(named / "config.toml")}
    assert find_config(str(given / "config.toml"), environment) == given / "config.toml"
    assert find_config(str(given), environment) == given / "config.toml"
    assert find_config(None, environment) == named / "config.toml"
    assert find_config(None, {}) == here / "config.toml"


def test_a_file_that_is_not_there_is_told_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=r"absent.toml: no such") as caught:
        find_config(str(tmp_path / "absent.toml"), {})
    assert "crackwatch init" in caught.value.remedy
    monkeypatch.chdir(tmp_path)
    if not Path("/etc/crackwatch/config.toml").exists():
        with pytest.raises(SettingsError, match=r"no config.toml here"):
            find_config(None, {})


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path, {})  # a folder


def test_the_inbox_must_be_a_folder(tmp_path: Path) -> None:
    settings = load(config(tmp_path, ""), {})
    with pytest.raises(SettingsError, match=r"folders\.inbox.*does not exist"):
        require_inbox(settings)
    (tmp_path / "inbox").write_text("")
    with pytest.raises(SettingsError, match=r"folders\.inbox.*is not a folder"):
        require_inbox(settings)
    os.unlink(tmp_path / "inbox")
    (tmp_path / "inbox").mkdir()
    require_inbox(settings)


@pytest.mark.parametrize("linked", ["flagged", "state"])
def test_a_link_must_not_lead_into_the_inbox(tmp_path: Path, linked: str) -> None:
    """What is flagged would arrive again, for ever."""
    settings = load(config(tmp_path, ""), {})
    (tmp_path / "inbox/deep").mkdir(parents=True)
    (tmp_path / linked).symlink_to(tmp_path / "inbox/deep")
    with pytest.raises(SettingsError, match=rf"folders\.{linked}.*leads into the inbox"):
        require_inbox(settings)


def test_an_inbox_that_is_a_link_is_looked_through(tmp_path: Path) -> None:
    settings = load(config(tmp_path, "[folders]\nflagged = 'camera/flagged'"), {})
    (tmp_path / "camera").mkdir()
    (tmp_path / "inbox").symlink_to("camera")
    with pytest.raises(SettingsError, match="leads into the inbox"):
        require_inbox(settings)


def test_an_inbox_behind_a_closed_door_is_told_in_a_sentence() -> None:
    with as_an_ordinary_user() as folder:
        settings = load(config(folder, "[folders]\ninbox = 'closed/inbox'"), {})
        (folder / "closed/inbox").mkdir(parents=True)
        (folder / "closed").chmod(0)
        with pytest.raises(SettingsError, match="Permission denied"):
            require_inbox(settings)
        (folder / "closed").chmod(0o700)
