"""What Ollagraph does, without a word of HTTP or GraphQL: the use cases, each in a module of its own."""

from dataclasses import dataclass

from gateway.blobs import Blobs
from gateway.catalog import Catalog
from gateway.generation import Generations
from gateway.identity import Identity
from gateway.limits import LimitAdministration, Limits, LimitStandings, Prices
from gateway.notices import LimitNotices
from gateway.server_info import ServerInfo
from gateway.usage import Usage, UsageFeed


@dataclass(frozen=True, slots=True)
class Gateway:
    """All use cases, as the resolvers get them, and what clients may know of this installation."""

    identity: Identity
    catalog: Catalog
    generations: Generations
    usage: Usage
    usage_feed: UsageFeed
    prices: Prices
    blobs: Blobs
    limits: Limits
    limit_standings: LimitStandings
    limit_administration: LimitAdministration
    limit_notices: LimitNotices
    server_info: ServerInfo
