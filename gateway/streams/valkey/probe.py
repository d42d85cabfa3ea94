"""What a Valkey tells of itself, for people who look after one: its clock, its memory, and whether it takes writes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from gateway.streams.valkey.check import client_for_check
from gateway.streams.valkey.library import redis
from gateway.streams.valkey.node import closed
from gateway.streams.valkey.urls import cluster_url

SMALL_TTL_SECONDS = 10

OLDEST_REDIS = 7


@dataclass(frozen=True, slots=True)
class ValkeyCondition:
    """One server. `trouble` is why it cannot be used; then the rest is not known.

    `refuses_writes` is what it said to a write. `memory_share` is how much of its limit it uses, None without a limit.
    `evicts` is whether it may remove streams by itself when its memory is full.
    """

    place: str
    trouble: str | None = None
    version: str = ""
    is_old: bool = False
    clock_ahead: timedelta = timedelta(0)
    memory_share: float | None = None
    evicts: bool = False
    refuses_writes: str | None = None


async def probe_valkey(url: str) -> list[ValkeyCondition]:
    """Ask the server at a URL, or each that the URL of a cluster names. Raises nothing that they cause."""
    cluster = cluster_url(url)
    if cluster is None:
        return [await _probe(url, clustered=False)]
    return [await _probe(server, clustered=True) for server in cluster.servers]


async def _probe(url: str, *, clustered: bool) -> ValkeyCondition:
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
    client = client_for_check(url)
    try:
        before = time()
        seconds, micros = await client.time()
        clock = seconds + micros / 1e6 - (before + time()) / 2
        info: dict[str, Any] = await client.info()
        most = int(info.get("maxmemory", 0))
        return ValkeyCondition(
            place,
            version=str(info.get("valkey_version") or info.get("redis_version") or "?"),
            is_old=_is_old(str(info.get("redis_version", ""))),
            clock_ahead=timedelta(seconds=clock),
            memory_share=int(info.get("used_memory", 0)) / most if most else None,
            evicts=str(info.get("maxmemory_policy", "noeviction")) != "noeviction",
            refuses_writes=await (_state_of_cluster(client) if clustered else _refusal(client)),
        )
    except (redis.RedisError, OSError, UnicodeError) as error:
        return ValkeyCondition(place, trouble=str(error) or type(error).__name__)
    finally:
        await closed(client)


def _is_old(redis_version: str) -> bool:
    """Tell whether a server is older than what is tested. Valkey of any version tells one of Redis, too: 7.2.4."""
    major = redis_version.partition(".")[0]
    return major.isdecimal() and int(major) < OLDEST_REDIS


async def _refusal(client: Any) -> str | None:
    """Write a key that expires by itself, and give what the server says against it."""
    key = f"ollagraph:doctor:{uuid4()}"
    try:
        await client.set(key, datetime.now(UTC).isoformat(), ex=SMALL_TTL_SECONDS)
        await client.delete(key)
    except redis.RedisError as error:
        return str(error)
    return None


async def _state_of_cluster(client: Any) -> str | None:
    """Ask whether the cluster as a whole takes writes: a key of one's own would belong to one server only."""
    info = await client.execute_command("CLUSTER INFO")
    text = info.decode() if isinstance(info, bytes) else str(info)
    return None if "cluster_state:ok" in text.replace("'", "").replace(" ", "") else "the cluster is not whole"
