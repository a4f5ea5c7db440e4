"""The command line: parses, calls one function, maps errors to exit statuses.

Commands are imported only when they are called: ``--help`` and ``report`` must not pay for the
libraries of ``retrain``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from crackwatch import __version__
from crackwatch.errors import EXIT_USAGE, CrackwatchError

# name: (module that holds it as `command`, the line that --help shows)
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Make a station: folders, settings, database, starter model."),
    "run": ("run", "Watch the inbox and inspect what arrives."),
    "status": ("status", "Is it alive, what waits, what is wrong."),
    "report": ("report", "What was inspected and found in a span of time."),
    "audit": ("audit", "Prove that everything that arrived is accounted for."),
    "requeue": ("requeue", "Send quarantined pictures back into the inbox."),
    "retention": ("retention", "Delete pictures whose time is over, as config.toml has it."),
    "classify": ("classify", "Score pictures without recording or moving them."),
    "dataset": ("dataset", "Take in labelled pictures to learn from."),
    "review": ("review", "Say what pictures really show; models learn from it."),
    "retrain": ("retrain", "Train a challenger and promote it if it is no worse."),
    "evaluate": ("evaluate", "Score a labelled folder, with exact intervals."),
    "tune": ("tune", "Choose a threshold that keeps a promise, and say what it costs."),
    "containment": ("containment", "List what a failed golden set throws into doubt."),
    "models": ("models", "List, show, promote, roll back and verify models."),
    "db": ("db", "Migrate, inspect and back up the database."),
}

_OUTPUT_LOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"crackwatch.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's signature)
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: crackwatch init station && crackwatch run --config station/config.toml",
)
@click.version_option(__version__, prog_name="crackwatch")
def group() -> None:
    """Watches a folder for photographs of concrete, finds the cracks, and keeps the books."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: runs one command and exits with its status."""
    _open_closed_streams()
    if not os.access(".", os.X_OK, effective_ids=True):
        # typed in root's own folder for the station's user, say: nothing there can be named anyway,
        # and OpenVINO ends the process when it may not look around
        os.chdir("/")
    status = execute(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)  # a log on a full disk: the exit status must not tell of that
    sys.exit(status)


def execute(arguments: Sequence[str]) -> int:
    """Runs one command; errors are told on standard error. Returns the exit status.

    No command's module may bear this name: importing it would put it in this function's place.
    """
    try:
        # not group.main(): where the reader of a pipe has gone it exits with 1, which means "found"
        with group.make_context("crackwatch", list(arguments)) as context:
            outcome: Any = group.invoke(context)
        sys.stdout.flush()  # while a failure can still be told
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        with contextlib.suppress(OSError):
            exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return 130
    except CrackwatchError as exc:
        _complain(str(exc))
        return exc.exit_status
    except BrokenPipeError:
        _silence(sys.stdout)  # the reader (head, less) has gone
        return 0
    except OSError as exc:
        if exc.filename is not None or exc.errno not in _OUTPUT_LOST:
            raise  # not of the output: a fault of this program, to be shown whole
        _silence(sys.stdout)
        _complain(
            f"standard output cannot be written: {exc.strerror}\nSend it to a disk with room."
        )
        return EXIT_USAGE
    return outcome if isinstance(outcome, int) else 0


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # the exit status says it too
        click.echo(f"crackwatch: {text}", err=True)


def _silence(stream: TextIO) -> None:
    """What is still buffered goes nowhere: a second complaint at exit would help nobody."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_closed_streams() -> None:
    """Puts the null device where the caller closed a standard stream (``>&-``).

    Else the next file opened, such as the database, would get that number, and every ``print``
    would go into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    # None where it was closed, whatever the type says
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 (lives as long as this process)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 (lives as long as this process)
