"""What `login`, `logout`, `whoami` and `token` do."""

import json
import os
import sys
import time
import webbrowser
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import click

from auth.device_codes import read_user_code, shown_user_code
from server.client.addresses import DEFAULT_URL, check_encrypted, gateway_url
from server.client.credentials import CredentialsFile, Tokens
from server.client.errors import ClientError, GatewayRefused, GatewayUnreachable
from server.client.remote import FINISH, LOGOUT, ME, REFRESH, START, Json, RemoteGateway

EARLY = timedelta(seconds=60)
"""How long before its end an access token is exchanged for the next one."""

WAITING = frozenset({"AUTHORIZATION_PENDING", "SLOW_DOWN"})

SESSION_OVER = frozenset({"SESSION_ENDED", "UNAUTHENTICATED"})


def log_in(url: str | None, name: str, *, browser: bool, allow_http: bool) -> None:
    """Sign in with a code, and keep the tokens. An earlier session at the same gateway ends."""
    url, file = gateway_url(url or DEFAULT_URL), CredentialsFile()
    check_encrypted(url, allow_http=allow_http)
    with file.locked():
        file.read()  # where tokens cannot be kept, that is told before anybody approves anything
    with RemoteGateway(url) as gateway:
        device = gateway.ask(START, {"name": name})
        _show(device, browser=browser)
        answer = _approved(gateway, device)
        tokens = _tokens(answer, answer["user"]["username"], allow_http=allow_http)
        with file.locked():
            stored = file.read()
            earlier = stored.gateways.get(url)
            file.write(stored.with_tokens(url, tokens).with_default(url))
        if earlier is not None:
            with suppress(ClientError):  # it ends by itself some day, and is in the list of sessions until then
                _end(gateway, earlier)
    click.echo(f"Signed in as {tokens.username} at {url}. The tokens are in {file.path}.")


def log_out(url: str | None, *, forget: bool) -> None:
    """End the session at the gateway and remove its tokens."""
    file = CredentialsFile()
    with file.locked():
        stored = file.read()
        url = _chosen(url, stored.default)
        tokens = _of(url, stored.gateways)
        try:
            with RemoteGateway(url) as gateway:
                _end(gateway, tokens)
        except ClientError as error:
            if not forget:
                raise ClientError(f"{error.message} The tokens are still here; --forget removes them.") from error
            click.echo(f"Warning: the session at {url} was not ended. {error.message}", err=True)
        file.write(stored.without(url))
    click.echo(f"Signed out at {url}.")


def tell_who(url: str | None, *, as_json: bool) -> None:
    """Print the name and the role of whoever is signed in, as the gateway tells them."""
    url, token = _fresh_token(url)
    with RemoteGateway(url) as gateway:
        me = gateway.ask(ME, token=token)
    if as_json:
        click.echo(json.dumps({"username": me["username"], "role": me["role"], "url": url}, indent=2))
    else:
        click.echo(f"{me['username']} ({me['role']}) at {url}")


def print_token(url: str | None) -> None:
    """Print an access token that holds for a minute at least, and nothing else."""
    click.echo(_fresh_token(url)[1])


def _show(device: Json, *, browser: bool) -> None:
    """Print what the person does now. What came over the network is printed only if it is what it should be."""
    letters = read_user_code(device["userCode"])
    page, complete = device["verificationUri"], device["verificationUriComplete"]
    if letters is None or not _is_page(page) or not _is_page(complete):
        raise ClientError("The gateway's answer makes no sense: no code and no address to approve it at.")
    click.echo(f"Open {page}\nand enter the code {shown_user_code(letters)}\n")
    if browser and _has_browser() and webbrowser.open(complete):
        click.echo("A browser was opened. Approve only if it shows the same code.")
    click.echo("Waiting for you to approve it ... (Ctrl-C to cancel)")


def _is_page(url: object) -> bool:
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return urlsplit(url).scheme in {"http", "https"}


def _has_browser() -> bool:
    """Tell whether a browser would open where the person sits: not over SSH, and not one within the terminal."""
    if "SSH_CONNECTION" in os.environ:
        return False
    graphical = sys.platform in {"win32", "darwin"} or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    return bool(graphical) or "BROWSER" in os.environ


def _approved(gateway: RemoteGateway, device: Json) -> Json:
    """Ask until the person has decided, as often as the gateway allows; longer where it cannot be reached."""
    interval = int(device["intervalMs"]) / 1000
    while True:
        time.sleep(interval)
        try:
            return gateway.ask(FINISH, {"code": device["deviceCode"]})
        except GatewayUnreachable as error:
            if datetime.now(UTC) >= datetime.fromisoformat(device["expiresAt"]):
                raise
            click.echo(f"{error.message} Trying again ...", err=True)
            interval = min(interval * 2, 60)
        except GatewayRefused as error:
            if error.code not in WAITING:
                raise
            interval = max((error.retry_after_ms or 0) / 1000, 1)


def _fresh_token(url: str | None) -> tuple[str, str]:
    """Give a gateway's address and an access token for it; a new one where the old one is about to expire.

    Of several programs that find it so at once, one asks for a new one, and the others find that.
    """
    file = CredentialsFile()
    stored = file.read()
    url = _chosen(url, stored.default)
    if _holds(tokens := _of(url, stored.gateways)):
        return url, tokens.access_token
    with file.locked():
        stored = file.read()
        if _holds(tokens := _of(url, stored.gateways)):
            return url, tokens.access_token
        try:
            with RemoteGateway(url) as gateway:
                tokens = _refreshed(gateway, tokens)
        except GatewayRefused as error:
            if error.code not in SESSION_OVER:
                raise
            file.write(stored.without(url))
            raise ClientError(f"Your session at {url} has ended. Sign in again with `ollagraph login`.") from error
        file.write(stored.with_tokens(url, tokens))
    return url, tokens.access_token


def _end(gateway: RemoteGateway, tokens: Tokens) -> None:
    """End a session; one that has ended before is as good."""
    try:
        if not _holds(tokens):
            tokens = _refreshed(gateway, tokens)
        gateway.ask(LOGOUT, token=tokens.access_token)
    except GatewayRefused as error:
        if error.code not in SESSION_OVER:
            raise


def _refreshed(gateway: RemoteGateway, tokens: Tokens) -> Tokens:
    check_encrypted(gateway.url, allow_http=tokens.allow_http)
    answer = gateway.ask(REFRESH, {"token": tokens.refresh_token})
    return _tokens(answer, tokens.username, allow_http=tokens.allow_http)


def _tokens(answer: Json, username: str, *, allow_http: bool) -> Tokens:
    return Tokens(username, answer["accessToken"], answer["expiresAt"], answer["refreshToken"], allow_http)


def _holds(tokens: Tokens) -> bool:
    return tokens.expiry - EARLY > datetime.now(UTC)


def _chosen(url: str | None, default: str | None) -> str:
    """Give the gateway that is meant. Raises ClientError where there is none."""
    if url is not None:
        return gateway_url(url)
    if default is None:
        raise ClientError("You are not signed in. Sign in with `ollagraph login`.")
    return default


def _of(url: str, gateways: dict[str, Tokens]) -> Tokens:
    tokens = gateways.get(url)
    if tokens is None:
        raise ClientError(f"You are not signed in at {url}. Sign in with `ollagraph login --url {url}`.")
    return tokens
