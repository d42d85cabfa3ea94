"""What every command of the command line begins with: its settings, and an event loop."""

import logging
import os
from collections.abc import Awaitable, Callable

import anyio
import click

from server import logs
from server.settings import PREFIX, Settings, load_settings, unread_settings


def settings_of_command(warn: Callable[[str], None] | None = None, **options: str | None) -> Settings:
    """Load the settings, set up the log unless the command tells its warnings itself, and keep files to the owner.

    `options` of the command line go before the environment, as the setting of the same name.
    """
    os.umask(0o077)
    os.environ.update({f"{PREFIX}{name.upper()}": value for name, value in options.items() if value is not None})
    settings = load_settings()
    if warn is None:
        logs.configure(settings)
        warn = logging.getLogger(PREFIX.strip("_").lower()).warning
    for remark in unread_settings():
        warn(remark)
    return settings


def warn(remark: str) -> None:
    """Tell what is odd in the settings, on standard error."""
    click.echo(f"Warning: {remark}", err=True)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Do the work of a command."""
    anyio.run(work)
