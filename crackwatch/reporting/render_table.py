"""A summary as text for a person: plain for files and pipes, with colour for a terminal."""

from __future__ import annotations

from typing import TextIO

from crackwatch.reported import Summary
from crackwatch.reporting.sheet import Section, heading, sections, totals

_STYLES = {"plain": "", "good": "green", "bad": "bold red", "odd": "yellow", "faint": "dim"}


def plain(summary: Summary, station: str) -> str:
    """Text without colour, every line whole however long, so that it can be searched."""
    lines = [heading(summary, station), ""]
    for what, count, remark, _ in totals(summary):
        lines.append(f"{what:<13}{count:>9}  {remark}".rstrip())
    for section in sections(summary):
        lines += ["", section.title, *_aligned(section)]
        if section.more:
            lines.append(f"  {section.more}")
    return "\n".join(lines) + "\n"


def _aligned(section: Section) -> list[str]:
    if not section.rows:
        return []
    rows = [tuple(column.title for column in section.columns), *section.rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(section.columns))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, section.columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def on_terminal(
    summary: Summary, station: str, stream: TextIO, *, width: int | None = None
) -> None:
    """Draws it as wide as the terminal, or as ``width``; long names are folded, never cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, width=width, highlight=False)
    # Text objects everywhere: "[red]" and ":warning:" in a file's name are nothing but letters
    console.print(Text(heading(summary, station), style="bold"))
    sums = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    sums.add_column(no_wrap=True)
    sums.add_column(justify="right", no_wrap=True)
    sums.add_column(overflow="fold")
    for what, count, remark, tone in totals(summary):
        sums.add_row(Text(what), Text(count, style=_STYLES[tone]), Text(remark, style="dim"))
    console.print()
    console.print(sums)
    for section in sections(summary):
        console.print()
        console.print(Text(section.title, style="bold"))
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for column in section.columns:
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                style=_STYLES[column.tone],
                overflow="fold",
                no_wrap=not column.path,
                ratio=1 if column.path else None,
            )
        for row in section.rows:
            table.add_row(*(Text(cell) for cell in row))
        if section.rows:
            console.print(table)
        if section.more:
            console.print(Text(section.more, style="dim"))
