"""`ollagraph rotate-secret`: a new secret key, with a time of grace for what the old one signed."""

import click

from server.commands import opened_identity
from server.first_start import replace_secret
from server.settings import Settings, SettingsError, prepare_data_dir


async def rotate(settings: Settings, *, at_once: bool) -> None:
    """Make a new secret and say what that ends. Raises SettingsError where the secret is in the settings."""
    if settings.secret_key is not None:
        raise SettingsError(
            "The secret key is in your settings, where this command cannot change it. Make one (openssl rand -hex 32), "
            "set OLLAGRAPH_SECRET_KEY to it for all gateways, and restart them together: access tokens end then, and "
            "apps refresh their sessions. Key pairs change unnoticed (docs/settings.md, Signing keys)."
        )
    prepare_data_dir(settings)
    async with opened_identity(settings):
        path = replace_secret(settings, keep_former=not at_once)
    click.echo(f"Made a new secret key in {path}. Restart the gateways that use this folder.")
    if at_once:
        click.echo("Then all access tokens are invalid. Sessions stay: apps refresh their tokens.")
    else:
        lifetime = settings.access_token_lifetime
        click.echo(f"Access tokens of the old one are taken until they expire, {lifetime:,} seconds from now at most.")
    click.echo(
        "Sessions, API keys and passwords stay. A rotation of an API key can no longer be repeated for its answer."
    )
