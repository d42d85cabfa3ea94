"""The root fields of the caller and of users."""

import strawberry

from auth.scopes import Scope
from schema.access import PUBLIC, requires
from schema.context import Info
from schema.identity import User, Viewer


@strawberry.type
class UserQuery:
    @strawberry.field(
        description="The caller and the credentials of this request; null for a request without credentials."
    )
    @requires(PUBLIC)
    async def viewer(self, info: Info) -> Viewer | None:
        if info.context.is_nobody:
            return None
        return Viewer.of(info.context.caller)

    @strawberry.field(description="The user who is signed in; null if nobody is.")
    @requires(Scope.PROFILE_READ, null_for_nobody=True)
    async def me(self, info: Info) -> User | None:
        row = await info.context.loaders.users.load(info.context.caller.user_id)
        return None if row is None else User.of(row)
