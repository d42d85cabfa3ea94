"""The root field of the installation."""

import strawberry

from schema.access import SIGNED_IN, requires
from schema.context import Info
from schema.server_info import ServerInfo


@strawberry.type
class ServerInfoQuery:
    @strawberry.field(
        description="The version and the features of this installation. Needs valid credentials, but no scope."
    )
    @requires(SIGNED_IN)
    async def server_info(self, info: Info) -> ServerInfo:
        return ServerInfo.of(info.context.gateway.server_info)
