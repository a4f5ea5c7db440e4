"""``make demo``: a station at work on drawn concrete, truth beside verdict, misses included.

It does what a person would do, with the same commands, in a folder of its own: ``init``, ``run``,
pictures into the inbox, ``report``, ``audit``, SIGTERM. It looks into nothing but their output.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

from crackwatch import images, synthetic
from crackwatch.domain import Label
from crackwatch.errors import EXIT_DONE, EXIT_FOUND, CrackwatchError, UsageError

PICTURES: Final = 60
CRACK_EVERY: Final = 3

_PACE_S = 0.12  # between two pictures: about eight a second
_PAUSE_IN_A_FILE_S = 0.05  # what a slow producer takes between two halves of a file
_START_TIMEOUT_S = 60.0
_JUDGE_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_POLL_S = 0.5

# what became of a picture: (truth, verdict) to a word and its colour
_OUTCOMES: Final = {
    (Label.ANOMALY, Label.ANOMALY): ("hit", "green"),
    (Label.NORMAL, Label.NORMAL): ("right", "dim"),
    (Label.ANOMALY, Label.NORMAL): ("escape", "bold red"),
    (Label.NORMAL, Label.ANOMALY): ("false alarm", "yellow"),
}
_NOT_JUDGED = ("not judged", "bold magenta")


class DemoError(CrackwatchError):
    """The station did not do what the demo asked of it."""

    exit_status = EXIT_FOUND


@dataclass(frozen=True, slots=True)
class Dropped:
    """A picture as it was put into the inbox."""

    name: str
    truth: Label
    written: str  # "renamed" or "in place"
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class Judged:
    """What the books say of a picture; score and verdict are None if it was quarantined."""

    verdict: Label | None
    score: float | None
    inspected_at: datetime


class Station:
    """A station in ``folder`` and, from ``start`` to ``stop``, its daemon."""

    def __init__(self, folder: Path) -> None:
        self.inbox = folder / "inbox"
        self._folder = folder
        self._log = folder / "run.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        # settings of another station in this shell must not leak into this one
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith("CRACKWATCH_")
        }

    def ask(self, *arguments: str) -> str:
        """What a command prints. Raises DemoError if it fails."""
        done = subprocess.run(
            self._command(*arguments), env=self._environment, capture_output=True, check=False
        )
        if done.returncode not in (EXIT_DONE, EXIT_FOUND):
            raise DemoError(
                f"crackwatch {' '.join(arguments)} ended with status {done.returncode}",
                done.stderr.decode(errors="replace"),
            )
        return done.stdout.decode()

    def show(self, *arguments: str) -> int:
        """Runs a command on this terminal; returns its status."""
        sys.stdout.flush()
        return subprocess.run(
            self._command(*arguments), env=self._environment, check=False
        ).returncode

    def make(self) -> None:
        """``init``; changes nothing in a station that is there."""
        made = subprocess.run(
            [sys.executable, "-m", "crackwatch", "init", str(self._folder)],
            env=self._environment,
            capture_output=True,
            check=False,
        )
        if made.returncode != EXIT_DONE:
            raise DemoError(
                f"crackwatch init ended with status {made.returncode}",
                made.stderr.decode(errors="replace"),
            )

    def start(self) -> None:
        """Starts the daemon and waits until it watches."""
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(
                self._command("run"), env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while json.loads(self.ask("status", "--format", "json"))["state"] != "running":
            self.require_running()
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the daemon did not start in {_START_TIMEOUT_S:.0f} s", self._tail()
                )
            time.sleep(_POLL_S)

    def require_running(self) -> None:
        """Raises DemoError if the daemon has ended by itself."""
        status = self._daemon.poll() if self._daemon else None
        if status is not None:
            raise DemoError(f"the daemon ended with status {status}", self._tail())

    def stop(self) -> int:
        """SIGTERM; returns the daemon's exit status. Raises DemoError if it does not obey."""
        if self._daemon is None:
            return EXIT_DONE
        daemon, self._daemon = self._daemon, None
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
        try:
            return daemon.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as exc:
            daemon.kill()
            daemon.wait()
            raise DemoError(
                f"the daemon did not stop within {_STOP_TIMEOUT_S:.0f} s of SIGTERM", self._tail()
            ) from exc

    def _command(self, name: str, *arguments: str) -> list[str]:
        config = str(self._folder / "config.toml")
        return [sys.executable, "-m", "crackwatch", name, "--config", config, *arguments]

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(["Its last words:", *lines[-15:]])


# ----------------------------------------------------------------------------------- the acts


def drop(inbox: Path, number: int, seed: int) -> Dropped:
    """Draws picture ``number`` and puts it into the inbox, as one kind of producer or another.

    Every third picture has a crack. One producer writes under a hidden name and renames, the other
    writes slowly under the final name.
    """
    crack = number % CRACK_EVERY == CRACK_EVERY - 1
    data = images.encode_jpeg(synthetic.draw(seed + number, crack=crack))
    path = inbox / f"drawn-{number:03}.jpg"
    renamed = number % 2 == 0
    if renamed:
        hidden = inbox / f".{path.name}.part"
        hidden.write_bytes(data)
        hidden.rename(path)
    else:
        with path.open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            time.sleep(_PAUSE_IN_A_FILE_S)
            file.write(data[len(data) // 2 :])
    truth = Label.ANOMALY if crack else Label.NORMAL
    written = "renamed" if renamed else "in place"
    return Dropped(path.name, truth, written, datetime.now(UTC))


def wait_until_judged(station: Station, since: datetime, count: int) -> None:
    """Returns when the report counts ``count`` pictures. Raises DemoError if that takes too long."""
    deadline = time.monotonic() + _JUDGE_TIMEOUT_S
    while True:
        report = json.loads(station.ask("report", "--since", since.isoformat(), "--format", "json"))
        counted = report["inspected"] + report["quarantined"]
        if counted >= count:
            return
        station.require_running()
        if time.monotonic() > deadline:
            raise DemoError(
                f"{counted} of {count} pictures were recorded in {_JUDGE_TIMEOUT_S:.0f} s",
                "Try again with --keep DIR and look at DIR/run.log.",
            )
        time.sleep(_POLL_S)


def read_lines(table: str) -> dict[str, Judged]:
    """The CSV report, by the picture's name in the inbox."""
    judged: dict[str, Judged] = {}
    for row in csv.DictReader(io.StringIO(table)):
        inspected = row["outcome"] in (Label.NORMAL, Label.ANOMALY)
        judged[row["source"]] = Judged(
            Label(row["outcome"]) if inspected else None,
            float(row["score"]) if row["score"] else None,
            datetime.fromisoformat(row["inspected_at"]),
        )
    return judged


def outcome(truth: Label, judged: Judged | None) -> tuple[str, str]:
    """What became of a picture, and the colour to say it in."""
    if judged is None or judged.verdict is None:
        return _NOT_JUDGED
    return _OUTCOMES[truth, judged.verdict]


def tell(console: Console, dropped: Sequence[Dropped], judged: dict[str, Judged]) -> None:
    """Truth beside verdict for each picture, then the counts."""
    table = Table(title="Truth beside verdict", title_justify="left", header_style="bold")
    for heading in ("picture", "written", "truth", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("after", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    counts: Counter[str] = Counter()
    waits: list[timedelta] = []
    for picture in dropped:
        said = judged.get(picture.name)
        word, style = outcome(picture.truth, said)
        counts[word] += 1
        verdict = score = after = "-"
        if said is not None:
            waits.append(said.inspected_at - picture.closed_at)
            after = f"{waits[-1].total_seconds():.2f} s"
            verdict = said.verdict.value if said.verdict else "quarantined"
            score = f"{said.score:.4f}" if said.score is not None else "-"
        table.add_row(
            picture.name, picture.written, picture.truth.value, verdict, score, after, word,
            style=style,
        )  # fmt: skip
    console.print(table)
    cracks = sum(picture.truth is Label.ANOMALY for picture in dropped)
    console.print(
        f"\n{cracks} with a crack: {counts['hit']} found, {counts['escape']} escaped.   "
        f"{len(dropped) - cracks} without: {counts['right']} passed, "
        f"{counts['false alarm']} false alarms."
    )
    if counts[_NOT_JUDGED[0]]:
        console.print(f"{counts[_NOT_JUDGED[0]]} not judged.")
    if waits:
        median = sorted(waits)[len(waits) // 2].total_seconds()
        console.print(f"From closed file to verdict: median {median:.2f} s, longest "
                      f"{max(waits).total_seconds():.2f} s.")  # fmt: skip


def play(station: Station, console: Console, count: int, seed: int) -> int:
    """The whole demo; returns the exit status."""
    console.print("crackwatch init ...")
    station.make()
    console.print("crackwatch run ...")
    station.start()
    since = datetime.now(UTC)
    console.print(f"Drawing {count} pictures into {station.inbox} ...\n", soft_wrap=True)
    dropped: list[Dropped] = []
    on_terminal = Console(stderr=True)
    for number in track(
        range(count),
        "drawing",
        console=on_terminal,
        transient=True,
        disable=not on_terminal.is_terminal,
    ):
        dropped.append(drop(station.inbox, number, seed))
        station.require_running()
        time.sleep(_PACE_S)
    wait_until_judged(station, since, count)
    lines = station.ask("report", "--since", since.isoformat(), "--format", "csv")
    tell(console, dropped, read_lines(lines))
    console.print(
        "\nThese pictures are drawn; the model was trained on photographs of concrete\n"
        "and has never seen a drawn one. What it makes of them says nothing about how\n"
        "it does on photographs: for that, see its card ('crackwatch models show').\n"
    )
    console.print("crackwatch report --since today")
    reported = station.show("report", "--since", "today")
    console.print("\ncrackwatch audit")
    audited = station.show("audit")
    stopped = station.stop()
    console.print(f"\nSIGTERM: the daemon ended with status {stopped}.")
    return EXIT_DONE if (reported, audited, stopped) == (EXIT_DONE,) * 3 else EXIT_FOUND


@contextlib.contextmanager
def folder_for(keep: Path | None) -> Iterator[Path]:
    """Where the station is made: ``keep``, or a folder that is gone afterwards."""
    if keep is not None:
        if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
            raise UsageError(
                f"{keep}: is not an empty folder", "Name a new one: the demo makes its own station."
            )
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="crackwatch-demo-") as made:
        yield Path(made)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and plays; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m crackwatch.demo",
        description="A station at work on drawn concrete, truth beside verdict.",
    )
    parser.add_argument(
        "--keep", metavar="DIR", type=Path, help="make the station in DIR and leave it"
    )
    parser.add_argument(
        "--pictures", metavar="N", type=int, default=PICTURES, help=f"default {PICTURES}"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=2_000_000, help="of the first picture"
    )
    given: Any = parser.parse_args(arguments)
    if given.pictures < 1 or given.seed < 0:
        parser.error("--pictures must be at least 1 and --seed at least 0")
    try:
        with folder_for(given.keep) as folder:
            station = Station(folder)
            try:
                console = Console(highlight=False, markup=False)
                return play(station, console, given.pictures, given.seed)
            finally:
                station.stop()
    except CrackwatchError as exc:
        Console(stderr=True, highlight=False, markup=False).print(f"demo: {exc}", soft_wrap=True)
        return exc.exit_status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
