"""The commands about model servers and their models. They ask the servers themselves."""

from functools import partial

import click

from server.command_settings import run, settings_of_command, warn


@click.group()
def backends() -> None:
    """Look at the model servers in the settings."""


@backends.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_backends(*, as_json: bool) -> None:
    """List the model servers: name, kind, models, how long they took to answer, their state, and the breaker.

    The breaker is what the gateway tells that runs at the address in the settings.
    """
    settings = settings_of_command(warn)
    from server.administration import listing

    run(partial(listing.list_backends, settings, as_json=as_json))


@click.group()
def models() -> None:
    """Look at the models of the model servers in the settings."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_models(*, as_json: bool) -> None:
    """List the models that the model servers have now."""
    settings = settings_of_command(warn)
    from server.administration import listing

    run(partial(listing.list_models, settings, as_json=as_json))
