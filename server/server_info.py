"""What the settings let clients know of this installation."""

from functools import cache
from importlib import metadata

from gateway.server_info import IntrospectionAccess, ServerInfo, TrustedDocumentsMode
from server.settings import Settings

DISTRIBUTION = "ollagraph"

_ACCESS = {
    "on": IntrospectionAccess.EVERYBODY,
    "signed-in": IntrospectionAccess.SIGNED_IN,
    "off": IntrospectionAccess.NOBODY,
}


def server_info(settings: Settings) -> ServerInfo:
    """Choose what may be known. A setting that is not named here stays in the server."""
    return ServerInfo(
        version=version(),
        introspection=introspection_access(settings),
        stream_retention=settings.stream_retention,
        text_retention=settings.text_retention,
        shared_stream_log=settings.redis_url is not None,
        automatic_persisted_queries=settings.automatic_persisted_queries and settings.trusted_documents != "only",
        trusted_documents=TrustedDocumentsMode(settings.trusted_documents.upper()),
    )


def introspection_access(settings: Settings) -> IntrospectionAccess:
    """Give who may introspect, and read the schema as a file."""
    return _ACCESS[settings.introspection_mode]


@cache
def version() -> str:
    """Give the version that is installed; "unknown" for sources that were never installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
