"""Service accounts."""

from typing import Annotated

import strawberry

from auth.roles import BuiltInRole
from gateway.identity import NewUser, Profile, UserKind
from schema.errors import InvalidInput
from schema.identity.user import User
from schema.identity.user_changes import TIME_ZONE


@strawberry.input(description="A service account to create.")
class CreateServiceAccountInput:
    username: str = strawberry.field(description="Its name, 1 to 64 characters: letters, digits and some signs.")
    display_name: str | None = strawberry.field(
        default=None, description="A name for people, at most 100 characters; null for none."
    )
    role: str | None = strawberry.field(
        default=BuiltInRole.USER.value,
        description="The role, which limits what its keys may do. It allows no more than you may do.",
    )
    time_zone: str | None = strawberry.field(default=None, description=f"{TIME_ZONE} Null means UTC.")

    def to_user(self) -> NewUser:
        """In the gateway's form."""
        role = BuiltInRole.USER.value if self.role is None else self.role
        profile = Profile(self.display_name, time_zone=self.time_zone)
        return NewUser(self.username, role, profile=profile, kind=UserKind.SERVICE)


@strawberry.type(description="The service account was created.")
class CreateServiceAccountSuccess:
    user: User = strawberry.field(description="The account. Create its keys with `createApiKey(input: {userId: …})`.")


CreateServiceAccountResult = Annotated[
    CreateServiceAccountSuccess | InvalidInput,
    strawberry.union("CreateServiceAccountResult", description="The result of `createServiceAccount`."),
]
