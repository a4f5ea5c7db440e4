"""A summary as one self-contained HTML file: no script, no picture, nothing fetched from anywhere."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from crackwatch import __version__
from crackwatch.reported import Summary
from crackwatch.reporting import chart
from crackwatch.reporting.sheet import heading, moment_text, sections, totals

_TEMPLATES = Path(__file__).parent / "templates"


def html(summary: Summary, station: str, made_at: datetime) -> str:
    """The document. What is in it came from file names: everything is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        station=station,
        heading=heading(summary, station),
        totals=totals(summary),
        sections=sections(summary, hours_shown=0),
        chart=chart.chart(summary),
        chart_width=chart.WIDTH,
        chart_height=chart.HEIGHT,
        made_at=moment_text(made_at, summary),
        version=__version__,
    )
