"""The root fields of the caller and of users."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from resolvers.identity.costs import HASHES_A_PASSWORD
from schema.access import PUBLIC, requires
from schema.context import Info
from schema.cost import page_of
from schema.identity import (
    USER_CURSOR,
    CreateUserInput,
    CreateUserResult,
    CreateUserSuccess,
    DeactivateUserInput,
    DeactivateUserResult,
    DeactivateUserSuccess,
    DeleteUserInput,
    DeleteUserResult,
    DeleteUserSuccess,
    InviteUserInput,
    InviteUserResult,
    InviteUserSuccess,
    OneTimeLink,
    ReactivateUserInput,
    ReactivateUserResult,
    ReactivateUserSuccess,
    RegisterUserInput,
    RegisterUserResult,
    RegisterUserSuccess,
    UpdateProfileInput,
    UpdateProfileResult,
    UpdateProfileSuccess,
    UpdateUserInput,
    UpdateUserResult,
    UpdateUserSuccess,
    User,
    UserConnection,
    UserFilterInput,
    Viewer,
)
from schema.node import DEFAULT_PAGE, MAX_PAGE, page_size, parse_cursor, parse_uuid


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

    @strawberry.field(
        description="One user; null if there is none with this id, or the caller may not see them. Seeing others needs "
        "USERS_READ, too."
    )
    @requires(Scope.PROFILE_READ)
    async def user(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The user's id.")]
    ) -> User | None:
        row = await info.context.loaders.visible_users.load(parse_uuid(id, "User"))
        return None if row is None else User.of(row)

    @strawberry.field(
        description="All users, by user name. Deleted users are not listed.", directives=[page_of(DEFAULT_PAGE)]
    )
    @requires(Scope.USERS_READ)
    async def users(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description=f"How many, 1 to {MAX_PAGE}; null means {DEFAULT_PAGE}.")
        ] = DEFAULT_PAGE,
        after: Annotated[str | None, strawberry.argument(description="A cursor, to get the users after it.")] = None,
        filter: Annotated[
            UserFilterInput | None, strawberry.argument(description="Which users to list; null for all.")
        ] = None,
    ) -> UserConnection | None:
        size = page_size(first, DEFAULT_PAGE)
        name = None if after is None else parse_cursor(after, USER_CURSOR)
        wanted = (filter or UserFilterInput()).to_filter()
        rows, has_more = await info.context.gateway.identity.accounts.page(wanted, size, name)
        return UserConnection.of(rows, has_more=has_more, after=after)


@strawberry.type
class UserMutation:
    @strawberry.mutation(
        description="Create a user, with the given password or a generated one.", directives=[HASHES_A_PASSWORD]
    )
    @requires(Scope.USERS_WRITE)
    async def create_user(
        self, info: Info, input: Annotated[CreateUserInput, strawberry.argument(description="The user to create.")]
    ) -> CreateUserResult | None:
        user, password = await info.context.gateway.identity.accounts.create_with_password(
            info.context.caller, input.to_user()
        )
        return CreateUserSuccess(user=User.of(user), password=password)

    @strawberry.mutation(
        description="Create a user who chooses a password with a one-time link. The gateway sends no e-mail: give the "
        "link to them."
    )
    @requires(Scope.USERS_WRITE)
    async def invite_user(
        self, info: Info, input: Annotated[InviteUserInput, strawberry.argument(description="The user to invite.")]
    ) -> InviteUserResult | None:
        user, link = await info.context.gateway.identity.passwords.invite(info.context.caller, input.to_user())
        return InviteUserSuccess(user=User.of(user), link=OneTimeLink.of(link))

    @strawberry.mutation(
        description="Create an account for oneself, with the role `user`. Needs no credentials, and that the operator "
        "allows it (OLLAGRAPH_SELF_REGISTRATION).",
        directives=[HASHES_A_PASSWORD],
    )
    @requires(PUBLIC)
    async def register_user(
        self, info: Info, input: Annotated[RegisterUserInput, strawberry.argument(description="The account.")]
    ) -> RegisterUserResult | None:
        user = await info.context.gateway.identity.registration.register(
            input.username, input.password, input.to_profile(), info.context.client
        )
        return RegisterUserSuccess(username=user.username)

    @strawberry.mutation(
        description="Change a user. Nobody can change a user who may do more than they, or give such a role."
    )
    @requires(Scope.USERS_WRITE)
    async def update_user(
        self, info: Info, input: Annotated[UpdateUserInput, strawberry.argument(description="What to change.")]
    ) -> UpdateUserResult | None:
        user_id = parse_uuid(input.id, "User")
        user = await info.context.gateway.identity.accounts.update(info.context.caller, user_id, input.to_change())
        return UpdateUserSuccess(user=User.of(user))

    @strawberry.mutation(description="Change the caller's own profile.")
    @requires(Scope.PROFILE_WRITE)
    async def update_profile(
        self, info: Info, input: Annotated[UpdateProfileInput, strawberry.argument(description="What to change.")]
    ) -> UpdateProfileResult | None:
        user = await info.context.gateway.identity.accounts.update_profile(info.context.caller, input.to_profile())
        return UpdateProfileSuccess(user=User.of(user))

    @strawberry.mutation(
        description="Let a user do nothing any more, effective immediately. Their API keys do not work until the user "
        "is reactivated. A user who is deactivated already stays as they are."
    )
    @requires(Scope.USERS_WRITE)
    async def deactivate_user(
        self,
        info: Info,
        input: Annotated[DeactivateUserInput, strawberry.argument(description="The user to deactivate.")],
    ) -> DeactivateUserResult | None:
        user_id = parse_uuid(input.id, "User")
        row = await info.context.gateway.identity.accounts.deactivate(info.context.caller, user_id)
        return DeactivateUserSuccess(user=User.of(row))

    @strawberry.mutation(description="Let a user who was deactivated come back.")
    @requires(Scope.USERS_WRITE)
    async def reactivate_user(
        self,
        info: Info,
        input: Annotated[ReactivateUserInput, strawberry.argument(description="The user to reactivate.")],
    ) -> ReactivateUserResult | None:
        user_id = parse_uuid(input.id, "User")
        row = await info.context.gateway.identity.accounts.reactivate(info.context.caller, user_id)
        return ReactivateUserSuccess(user=User.of(row))

    @strawberry.mutation(
        description="Delete a user for good: name, profile, keys, sessions, files, prompts and answers. What they used "
        "stays in all reports, under an id without a name. Running generations of theirs are cancelled."
    )
    @requires(Scope.USERS_WRITE)
    async def delete_user(
        self, info: Info, input: Annotated[DeleteUserInput, strawberry.argument(description="The user to delete.")]
    ) -> DeleteUserResult | None:
        user_id = parse_uuid(input.id, "User")
        row = await info.context.gateway.identity.accounts.delete(info.context.caller, user_id)
        return DeleteUserSuccess(user=User.of(row))
