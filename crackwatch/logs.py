"""structlog, configured once: a console for people, JSON lines for the journal; nothing else.

Logs go to standard error; standard output belongs to what a command was asked for.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, TextIO

import structlog

from crackwatch.escaping import path_text


class _Unfailing:
    """A stream to which lines are written while it takes them.

    A log on a full disk, or one whose reader has gone, costs lines: never the station.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure(level: str, format: str) -> None:
    """Sets up logging for this process. ``format``: auto, console or json.

    auto gives the console to a terminal and JSON to everything else.
    """
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(
            fmt="%Y-%m-%d %H:%M:%S" if console else "iso", utc=not console
        ),
        _names_as_text,
    ]
    if console:
        renderer: list[structlog.typing.Processor] = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False)
        ]
    else:
        renderer = [
            # without local variables: pictures are among them, and the journal cuts long lines
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(file=_Unfailing(sys.stderr)),  # type: ignore[arg-type]  # write and flush are all that it uses
        cache_logger_on_first_use=True,
    )
    # libraries speak through the standard library: only what warns, in the same stream
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def get(**context: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger with ``context`` in each of its events."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**context)
    return logger


def _names_as_text(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """File names are bytes and may hold anything: they are logged as ``path_text`` shows them."""
    for key, value in event.items():
        if isinstance(value, bytes):
            event[key] = path_text(value)
    return event
