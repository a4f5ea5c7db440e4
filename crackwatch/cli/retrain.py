"""``crackwatch retrain``: asks for a training, shows how far it is, prints what came of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings, who
from crackwatch.errors import EXIT_DONE, EXIT_FOUND

if TYPE_CHECKING:
    from crackwatch.settings import Settings
    from crackwatch.training.retraining import Result

_LISTED = 10
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
    help="Folder with train/anomaly and train/normal, or anomaly and normal; what was reviewed at "
    "the station is added [default: the station's dataset folder].",
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
@click.option(
    "--quick",
    is_flag=True,
    help="A fifteenth of the work: 3 folds, 4 epochs of four tenths of the normals. docs/model.md has its price.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Trainings at once, a core and 1.3 GB each [default: as many as fit].",
)
@click.option(
    "--replay-days",
    type=click.IntRange(0, 366),
    default=7,
    show_default=True,
    help="Judge the pictures of the last days again, and list every verdict that would flip.",
)
@click.option(
    "--mm-per-px",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MM",
    help="What a pixel of these pictures shows of the wall. The model's card keeps it, and "
    "photographs are brought to it [default: see docs/photographs.md].",
)
@format_option("table", "json")
def command(
    config: str | None,
    data: Path | None,
    seed: int | None,
    recipe: str | None,
    promote: str | None,
    epochs: int | None,
    quick: bool,
    workers: int | None,
    replay_days: int,
    mm_per_px: float | None,
    output_format: str,
) -> int:
    """Train a challenger, and promote it if it is no worse than the champion.

    Base data and what people reviewed are divided into folds; each picture is scored by a model
    that learned neither from it nor from its neighbours. From these scores come calibration,
    threshold and the comparison. An interrupted run changes nothing, and the next one with the same
    pictures goes on where it was. Exit status: 0 done; 1 --promote auto kept the champion; 2 too few
    pictures; 3 another training runs; 4 the export does not agree with Keras; 5 the database cannot
    be read.
    """
    if mm_per_px is not None and not isfinite(mm_per_px):  # click's ranges hold nan and inf
        raise click.UsageError(
            f"--mm-per-px {mm_per_px}: give a length in millimetres, such as 0.2"
        )
    settings = load_settings(config)
    signal.signal(signal.SIGTERM, _end)
    os.nice(max(0, NICENESS - os.nice(0)))

    from crackwatch import logs
    from crackwatch.registry import Registry
    from crackwatch.training import sources

    registry = Registry(settings.folders.models)
    folder = data if data is not None else settings.folders.dataset
    chosen_recipe = cast(Any, recipe or settings.retrain.recipe)
    _look_after_reviews(settings)
    # Before the heavy libraries; what is found is looked at again when other trainings are held off.
    reviewed = settings.folders.dataset / sources.REVIEWED
    sources.find(folder, chosen_recipe, registry.champion() is not None, reviewed)

    from crackwatch.cli.workshop import tools
    from crackwatch.training import planning, retraining

    logs.configure(settings.log.level, settings.log.format)
    request = planning.Request(
        data=folder,
        recipe=chosen_recipe,
        seed=settings.retrain.seed if seed is None else seed,
        promote=cast(Any, promote or settings.retrain.promote),
        quick=quick,
        epochs=epochs,
        workers=workers,
        replay_days=replay_days,
        miss_costs=settings.retrain.miss_costs,
        reviewed=reviewed,
        threshold=None if settings.model.threshold == "model" else settings.model.threshold,
        asked_by=who(None),
        mm_per_px=mm_per_px,
        station_mm_per_px=settings.images.mm_per_px,
    )
    with watching() as watcher:
        result = retraining.retrain(registry, request, tools(settings), watcher)
    logs.get().info(
        "challenger_promoted" if result.promoted else "challenger_not_promoted",
        model=result.model,
        reason=result.reason,
        flips=len(result.replay.flips),
        replayed=result.replay.replayed,
    )
    if output_format == "json":
        echo_json(result.as_json())
    else:
        for line in retraining.problem_lines(result.problems):
            click.echo(line, err=True)
        _print(result)
    rejected = not result.promoted and request.promote == "auto"
    return EXIT_FOUND if rejected else EXIT_DONE


def _look_after_reviews(settings: Settings) -> None:
    """Files reviewed pictures where their latest labels say, should a crash have come between.

    Says how many cannot be learned from, as their copies are lost.
    Raises StoreError where the database cannot be read: the replay would fail by it, an hour later.
    """
    if not settings.database_file.exists():
        return
    from crackwatch.review.copies import REVIEWED, Copies
    from crackwatch.review.marking import mend
    from crackwatch.store.reviews import opened

    with opened(settings.database_file, settings.station.name, writable=False) as books:
        lost: tuple[Any, ...] = ()
        folder = settings.folders.dataset / REVIEWED
        if books.all():
            lost = mend(books, Copies(folder))
    if lost:
        click.echo(
            f"{folder}: copies of reviewed pictures that are gone and cannot be learned from: "
            f"{len(lost)}. 'crackwatch review list' says copy lost; 'crackwatch review mark' of such "
            "a picture makes its copy anew.",
            err=True,
        )


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (a signal handler's signature)
    """Ends by an exception, so that what was begun is cleared away."""
    raise SystemExit(_EXIT_SIGTERM)


def _print(result: Result) -> None:
    compared = result.validation
    click.echo(
        f"learned from {result.train['anomaly']} anomalies and {result.train['normal']} normals; "
        f"compared on {compared['anomaly']} and {compared['normal']}, each scored by models that had "
        "not learned from it"
    )
    if result.leaks is not None:
        from crackwatch.training.planning import leaked

        click.echo(
            f"{result.leaks.total} pairs would have leaked in a split by chance, none did in this: "
            f"{leaked(result.leaks)}"
        )
    rows = [("challenger", result.challenger.measures)]
    if result.champion is not None:
        rows.insert(0, ("champion", result.champion.measures))
    alone = result.unrelated
    related = 0 if alone is None else result.challenger.measures.n - alone.n
    if alone is not None and related:
        rows.append(("  without*", alone))
    click.echo(f"{'':10}  threshold   found  escapes  false alarms      F1  PR area     ECE")
    for role, found in rows:
        click.echo(
            f"{role:10}  {found.threshold:9.4f}  {found.tp:6}  {found.fn:7}  {found.fp:12}  "
            f"{_shown(found.f1):>6}  {_shown(found.pr_auc):>7}  {_shown(found.ece):>6}"
        )
    if alone is not None and related:
        click.echo(
            f"* the challenger without the {related} pictures that have a copy or an overlapping "
            f"crop among the others: {alone.tp + alone.fn} anomalies and {alone.fp + alone.tn} "
            "normals are left"
        )
    if result.champion is not None:
        click.echo(f"champion was {result.champion.model}")
    _print_both_ways(result)
    _print_suspects(result)
    _print_flips(result)
    if not result.tells_drift:
        click.echo(
            "with this model drift cannot be told: too few of its pictures score below its threshold"
        )
    click.echo(f"{result.model}: {result.reason}")
    if result.promoted:
        click.echo("'crackwatch models rollback' undoes it")
    elif result.comparison is not None and result.comparison.objections():
        click.echo(
            "The champion stays. More labelled pictures help most: 'crackwatch review mark', "
            "'crackwatch dataset import', and then 'crackwatch retrain' without --quick."
        )
    click.echo(f"took {result.seconds:.0f} s")


def _print_both_ways(result: Result) -> None:
    if not result.both_ways:
        return
    count = len(result.both_ways)
    click.echo(
        f"{count} {'picture is' if count == 1 else 'pictures are'} there twice, encoded or exposed "
        "anew, under both labels; both were learned from"
    )
    for anomaly, normal in result.both_ways[:_LISTED]:
        click.echo(f"  anomaly: {anomaly}")
        click.echo(f"   normal: {normal}")
    _print_more(len(result.both_ways))


def _print_suspects(result: Result) -> None:
    if not result.suspects:
        return
    count = len(result.suspects)
    click.echo(
        f"{count} {'label' if count == 1 else 'labels'} to look at: the challenger's score speaks "
        f"against {'it' if count == 1 else 'them'}"
        + ("" if result.promoted else ", which was not promoted")
    )
    for suspect in result.suspects[:_LISTED]:
        by = ", reviewed" if suspect.reviewed else ""
        click.echo(f"  {suspect.score:.3f}  labelled {suspect.label}{by}: {suspect.path}")
    _print_more(len(result.suspects))


def _print_flips(result: Result) -> None:
    replay = result.replay
    if not (replay.replayed or replay.missing or replay.photographs):
        return
    click.echo(
        f"of {replay.replayed} pictures inspected lately, {len(replay.flips)} would be judged "
        "otherwise"
        + (f"; {replay.missing} more are gone and cannot be judged again" if replay.missing else "")
        + (
            f"; {replay.photographs} photographs, each as many as hundreds, were not judged again"
            if replay.photographs
            else ""
        )
        + (f"; {replay.older} older pictures were not judged again" if replay.older else "")
    )
    for flip in replay.flips[:_LISTED]:
        click.echo(
            f"  {flip.id}: {flip.was} {flip.score_was:.3f} -> {flip.now} {flip.score_now:.3f}: "
            f"{flip.path}"
        )
    _print_more(len(replay.flips))


def _print_more(count: int) -> None:
    """How many of a list were not shown."""
    if count > _LISTED:
        click.echo(f"  and {count - _LISTED} more (--format json lists them all)")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


class watching:  # noqa: N801 (used as a function: ``with watching() as watcher``)
    """Progress on standard error: bars on a terminal, else a line an epoch."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._steps: dict[str, int] = {}
        self._done: dict[str, int] = {}

    def __enter__(self) -> watching:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
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
        self._show("reading", done, total)

    def comparing(self, done: int, total: int) -> None:
        self._show("comparing", done, total)

    def training(self, steps: Mapping[str, int]) -> None:
        self._steps = dict(steps)
        self._done = dict.fromkeys(steps, 0)

    def step(self, job: str, epoch: int, step: int, steps: int) -> None:
        done = (epoch - 1) * steps + step
        self._show(f"{job}, epoch {epoch}", done, self._steps[job], key=job)
        self._whole(job, done)

    def epoch(self, job: str, epoch: Mapping[str, Any]) -> None:
        self._say(
            f"{job}: epoch {epoch['number']}/{epoch['of']}: {epoch['seconds']:.0f} s, "
            f"loss {epoch['train_loss']:.4f}"
        )

    def finished(self, job: str, done: int, total: int) -> None:
        self._say(f"{job}: done, {done} of {total}")
        self._whole(job, self._steps[job])
        if self._bars is not None and job in self._tasks:
            self._bars.remove_task(self._tasks.pop(job))

    def _whole(self, job: str, done: int) -> None:
        self._done[job] = done
        self._show("all of it", sum(self._done.values()), sum(self._steps.values()))

    def _say(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)

    def _show(self, text: str, done: int, total: int, key: str | None = None) -> None:
        if self._bars is None:
            return
        key = key or text
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(text, total=total)
        self._bars.update(self._tasks[key], description=text, completed=done, total=total)
        if done >= total and key in ("reading", "comparing"):
            self._bars.remove_task(self._tasks.pop(key))
