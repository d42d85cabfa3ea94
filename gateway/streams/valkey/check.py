"""Whether a Valkey can be used at all, asked once at the start: what is wrong with its URL does not repair itself."""

from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from gateway.streams.valkey.library import redis
from gateway.streams.valkey.node import closed
from gateway.streams.valkey.urls import cluster_url

CONNECT_SECONDS = 2.0
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


class UnusableValkey(Exception):
    """The URL cannot be used, or what is at it refuses us. The message holds no address and no password."""


def check_url(url: str) -> None:
    """Look at all that the client looks at when it connects, and at what it would overlook. Raises UnusableValkey."""
    cluster = cluster_url(url)
    if cluster is None:
        _check_server_url(url)
        return
    for server in cluster.servers:
        parts = urlsplit(server)
        if not parts.hostname:
            raise UnusableValkey("must name servers of the cluster, as in redis+cluster://host:6379,host:6379")
        _check_server_url(server)
        if parts.path.strip("/") not in {"", "0"} or "db" in parse_qs(parts.query):
            raise UnusableValkey("must name no database: a cluster has but one")


def _check_server_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        path = unquote(parts.path).strip("/")
        options = parse_qs(parts.query, keep_blank_values=True)
        _ = parts.port
    except ValueError:
        raise UnusableValkey("cannot be read") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise UnusableValkey("must begin with redis://, rediss:// or unix://, or with redis+cluster:// for a cluster")
    unknown = [name for name in options if name != "db" and not name.startswith("ssl_")]
    if unknown:
        raise UnusableValkey("takes no options but db, and those of TLS, such as ssl_ca_certs, with rediss://")
    number = (options.get("db") or [path if parts.scheme != "unix" else ""])[0]
    if number and not (number.isascii() and number.isdecimal()):
        raise UnusableValkey("must end with the number of a database, such as /0")
    if parts.scheme == "unix" and not path:
        raise UnusableValkey("must name the path of a socket, as in unix:///run/valkey.sock")
    try:
        client_for_check(url).connection_pool.make_connection()
        missing = [name for name in _FILES if name in options and not Path(options[name][0]).exists()]
    except (TypeError, ValueError, AttributeError, redis.RedisError):
        raise UnusableValkey("has an option that cannot be used") from None
    if missing:
        raise UnusableValkey(f"names a file that is not there, in {missing[0]}")


async def check_valkey(url: str) -> None:
    """Ask it for a sign of life. One that cannot be reached may come back; one that refuses raises UnusableValkey.

    Of a cluster each server that the URL names is asked.
    """
    check_url(url)
    cluster = cluster_url(url)
    for server in [url] if cluster is None else cluster.servers:
        await _check_server(server, clustered=cluster is not None)


async def _check_server(url: str, *, clustered: bool) -> None:
    client = client_for_check(url)
    try:
        await client.ping()
        await _check_mode(client, clustered=clustered)
    except redis.AuthenticationError:
        raise UnusableValkey("names a server that refuses its password or user") from None
    except redis.exceptions.NoPermissionError:
        raise UnusableValkey("names a user who may not do anything there") from None
    except redis.InvalidResponse:
        raise UnusableValkey("names a server that is no Valkey") from None
    except redis.ResponseError as error:
        if "DB index" in str(error):
            raise UnusableValkey("names a database that the server has not: see its setting `databases`") from None
    except UnicodeError:
        raise UnusableValkey("names a host that is none") from None
    except (redis.RedisError, OSError):
        pass
    finally:
        await closed(client)


async def _check_mode(client: Any, *, clustered: bool) -> None:
    """Compare the form of the URL with what the server is; a user who may not ask for that is believed."""
    try:
        enabled = (await client.info("cluster")).get("cluster_enabled") == 1
    except redis.ResponseError:
        return
    if enabled and not clustered:
        raise UnusableValkey("names a server of a cluster: let it begin with redis+cluster:// or rediss+cluster://")
    if clustered and not enabled:
        raise UnusableValkey("names a server that is no part of a cluster: let it begin with redis:// or rediss://")


def client_for_check(url: str) -> Any:
    """Make a client that asks once and waits for two seconds at most."""
    client = redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - half typed
        url,
        socket_timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
    )
    return cast("Any", client)
