"""The commands of people who use a gateway: `login`, `logout`, `whoami`, `token`. They read none of its settings."""

from platform import node

import click

URL_HELP = "The gateway's address. Default: OLLAGRAPH_URL, or where you signed in last."


@click.command()
@click.option("--url", envvar="OLLAGRAPH_URL", help="The gateway's address. Default: http://127.0.0.1:8000")
@click.option("--name", help="What to call this program in the list of your sessions. Default: the machine's name.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@click.option("--allow-http", is_flag=True, help="Send tokens to another machine without encryption.")
@click.pass_context
def login(context: click.Context, url: str | None, name: str | None, *, no_browser: bool, allow_http: bool) -> None:
    """Sign in at a gateway: shows a code, which you approve in a browser. No password is typed here.

    The tokens are kept in your configuration folder, readable by you only.
    """
    from server.client.commands import log_in

    try:
        log_in(url, name or f"ollagraph on {node() or 'a machine'}", browser=not no_browser, allow_http=allow_http)
    except KeyboardInterrupt:
        click.echo("\nCancelled. The code expires by itself.", err=True)
        context.exit(130)


@click.command()
@click.option("--url", envvar="OLLAGRAPH_URL", help=URL_HELP)
@click.option("--forget", is_flag=True, help="Remove the tokens here even if the gateway cannot end the session.")
def logout(url: str | None, *, forget: bool) -> None:
    """End the session at the gateway, and remove its tokens."""
    from server.client.commands import log_out

    log_out(url, forget=forget)


@click.command()
@click.option("--url", envvar="OLLAGRAPH_URL", help=URL_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def whoami(url: str | None, *, as_json: bool) -> None:
    """Tell as whom you are signed in, and where."""
    from server.client.commands import tell_who

    tell_who(url, as_json=as_json)


@click.command()
@click.option("--url", envvar="OLLAGRAPH_URL", help=URL_HELP)
def token(url: str | None) -> None:
    """Print an access token that is valid for a minute at least, for `Authorization: Bearer`."""
    from server.client.commands import print_token

    print_token(url)


CLIENT_COMMANDS = (login, logout, whoami, token)
"""In the order of docs/cli.md."""
