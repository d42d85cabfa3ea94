"""The command that serves fake models. What it does is in `server.fake_model_server`, which loads slowly."""

from functools import partial

import click

from server.command_settings import run

_SHARE = click.FloatRange(0, 1)


@click.command("fake-model-server")
@click.option("--port", type=click.IntRange(0, 65_535), default=11_434, show_default=True, help="0 takes a free one.")
@click.option(
    "--models", multiple=True, metavar="NAME[=MODEL],...", help="What to list. Default: five of the fake ones."
)
@click.option("--delay", type=click.FloatRange(min=0), default=0, help="Milliseconds before each token.")
@click.option("--error-rate", type=_SHARE, default=0, help="Share of the answers that are an error, from 0 to 1.")
@click.option("--cut", type=_SHARE, default=0, help="Share of the answers that are cut off, from 0 to 1.")
@click.option("--seed", type=int, help="The same seed gives the same faults.")
def fake_model_server(
    port: int, models: tuple[str, ...], delay: float, error_rate: float, cut: float, seed: int | None
) -> None:
    """Serve models that need no hardware, and fail when asked to: for developers of apps.

    Speaks Ollama and OpenAI on 127.0.0.1. A model's name says what it does.
    """
    from server.fake_model_server import Faults, read_models, serve_fake_models

    faults = Faults(delay_ms=delay, error_rate=error_rate, cut=cut, seed=seed)
    try:
        wanted = read_models(models)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--models") from error
    run(partial(serve_fake_models, port, wanted, faults))
