"""The command line: `ollagraph`, or `python -m server`."""

import gc
from functools import partial
from typing import Any, Literal, cast

import click

from server.administration import ALIASES, NOUNS, fake_model_server
from server.care import CARE_COMMANDS
from server.client import CLIENT_COMMANDS
from server.command_settings import run as _run
from server.command_settings import settings_of_command as _settings
from server.command_settings import warn as _warn
from server.demo import demo_data
from server.limit_commands import limits
from server.prices import prices
from server.settings import SettingsError
from server.usage import usage


class _Commands(click.Group):
    """Tells expected errors in a sentence, and leaves with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if sentence := told(error):
                raise click.ClickException(sentence) from error
            raise


def told(error: Exception) -> str | None:
    """Give the sentence for an error that was to be expected, or for a group of them; None for a bug."""
    sentences = [_sentence(leaf) for leaf in _leaves(error)]
    return sentences[0] if all(sentences) else None


def _leaves(error: Exception) -> list[Exception]:
    """Give the errors in the groups that task groups put around what leaves them."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    group = cast("ExceptionGroup[Exception]", error)
    return [leaf for inner in group.exceptions for leaf in _leaves(inner)]


def _sentence(error: Exception) -> str | None:
    """Give what is told of an expected error; None for a bug, and for what click tells by itself."""
    if isinstance(error, click.ClickException):
        return None
    if isinstance(error, SettingsError):
        return str(error)
    from server.commands import sentence

    return sentence(error)


def _tell_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from server.server_info import DISTRIBUTION, version

        click.echo(f"{DISTRIBUTION} {version()}")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_tell_version, help="Show the version."
)
def main() -> None:
    """Ollagraph: a self-hosted GraphQL gateway in front of language models.

    Settings come from the environment (OLLAGRAPH_...) or a file .env; see docs/settings.md.
    """


@main.command()
@click.option("--workers", metavar="N|auto", help="Processes that serve together, as OLLAGRAPH_WORKERS.")
def serve(workers: str | None) -> None:
    """Start the gateway: set up the database, make the first administrator if there is none, and listen."""
    settings = _settings(workers=workers)
    if settings.workers > 1:
        from server.workers import supervise

        supervise(settings)
        return
    gc.disable()  # until all is loaded, as before in `server.__main__`
    from server.serve import serve as run_server  # what the other commands, and a mistake, need not wait for

    run_server(settings)


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date, without starting the gateway."""
    settings = _settings(_warn)
    from server import commands

    _run(partial(commands.migrate, settings))


@main.command("create-signing-key")
@click.option(
    "--algorithm", type=click.Choice(["EdDSA", "RS256"], case_sensitive=False), default="EdDSA", show_default=True,
    help="EdDSA (Ed25519), or RS256 (RSA, 3072 bits) for readers that know no other.",
)  # fmt: skip
def create_signing_key(algorithm: Literal["EdDSA", "RS256"]) -> None:
    """Make a key that signs access tokens, in the folder OLLAGRAPH_SIGNING_KEYS.

    Running gateways take it without a restart. The file is readable by its owner only.
    """
    settings = _settings(_warn)
    from server import commands

    commands.create_signing_key(settings, algorithm)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(*, as_json: bool) -> None:
    """List what is built in and the plugins that the gateway would start with.

    Each with its name, whether it is a guard, its hooks, and its source.
    """
    settings = _settings(_warn)
    from server.plugins import list_plugins

    list_plugins(settings, as_json=as_json)


@main.command("export-schema")
def export_schema() -> None:
    """Print the GraphQL schema in the schema definition language."""
    from resolvers.root import build_schema

    click.echo(build_schema().as_str())


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what a shell must read to complete commands and options.

    For bash: eval "$(ollagraph completion bash)", in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has those three
    click.echo(kind(main, {}, "ollagraph", "_OLLAGRAPH_COMPLETE").source())


for command in (
    *NOUNS,
    limits,
    prices,
    usage,
    demo_data,
    fake_model_server,
    *CARE_COMMANDS,
    *CLIENT_COMMANDS,
    *ALIASES,
):
    main.add_command(command)
