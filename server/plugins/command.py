"""The command `plugins`."""

import json
from dataclasses import asdict, dataclass

import click

from gateway.plugins import hooks_of, is_guard
from server.plugins.loading import find_plugins
from server.settings import PREFIX, Settings


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    source: str
    version: str | None
    guard: bool
    hooks: list[str]
    builtIn: bool = False
    enabled: bool = True


def list_plugins(settings: Settings, *, as_json: bool) -> None:
    """Print what is built in and the plugins that would start, in their order. Raises SettingsError."""
    entries = _built_in(settings) + [
        _Entry(it.name, it.source, it.plugin.version or None, is_guard(it.plugin), hooks_of(it.plugin))
        for it in find_plugins(settings)
    ]
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    for it in entries:
        click.echo(
            f"{it.name}\t{'guard' if it.guard else 'no guard'}\t{', '.join(it.hooks) or 'no hooks'}\t{it.source}"
        )


def _built_in(settings: Settings) -> list[_Entry]:
    """Give the gateway's own parts that act when hooks are called. They are told before all plugins."""
    metrics = f"{PREFIX}METRICS_PORT or {PREFIX}METRICS_TOKEN"
    parts: list[tuple[str, list[str], bool, str]] = [
        ("audit", ["on_sign_in"], True, ""),
        ("metrics", ["after_generate", "on_usage"], settings.tells_metrics, metrics),
        ("traces", [], settings.traces, f"{PREFIX}TRACES"),
    ]
    return [
        _Entry(
            name,
            "built in" if enabled else f"built in, off ({switch} switches it on)",
            None,
            guard=False,
            hooks=hooks,
            builtIn=True,
            enabled=enabled,
        )
        for name, hooks, enabled, switch in parts
    ]
