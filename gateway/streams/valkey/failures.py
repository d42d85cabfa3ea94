"""What can go wrong with Valkey, in our own words: the server's own may hold an address."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache

from gateway.streams.valkey.library import redis

_WORDS = {
    "ACL failure": "its user has not all rights on ollagraph:*",
    "NOREPLICAS": "it has too few replicas",
    "MISCONF": "it cannot save its data to disk",
    "BUSY": "it is busy with a script",
    "WRONGTYPE": "a key holds something else",
}


@cache
def _reasons() -> Mapping[type[Exception], str]:
    exceptions = redis.exceptions
    return {
        exceptions.OutOfMemoryError: "its memory is full",
        exceptions.ReadOnlyError: "it is a read-only replica",
        exceptions.BusyLoadingError: "it is loading its data",
        exceptions.NoPermissionError: "its user has not all rights on ollagraph:*",
        exceptions.AuthenticationError: "it refuses the password",
        exceptions.MasterDownError: "it is a replica without its master",
        exceptions.ClusterDownError: "its cluster is down",
        exceptions.MovedError: "it is a cluster: its URL must begin with redis+cluster://",
        exceptions.AskError: "it is a cluster: its URL must begin with redis+cluster://",
    }


class ValkeyUnavailable(Exception):
    """Valkey does not answer, or not as it should. The message holds no address and no password."""


class NodeUnavailable(ValkeyUnavailable):
    """One server of a cluster does not; that says nothing of the others."""


class Fenced(Exception):
    """Another gateway has a newer right to the stream."""


class StreamDamaged(ValueError):
    """What stands in Valkey was not written for this stream."""


@contextmanager
def reporting() -> Generator[None]:
    """Turn the client's errors into one."""
    try:
        yield
    except (redis.RedisError, OSError, TimeoutError) as error:
        raise unavailable(error) from error


def unavailable(error: Exception, kind: type[ValkeyUnavailable] = ValkeyUnavailable) -> ValkeyUnavailable:
    """Say what is wrong without the server's own words."""
    if isinstance(error, ValkeyUnavailable):
        return error
    reason = next((reason for kind_, reason in _reasons().items() if isinstance(error, kind_)), None)
    reason = reason or next((reason for word, reason in _WORDS.items() if str(error).startswith(word)), None)
    if reason is not None:
        return kind(f"Valkey takes no writes: {reason}.")
    if isinstance(error, redis.ResponseError):
        return kind(f"Valkey refuses what is written ({type(error).__name__}).")
    return kind(f"Valkey does not answer ({type(error).__name__}).")
