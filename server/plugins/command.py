"""The command `plugins`."""

import json

import click

from gateway.plugins import hooks_of, is_guard
from server.plugins.loading import FoundPlugin, find_plugins
from server.settings import Settings


def list_plugins(settings: Settings, *, as_json: bool) -> None:
    """Print the plugins that the gateway would start with, in their order. Raises SettingsError."""
    found = find_plugins(settings)
    if as_json:
        click.echo(json.dumps([_as_json(plugin) for plugin in found], indent=2))
        return
    for plugin in found:
        guard = "guard" if is_guard(plugin.plugin) else "no guard"
        click.echo(f"{plugin.name}\t{guard}\t{', '.join(hooks_of(plugin.plugin)) or 'no hooks'}\t{plugin.source}")


def _as_json(found: FoundPlugin) -> dict[str, object]:
    return {
        "name": found.name,
        "source": found.source,
        "version": found.plugin.version or None,
        "guard": is_guard(found.plugin),
        "hooks": hooks_of(found.plugin),
    }
