"""The URL of a Valkey, and what it names: one server, or some servers of a cluster.

redis://:password@host:6379/0                          one server; rediss:// with TLS, unix:// for a socket
redis+cluster://:password@host:6379,host:6379          a cluster; rediss+cluster:// with TLS
"""

from dataclasses import dataclass

from gateway.streams.valkey.keys import ClusterKeys, Keys, ServerKeys
from gateway.streams.valkey.node import Node, Servers

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """The servers that a URL names, and what the URLs of all are made from, with `{}` for host and port."""

    servers: tuple[str, ...]
    template: str


def cluster_url(url: str) -> ClusterUrl | None:
    """Read the URL of a cluster; None for the URL of one server."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in CLUSTER_SCHEMES:
        return None
    ends = min((place for place in map(rest.find, "/?#") if place >= 0), default=len(rest))
    user, at, hosts = rest[:ends].rpartition("@")
    template = f"{CLUSTER_SCHEMES[scheme.lower()]}://{user.replace('{}', '%7B%7D')}{at}{{}}{rest[ends:]}"
    return ClusterUrl(tuple(template.replace("{}", host, 1) for host in hosts.split(",")), template)


def servers_at(url: str) -> tuple[Servers, Keys]:
    """Give what a URL names, and how keys are named there. Nothing is asked of it yet."""
    cluster = cluster_url(url)
    if cluster is None:
        return Node(url), ServerKeys()
    from gateway.streams.valkey.cluster import Cluster  # it loads the library

    return Cluster(cluster.servers, cluster.template), ClusterKeys()
