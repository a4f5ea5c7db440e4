"""``crackwatch run``: the daemon, in the foreground."""

from __future__ import annotations

import click

from crackwatch.cli.options import config_option, load_settings


@click.command(
    epilog="Example: crackwatch run --config station/config.toml, or, from cron: crackwatch run --once"
)
@config_option
@click.option("--once", is_flag=True, help="Inspect what is in the inbox, then stop.")
def command(config: str | None, once: bool) -> int:
    """Watch the inbox and inspect what arrives, until SIGTERM or Ctrl-C.

    Logs go to standard error: for a person on a terminal, as JSON otherwise. A second instance on
    the same station exits with status 3.
    """
    settings = load_settings(config)
    from crackwatch import logs
    from crackwatch.config_file import require_inbox

    require_inbox(settings)
    logs.configure(settings.log.level, settings.log.format)
    from crackwatch.daemon import Daemon

    return Daemon(settings).run(once=once)
