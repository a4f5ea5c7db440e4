"""``crackwatch retrain``: asks for a training, shows how far it is, prints what came of it."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings
from crackwatch.errors import EXIT_DONE, EXIT_FOUND

if TYPE_CHECKING:
    from crackwatch.training.fitting import Epoch
    from crackwatch.training.retraining import Result

NICENESS = 10  # beside the daemon, training gets what is left of the processor
_EXIT_SIGTERM = 128 + signal.SIGTERM


@click.command(
    epilog="Example: crackwatch retrain --data /data/concrete --seed 7 --promote auto",
)
@config_option
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder with train/anomaly and train/normal, or anomaly and normal "
    "[default: the station's dataset folder].",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Of weights, order and split [default: retrain.seed].",
)
@click.option(
    "--recipe",
    type=click.Choice(["notebook", "station"]),
    help="station, or notebook: the baseline, flaws included [default: retrain.recipe].",
)
@click.option(
    "--promote",
    type=click.Choice(["auto", "always", "never"]),
    help="auto: only if it is no worse than the champion [default: retrain.promote].",
)
@click.option(
    "--epochs", type=click.IntRange(1, 1000), help="Passes over the data [default: the recipe's]."
)
@format_option("table", "json")
def command(
    config: str | None,
    data: Path | None,
    seed: int | None,
    recipe: str | None,
    promote: str | None,
    epochs: int | None,
    output_format: str,
) -> int:
    """Train a challenger, and promote it if it is no worse than the champion.

    Both judge the same pictures, which were held back from the challenger's training. Exit status:
    0 done; 1 --promote auto kept the champion; 2 too few pictures; 3 another training holds the
    models; 4 the export does not agree with Keras. An interrupted run changes nothing.
    """
    settings = load_settings(config)
    signal.signal(signal.SIGTERM, _end)
    os.nice(max(0, NICENESS - os.nice(0)))

    from crackwatch.registry import Registry
    from crackwatch.training import sources

    registry = Registry(settings.folders.models)
    folder = data if data is not None else settings.folders.dataset
    chosen_recipe = cast(Any, recipe or settings.retrain.recipe)
    # Before TensorFlow's five seconds; what is found is looked at again under the lock.
    sources.find(folder, chosen_recipe, registry.champion() is not None)

    with registry.lock():  # whoever holds it is named at once
        from crackwatch.training.quiet import start_tensorflow

        start_tensorflow()
        from crackwatch.cli.workshop import tools
        from crackwatch.training import retraining

        request = retraining.Request(
            data=folder,
            recipe=chosen_recipe,
            seed=settings.retrain.seed if seed is None else seed,
            promote=cast(Any, promote or settings.retrain.promote),
            epochs=epochs,
        )
        with watching() as watcher:
            result = retraining.retrain(registry, request, tools(settings), watcher)
    if output_format == "json":
        echo_json(result.as_json())
    else:
        for line in retraining.problem_lines(result.problems):
            click.echo(line, err=True)
        _print(result)
    rejected = not result.promoted and request.promote == "auto"
    return EXIT_FOUND if rejected else EXIT_DONE


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (a signal handler's signature)
    """Ends by an exception, so that what was begun is cleared away."""
    raise SystemExit(_EXIT_SIGTERM)


def _print(result: Result) -> None:
    held = result.validation
    click.echo(
        f"held back: {held['anomaly']} anomalies, {held['normal']} normals; "
        f"learned from {result.train['anomaly']} and {result.train['normal']}"
    )
    click.echo(f"{'':10}  threshold   found  escapes  false alarms      F1  PR area")
    for role, duel in (("champion", result.champion), ("challenger", result.challenger)):
        if duel is not None:
            found = duel.measures
            click.echo(
                f"{role:10}  {found.threshold:9.4f}  {found.tp:6}  {found.fn:7}  {found.fp:12}  "
                f"{_shown(found.f1):>6}  {_shown(found.pr_auc):>7}"
            )
    if result.champion is not None:
        click.echo(f"champion was {result.champion.model}")
    click.echo(f"{result.model}: {result.reason}")
    click.echo(f"took {result.seconds:.0f} s")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


class watching:  # noqa: N801 (used as a function: ``with watching() as watcher``)
    """Progress on standard error: bars on a terminal, else a line an epoch."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._task: Any = None
        self._shown: tuple[str, int] | None = None
        self._last_line = 0.0

    def __enter__(self) -> watching:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def stage(self, text: str) -> None:
        self._say(text)

    def loading(self, done: int, total: int) -> None:
        self._advance("reading", 0, done, total)

    def step(self, epoch: int, step: int, steps: int) -> None:
        self._advance(f"epoch {epoch}", epoch, step, steps)

    def epoch(self, epoch: Epoch) -> None:
        area = "-" if math.isnan(epoch.held_back_pr_auc) else f"{epoch.held_back_pr_auc:.4f}"
        self._say(
            f"epoch {epoch.number}/{epoch.of}: {epoch.seconds:.0f} s, loss {epoch.train_loss:.4f}, "
            f"held back: loss {epoch.held_back_loss:.4f}, PR area {area}"
            + (" (best so far)" if epoch.best else "")
        )

    def _say(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)

    def _advance(self, name: str, number: int, done: int, total: int) -> None:
        if self._bars is None:
            return
        if self._shown != (name, number):
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task, self._shown = self._bars.add_task(name, total=total), (name, number)
        self._bars.update(self._task, completed=done, total=total)
