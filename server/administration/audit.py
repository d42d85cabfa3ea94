"""The commands about the audit log."""

from functools import partial

import click

from server.command_settings import run, settings_of_command, warn


@click.command("export-audit")
@click.option("--since", help="From this moment on, such as 2026-01-31T12:00:00Z.")
@click.option("--until", help="Before this moment.")
def export_audit(since: str | None, until: str | None) -> None:
    """Print the audit log as JSON lines, oldest first."""
    settings = settings_of_command(warn)
    from server import commands

    run(partial(commands.export_audit, settings, since, until))


@click.command("list")
@click.option("--first", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--action", "actions", multiple=True, help="Of this action only; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_events(first: int, actions: tuple[str, ...], *, as_json: bool) -> None:
    """List the last events, newest first."""
    settings = settings_of_command(warn)
    from server.administration import listing

    run(partial(listing.list_events, settings, first, actions, as_json=as_json))


@click.group()
def audit() -> None:
    """List and export the audit log."""


audit.add_command(list_events, "list")
audit.add_command(export_audit, "export")
