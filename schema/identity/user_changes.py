"""What the mutations of users take and give."""

from typing import Annotated, Any
from uuid import UUID

import strawberry

from auth.roles import BuiltInRole
from gateway.identity import UNCHANGED, NewUser, Profile, UserChange
from schema.errors import AccountLocked, Conflict, InvalidInput, NotFound, Overloaded
from schema.identity.password import OneTimeLink
from schema.identity.user import User
from schema.node import parse_uuid

USERNAME = "The name to sign in with: 1 to 64 letters, digits or . _ @ + -, in any case."
ROLE = "The name of the role. It must not allow more than the caller may do."
DISPLAY_NAME = "What people call the user, up to 100 characters."
TIME_ZONE = (
    "The time zone, a name of the IANA database such as Europe/Berlin: that of the user's usage reports, and of the "
    "days and months of limits that have none of their own."
)
EMAIL = "The e-mail address. The gateway sends nothing to it."


def _profile(*fields: Any) -> Profile:
    return Profile(*(UNCHANGED if value is strawberry.UNSET else value for value in fields))


def _role(name: str | None) -> str:
    return BuiltInRole.USER.value if name is None else name


def _groups(ids: list[strawberry.ID]) -> list[UUID]:
    return [parse_uuid(id, "Group", f"groupIds[{place}]") for place, id in enumerate(ids)]


@strawberry.input(description="A user to create.")
class CreateUserInput:
    username: str = strawberry.field(description=USERNAME)
    password: str | None = strawberry.field(
        default=None, description="The password; null to generate one, which the response shows."
    )
    must_change_password: bool | None = strawberry.field(
        default=True, description="Whether the user has to choose a password of their own at the first sign-in."
    )
    role: str | None = strawberry.field(default=BuiltInRole.USER.value, description=ROLE)
    display_name: str | None = strawberry.field(default=None, description=DISPLAY_NAME)
    email: str | None = strawberry.field(default=None, description=EMAIL)
    time_zone: str | None = strawberry.field(default=None, description=f"{TIME_ZONE} Null means UTC.")
    group_ids: list[strawberry.ID] | None = strawberry.field(
        default_factory=list, description="The groups to put the user into."
    )

    def to_user(self) -> NewUser:
        """In the gateway's form. Raises InvalidInput."""
        return NewUser(
            self.username,
            _role(self.role),
            self.password,
            Profile(self.display_name, self.email, self.time_zone),
            _groups(self.group_ids or []),
            self.must_change_password is not False,
        )


@strawberry.type(description="The user was created.")
class CreateUserSuccess:
    user: User = strawberry.field(description="The user.")
    password: str | None = strawberry.field(
        description="The generated password; null if the input gave one. It is shown here only."
    )


CreateUserResult = Annotated[
    CreateUserSuccess | InvalidInput,
    strawberry.union("CreateUserResult", description="The result of `createUser`."),
]


@strawberry.input(description="A user to invite.")
class InviteUserInput:
    username: str = strawberry.field(description=USERNAME)
    role: str | None = strawberry.field(default=BuiltInRole.USER.value, description=ROLE)
    display_name: str | None = strawberry.field(default=None, description=DISPLAY_NAME)
    email: str | None = strawberry.field(default=None, description=EMAIL)
    time_zone: str | None = strawberry.field(default=None, description=f"{TIME_ZONE} Null means UTC.")
    group_ids: list[strawberry.ID] | None = strawberry.field(
        default_factory=list, description="The groups to put the user into."
    )

    def to_user(self) -> NewUser:
        """In the gateway's form. Raises InvalidInput."""
        profile = Profile(self.display_name, self.email, self.time_zone)
        return NewUser(self.username, _role(self.role), None, profile, _groups(self.group_ids or []))


@strawberry.type(description="The user was created without a password, and chooses one with the link.")
class InviteUserSuccess:
    user: User = strawberry.field(description="The user.")
    link: OneTimeLink = strawberry.field(description="The link to give to the user.")


InviteUserResult = Annotated[
    InviteUserSuccess | InvalidInput,
    strawberry.union("InviteUserResult", description="The result of `inviteUser`."),
]


@strawberry.input(description="An account for oneself.")
class RegisterUserInput:
    username: str = strawberry.field(description=USERNAME)
    password: str = strawberry.field(description="The password to sign in with.")
    display_name: str | None = strawberry.field(default=None, description=DISPLAY_NAME)
    email: str | None = strawberry.field(default=None, description=EMAIL)
    time_zone: str | None = strawberry.field(default=None, description=f"{TIME_ZONE} Null means UTC.")

    def to_profile(self) -> Profile:
        """In the gateway's form."""
        return Profile(self.display_name, self.email, self.time_zone)


@strawberry.type(description="The account was created, with the role `user`.")
class RegisterUserSuccess:
    username: str = strawberry.field(description="The user name to sign in with.")


RegisterUserResult = Annotated[
    RegisterUserSuccess | InvalidInput | AccountLocked | Overloaded,
    strawberry.union("RegisterUserResult", description="The result of `registerUser`."),
]


@strawberry.input(description="What to change of a user. What is not given stays as it is.")
class UpdateUserInput:
    id: strawberry.ID = strawberry.field(description="The user's id.")
    role: str | None = strawberry.field(default=None, description=f"{ROLE} Null leaves it.")
    must_change_password: bool | None = strawberry.field(
        default=None, description="Whether the user has to choose a new password next. Null leaves it."
    )
    display_name: str | None = strawberry.field(
        default=strawberry.UNSET, description=f"{DISPLAY_NAME} Null removes it."
    )
    email: str | None = strawberry.field(default=strawberry.UNSET, description=f"{EMAIL} Null removes it.")
    time_zone: str | None = strawberry.field(default=strawberry.UNSET, description=f"{TIME_ZONE} Null means UTC.")

    def to_change(self) -> UserChange:
        """In the gateway's form."""
        return UserChange(self.role, self.must_change_password, _profile(self.display_name, self.email, self.time_zone))


@strawberry.type(description="The user was changed, effective immediately.")
class UpdateUserSuccess:
    user: User = strawberry.field(description="The user as they are now.")


UpdateUserResult = Annotated[
    UpdateUserSuccess | InvalidInput | NotFound | Conflict,
    strawberry.union("UpdateUserResult", description="The result of `updateUser`."),
]


@strawberry.input(description="What to change of the caller. What is not given stays as it is.")
class UpdateProfileInput:
    display_name: str | None = strawberry.field(
        default=strawberry.UNSET, description=f"{DISPLAY_NAME} Null removes it."
    )
    email: str | None = strawberry.field(default=strawberry.UNSET, description=f"{EMAIL} Null removes it.")
    time_zone: str | None = strawberry.field(default=strawberry.UNSET, description=f"{TIME_ZONE} Null means UTC.")

    def to_profile(self) -> Profile:
        """In the gateway's form."""
        return _profile(self.display_name, self.email, self.time_zone)


@strawberry.type(description="The profile was changed.")
class UpdateProfileSuccess:
    user: User = strawberry.field(description="The caller as they are now.")


UpdateProfileResult = Annotated[
    UpdateProfileSuccess | InvalidInput | NotFound,
    strawberry.union("UpdateProfileResult", description="The result of `updateProfile`."),
]


@strawberry.input(description="A user to deactivate.")
class DeactivateUserInput:
    id: strawberry.ID = strawberry.field(description="The user's id.")


@strawberry.type(description="The user can do nothing any more: their sessions and one-time links have ended.")
class DeactivateUserSuccess:
    user: User = strawberry.field(description="The user, with `disabledAt`.")


DeactivateUserResult = Annotated[
    DeactivateUserSuccess | InvalidInput | NotFound | Conflict,
    strawberry.union("DeactivateUserResult", description="The result of `deactivateUser`."),
]


@strawberry.input(description="A user to reactivate.")
class ReactivateUserInput:
    id: strawberry.ID = strawberry.field(description="The user's id.")


@strawberry.type(description="The user can sign in again, and their API keys work again.")
class ReactivateUserSuccess:
    user: User = strawberry.field(description="The user.")


ReactivateUserResult = Annotated[
    ReactivateUserSuccess | InvalidInput | NotFound,
    strawberry.union("ReactivateUserResult", description="The result of `reactivateUser`."),
]


@strawberry.input(description="A user to delete.")
class DeleteUserInput:
    id: strawberry.ID = strawberry.field(description="The user's id.")


@strawberry.type(
    description="The user was deleted: name, profile, keys, sessions, files, prompts and answers are gone. Their usage "
    "stays, under an id without a name."
)
class DeleteUserSuccess:
    user: User = strawberry.field(description="What remains in the user's place.")


DeleteUserResult = Annotated[
    DeleteUserSuccess | InvalidInput | NotFound | Conflict,
    strawberry.union("DeleteUserResult", description="The result of `deleteUser`."),
]
