"""Reads a crackwatch command line without carrying it out, and walks all commands there are."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click

from crackwatch.cli import group


def all_commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group below ``crackwatch``, with the words that name it."""

    def walk(
        words: tuple[str, ...], command: click.Command
    ) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        yield words, command
        if isinstance(command, click.Group):
            with click.Context(command) as context:
                for name in command.list_commands(context):
                    below = command.get_command(context, name)
                    assert below is not None
                    yield from walk((*words, name), below)

    return walk((), group)


def parse(line: str) -> tuple[str, ...]:
    """The words that name the command of ``line``; raises click.UsageError if it cannot be parsed.

    Only existing commands and options, and values of the right type, pass; nothing is run.
    """
    program, *arguments = shlex.split(line, comments=True)
    assert program == "crackwatch", line
    words: tuple[str, ...] = ()
    command: click.Command = group
    context = None
    while isinstance(command, click.Group):
        name, *arguments = arguments
        if name.startswith("-"):  # --help, --version
            assert name in {
                option
                for each in command.get_params(click.Context(command))
                for option in each.opts
            }, line
            return words
        below = command.get_command(click.Context(command), name)
        if below is None:
            raise click.UsageError(f"no command {name!r} in: {line}")
        words, command = (*words, name), below
    context = command.make_context(" ".join(words), arguments, resilient_parsing=False)
    context.close()
    return words
