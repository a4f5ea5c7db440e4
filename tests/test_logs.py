"""A person gets a console, the journal gets JSON, standard output gets nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest


def logged(program: str, level: str = "info", format: str = "json") -> tuple[list[str], str]:
    """Lines on standard error, and standard output, of a process that is set up and then runs."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom crackwatch import logs\nlogs.configure(sys.argv[1], sys.argv[2])\n"
            + program,
            level,
            format,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines(), done.stdout


def events(program: str, level: str = "info") -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(program, level)[0]]


def test_each_event_is_one_line_of_json_with_its_context() -> None:
    (event,) = events("logs.get(station='s').info('batch_inspected', size=3, kept=True)")
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "batch_inspected",
        "level": "info",
        "size": 3,
        "kept": True,
        "station": "s",
    }


def test_a_file_name_cannot_forge_a_line() -> None:
    (event,) = events(r"logs.get().info('moved', source=b'a\n{\x22event\x22:\xff}\x1b[31m.jpg')")
    assert event["source"] == r'a\x0a{"event":\xff}\x1b[31m.jpg'


def test_nothing_is_written_to_standard_output() -> None:
    for format in ("json", "console"):
        lines, out = logged("logs.get().error('x')", format=format)
        assert lines and out == ""


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_lets_through_what_is_as_serious(level: str, heard: list[str]) -> None:
    say = "log = logs.get()\nfor name in ('debug', 'info', 'warning', 'error'):\n"
    say += "    getattr(log, name)(name)"
    assert [event["level"] for event in events(say, level)] == heard


def test_an_exception_is_told_in_the_same_line_without_what_the_variables_held() -> None:
    program = """
def decode(picture):
    raise ValueError("no picture")
try:
    decode(b"the bytes of a picture" * 100)
except ValueError:
    logs.get().exception("thread_died", thread="inspector")
"""
    (event,) = events(program)
    assert (event["event"], event["thread"]) == ("thread_died", "inspector")
    (trace,) = event["exception"]
    assert (trace["exc_type"], trace["exc_value"]) == ("ValueError", "no picture")
    assert [frame["name"] for frame in trace["frames"]] == ["<module>", "decode"]
    assert "the bytes of a picture" not in json.dumps(event)


def test_a_terminal_s_absence_means_json_and_a_person_can_ask_for_the_console() -> None:
    (line,) = logged("logs.get().info('started', pid=1)", format="auto")[0]
    assert json.loads(line)["event"] == "started"
    (line,) = logged("logs.get().info('started', pid=1)", format="console")[0]
    assert "started" in line and "pid=1" in line and not line.startswith("{")


def test_libraries_are_heard_when_they_warn() -> None:
    program = """
import logging
logging.getLogger("watchdog").info("chatter")
logging.getLogger("watchdog").warning("an overflow")
"""
    assert logged(program)[0] == ["watchdog: an overflow"]


def test_a_name_that_no_locale_can_show_is_still_logged() -> None:
    lines, _ = logged(r"logs.get().info('x', message='lone \udcff surrogate')")
    assert len(lines) == 1
    assert json.loads(lines[0])["event"] == "x"


def test_a_log_that_cannot_be_written_costs_lines_and_nothing_else() -> None:
    program = (
        "from crackwatch import logs\nlogs.configure('info', 'json')\n"
        "for _ in range(1000): logs.get().info('batch_inspected')\nprint('alive')"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert done.stdout == b"alive\n"
