"""Identity while something else changes at the same moment, and what may not be gone around by another way."""

from collections.abc import Awaitable
from functools import partial

import anyio
import pytest
from sqlalchemy import text

from auth.client import UNKNOWN_CLIENT
from auth.password_policy import PasswordPolicy
from auth.passwords import Argon2Cost, PasswordHasher
from db import queries
from db.clock import new_id
from db.engine import Database
from db.tables import Group, User
from gateway.errors import InvalidCredentials, InvalidInput
from gateway.identity import OPERATOR, Accounts, Identity, KnownCallers, NewUser
from schema.node import global_id
from server.first_start import make_identity
from server.signing_keys import SigningKeys
from tests.support.gateways import PASSWORD, GraphQLErrors, RunningGateway
from tests.support.polling import pause
from tests.test_accounts import can_sign_in, make, mutate

CHEAP = Argon2Cost(1, 64, 1)
NEW = "another long phrase"


def accounts_of(database: Database, policy: PasswordPolicy | None = None) -> Accounts:
    return Accounts(database, KnownCallers(database, 0), PasswordHasher(CHEAP, policy))


def identity_of(gateway: RunningGateway) -> Identity:
    return make_identity(gateway.settings, gateway.database, SigningKeys(gateway.settings).keys)


async def limited_manager(gateway: RunningGateway, *scopes: str) -> None:
    """Sign in as somebody who may manage users, and is in a group with some models."""
    role, username = f"r{new_id().hex[-12:]}", f"u{new_id().hex[-12:]}"
    scopes = ("USERS_READ", "USERS_WRITE", "PROFILE_READ", "MODELS_READ", *scopes)
    await mutate(gateway, "createRole", "role", name=role, scopes=scopes)
    group = (await mutate(gateway, "createGroup", "group", name=username, models=["fake:count-*"]))["group"]["id"]
    user_id = await make(gateway, username, role=role)
    await mutate(gateway, "addGroupMembers", "group", groupId=group, userIds=[user_id])
    await gateway.sign_in(username)


async def refused(change: Awaitable[object]) -> str:
    with pytest.raises(GraphQLErrors) as error:
        await change
    return error.value.code


async def test_who_is_limited_to_some_models_gets_at_no_others_by_a_service_account(used_gateway: RunningGateway):
    await limited_manager(used_gateway)
    change = mutate(used_gateway, "createServiceAccount", "user", username="bot", role="read-only")
    assert await refused(change) == "FORBIDDEN"


async def test_who_is_limited_to_some_models_gets_at_no_others_by_somebodys_key(used_gateway: RunningGateway):
    ada = await make(used_gateway, f"u{new_id().hex[-12:]}")
    key = (await used_gateway.make_key(userId=ada, scopes=["MODELS_READ"]))["apiKey"]["id"]
    await limited_manager(used_gateway)
    assert await refused(used_gateway.make_key(userId=ada, scopes=["MODELS_READ"])) == "FORBIDDEN"
    assert await refused(mutate(used_gateway, "rotateApiKey", "secret", id=key)) == "FORBIDDEN"
    assert await refused(mutate(used_gateway, "updateApiKey", "__typename", id=key, models=None)) == "FORBIDDEN"


async def test_a_service_account_is_not_called_like_a_deleted_user(used_gateway: RunningGateway):
    made = await mutate(used_gateway, "createServiceAccount", "user", username=f"deleted-{new_id()}")
    assert made["issues"][0]["path"] == ["username"]


@pytest.mark.parametrize("change", ["deactivate", "set a password"])
async def test_a_sign_in_that_was_overtaken_begins_no_session(used_gateway: RunningGateway, change: str):
    identity, name = identity_of(used_gateway), f"u{new_id().hex[-12:]}"
    looked_up = await identity.accounts.create(name, PASSWORD)
    if change == "deactivate":
        await identity.accounts.deactivate(OPERATOR, looked_up.id)
        await identity.accounts.reactivate(OPERATOR, looked_up.id)
        await identity.accounts.deactivate(OPERATOR, looked_up.id)
    else:
        await identity.passwords.reset(name)
    with pytest.raises(InvalidCredentials):
        await identity.sessions.begin(looked_up, UNKNOWN_CLIENT, "password")


async def test_of_two_who_change_a_password_at_once_one_does(used_gateway: RunningGateway):
    name = f"u{new_id().hex[-12:]}"
    await make(used_gateway, name)
    results: list[str] = []
    tokens = [await used_gateway.sign_in(name), await used_gateway.sign_in(name)]

    async def change(token: str, new: str) -> None:
        query = """mutation($new: String!, $old: String!) {
          changePassword(input: {currentPassword: $old, newPassword: $new}) { __typename } }"""
        body = {"query": query, "variables": {"old": PASSWORD, "new": new}}
        response = await used_gateway.client.post("/graphql", json=body, headers={"Authorization": f"Bearer {token}"})
        found = response.json().get("data") or {}
        results.append(((found.get("changePassword") or {}).get("__typename") == "ChangePasswordSuccess" and new) or "")

    async with anyio.create_task_group() as tasks:
        for token, new in zip(tokens, (NEW, NEW + " of mine"), strict=True):
            tasks.start_soon(change, token, new)
    [won] = filter(None, results)
    assert await can_sign_in(used_gateway, name, won)


async def test_a_stronger_hash_of_the_old_password_does_not_replace_the_new_one(database: Database):
    user = await accounts_of(database).create("ada", PASSWORD)
    async with database.transaction() as tx:
        await queries.user.change(tx, user.id, {"password_hash": "of the new one"})
    async with database.transaction() as tx:
        await queries.identity.replace_hash(tx, user.id, user.password_hash, "a stronger one of the old one")
    async with database.reading() as session:
        found = await session.get(User, user.id)
        assert found is not None
        assert found.password_hash == "of the new one"


async def test_a_password_that_is_made_up_is_one_that_the_policy_takes(sqlite_url: str):
    database = Database(sqlite_url)
    accounts = accounts_of(database, PasswordPolicy(40, frozenset({"upper", "digit"})))
    _, password = await accounts.create_with_password(OPERATOR, NewUser("ada"))
    assert password is not None
    assert len(password) >= 40
    await database.close()


async def test_a_group_that_is_removed_while_a_user_is_made_is_what_is_told(postgresql_url: str):
    database = Database(postgresql_url)
    group = Group(id=new_id(), name="interns")
    async with database.transaction() as tx:
        tx.add(group)
    told: list[InvalidInput] = []

    async def make_member() -> None:
        try:
            await accounts_of(database).add(OPERATOR, NewUser("ada", group_ids=[group.id]))
        except InvalidInput as error:
            told.append(error)

    waits = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with anyio.create_task_group() as tasks:
        async with database.transaction() as tx:
            await queries.group.remove(tx, group.id)
            tasks.start_soon(make_member)
            with anyio.fail_after(60):
                while not await tx.scalar(waits):
                    await pause()
                    await tx.execute(text("SELECT pg_stat_clear_snapshot()"))  # else it sees what it saw first
    assert [issue.field for issue in told[0].issues] == ["groupIds[0]"]
    await database.close()


async def test_a_group_has_one_name_however_it_is_written_in_unicode(used_gateway: RunningGateway):
    assert (await mutate(used_gateway, "createGroup", "group", name="Caf\u00e9"))["__typename"] == "CreateGroupSuccess"
    again = await mutate(used_gateway, "createGroup", "group", name="Cafe\u0301")
    assert again["issues"][0]["path"] == ["name"]


@pytest.mark.parametrize("id", ["x" * 10_000, "9" * 10_000, global_id("x" * 10_000, "key")])
async def test_an_id_of_any_length_is_told_in_a_short_message(used_gateway: RunningGateway, id: str):
    changing = partial(mutate, used_gateway, "deactivateUser", "user")
    assert len((await changing(id=id))["message"]) < 300
