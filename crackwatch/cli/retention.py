"""``crackwatch retention``: deletes pictures whose time is over, as [retention] has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings

if TYPE_CHECKING:
    from crackwatch.cli.departing import Doorway
    from crackwatch.retention import Over, PlaceOutcome, Policy
    from crackwatch.settings import Settings

_SHOWN = 20  # of each folder, in a table


@click.command(epilog="Example: crackwatch retention --dry-run --format json")
@config_option
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option(
    "--trust-clock",
    is_flag=True,
    help="Date and time are right, although nothing was recorded for two days.",
)
@format_option("table", "json")
def command(config: str | None, dry_run: bool, trust_clock: bool, output_format: str) -> int:
    """Delete pictures whose time is over, oldest first, as [retention] in config.toml has it.

    Of each folder (archive, kept, quarantine, flagged) by age, by bytes, and by what is free of its
    disk. The running station does the same by itself at quiet moments. Without a limit in
    config.toml nothing is deleted.

    A picture is deleted only if its inspection is recorded, its move is finished, and the file is
    to the byte what was inspected; its inspection stays in the books as "expired". Pictures that a
    person labelled stay (keep_reviewed), and so do those that wait for a label
    (keep_awaiting_review).

    Nothing goes by age while, by this machine's clock, nothing was recorded half a day to two days
    ago: the clock may be wrong. Nor does anything go for free disk where all of it would not be
    enough.

    Exit status 1 if a picture could not be deleted, or a limit cannot be kept.

    JSON: dry_run folders[{folder pictures bytes free_bytes removed removed_bytes held short_bytes
    in_vain clock_unsure}] removed[{id folder path bytes inspected_at rule}] left[{id folder path bytes inspected_at rule
    why}] resumed; rule is age, bytes or free.
    """
    settings = load_settings(config)
    from datetime import UTC, datetime

    from crackwatch.cli.departing import doorway
    from crackwatch.errors import EXIT_DONE, EXIT_FOUND
    from crackwatch.housekeeping import free_of, policy_of
    from crackwatch.retention import Retention

    policy = policy_of(settings)
    limited = [place for place, limits in policy.limits.items() if limits.any]
    with doorway(settings, dry_run=dry_run, places=limited) as door:
        outcomes = Retention(
            door.rows,
            policy,
            free_of(settings),
            None if dry_run else door.departing,
            now=datetime.now(UTC),
            trust_clock=trust_clock,
        ).run()
        shown = _document(door, outcomes, settings, dry_run=dry_run)
    if output_format == "json":
        echo_json(shown)
    else:
        click.echo(_table(shown, policy), nl=False)
    short = any(each.short_bytes or each.clock_unsure for each in outcomes)
    return EXIT_FOUND if shown["left"] or short else EXIT_DONE


def _document(
    door: Doorway, outcomes: list[PlaceOutcome], settings: Settings, *, dry_run: bool
) -> dict[str, Any]:
    from crackwatch.cli.departing import why

    zone = settings.station.tz

    def said(over: Over) -> dict[str, Any]:
        from crackwatch.domain import DepartureKind
        from crackwatch.escaping import path_text
        from crackwatch.requeue import departure_of

        picture = over.picture
        path = door.leaver.path(departure_of(picture, DepartureKind.EXPIRY))
        return {
            "id": picture.id,
            "folder": _NAMES[picture.place.value],
            "path": path_text(path),
            "bytes": picture.size_bytes,
            "inspected_at": picture.inspected_at.astimezone(zone).isoformat(),
            "rule": over.rule,
        }

    return {
        "dry_run": dry_run,
        "folders": [
            {
                "folder": _NAMES[each.place.value],
                "pictures": each.pictures,
                "bytes": each.size_bytes,
                "free_bytes": each.free_bytes,
                "removed": len(each.removed),
                "removed_bytes": each.removed_bytes,
                "held": each.held,
                "short_bytes": each.short_bytes,
                "in_vain": each.in_vain,
                "clock_unsure": each.clock_unsure,
            }
            for each in outcomes
        ],
        "removed": [said(over) for each in outcomes for over in each.removed],
        "left": [
            {**said(over), "why": why(departed)}
            for each in outcomes
            for over, departed in each.left
        ],
        "resumed": len(door.resumed),
    }


_NAMES = {"archived": "archive", "kept": "kept", "quarantined": "quarantine", "flagged": "flagged"}


def _table(shown: dict[str, Any], policy: Policy) -> str:
    if not policy.any:
        return "[retention] in config.toml sets no limit: nothing is ever deleted.\n"
    verb = "would be deleted" if shown["dry_run"] else "deleted"
    lines = []
    for each in shown["folders"]:
        name = each["folder"]
        lines.append(
            f"{name}: {each['removed']:,} of {each['pictures']:,} {verb}, "
            f"{each['removed_bytes']:,} of {each['bytes']:,} bytes"
        )
        mine = [one for one in shown["removed"] if one["folder"] == name]
        lines += [f"  {one['id']:>8}  {one['rule']:<5}  {one['path']}" for one in mine[:_SHOWN]]
        if len(mine) > _SHOWN:
            lines.append(f"  and {len(mine) - _SHOWN:,} more: --format json")
        if each["held"]:
            lines.append(f"  {each['held']:,} stay for what people say of them")
        if each["short_bytes"]:
            lines.append(f"  the limit is missed by {each['short_bytes']:,} bytes all the same")
        if each["in_vain"]:
            lines.append("  all that is there would not make so much room: nothing goes for it")
        if each["clock_unsure"]:
            lines.append(
                "  nothing goes by age: nothing was recorded half a day to two days ago, so that the "
                "clock may be wrong; if it is right: --trust-clock"
            )
    for one in shown["left"][:_SHOWN]:
        lines.append(f"stays: {one['id']}  {one['path']}: {one['why']}")
    if len(shown["left"]) > _SHOWN:
        lines.append(f"and {len(shown['left']) - _SHOWN:,} more: --format json")
    return "\n".join(lines) + "\n"
