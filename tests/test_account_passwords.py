"""How people come to a password: invitations, resets, changes, and accounts of their own."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import select, update

from db.clock import now
from db.tables import OneTimeLink, Session, User
from schema.node import global_id
from tests.support.databases import on_sqlite
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import (
    ADMIN,
    PASSWORD,
    GraphQLErrors,
    RunningGateway,
    gateway_settings,
    refused_field,
    running_gateway,
)
from tests.test_accounts import can_sign_in, make, mutate
from tests.test_identity import MAX_FAILURES, shared_strict, strict

__all__ = ["shared_strict", "strict"]

NEW = "another long phrase"


@pytest.fixture
async def open_gateway(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncIterator[RunningGateway]:
    """A gateway at which anybody may register, three from one address."""
    settings = gateway_settings(tmp_path, sqlite_url, fake.url, self_registration=True, login_max_failures=3)
    async with running_gateway(settings, fake) as gateway:
        yield gateway


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


async def set_password(gateway: RunningGateway, token: str, password: str = NEW) -> str:
    gateway.token = None
    return (await mutate(gateway, "setPassword", "username", token=token, password=password))["__typename"]


@on_sqlite
async def test_who_is_invited_chooses_a_password_with_a_link_that_works_once(gateway_on_each_database: RunningGateway):
    gateway = gateway_on_each_database
    invited = await mutate(gateway, "inviteUser", "user link", username="ada")
    token = invited["link"]["token"]
    assert invited["link"]["purpose"] == "INVITATION"
    async with gateway.database.reading() as session:
        assert token not in (await session.scalars(select(OneTimeLink.secret_hash))).all()
    assert not await can_sign_in(gateway, "ada", "!")
    assert await set_password(gateway, token, "short") == "InvalidInput"
    results: list[str] = []

    async def use() -> None:
        results.append(await set_password(gateway, token))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(use)
    assert sorted(results) == [*["InvalidLink"] * 3, "SetPasswordSuccess"]
    assert await can_sign_in(gateway, "ada", NEW)


async def test_a_link_that_has_expired_was_replaced_or_made_up_leads_nowhere(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    first = (await mutate(gateway, "createPasswordReset", "user link", userId=ada))["link"]["token"]
    second = (await mutate(gateway, "createPasswordReset", "user link", userId=ada))["link"]["token"]
    async with gateway.database.transaction() as tx:
        await tx.execute(update(OneTimeLink).values(expires_at=now() - timedelta(seconds=1)))
    for token in (first, second, "made up", "a\0b", ""):
        assert await set_password(gateway, token) == "InvalidLink"
    assert await can_sign_in(gateway, "ada")


async def test_a_reset_ends_the_sessions_of_the_user_and_opens_their_name(strict: RunningGateway):
    ada = await make(strict, "ada")
    async with strict.database.transaction() as tx:
        [user_id] = await tx.scalars(select(User.id).where(User.username == "ada"))
        tx.add(
            Session(user_id=user_id, provider="password", client="", address="", expires_at=now() + timedelta(hours=1))
        )
    token = (await mutate(strict, "createPasswordReset", "user link", userId=ada))["link"]["token"]
    for _ in range(MAX_FAILURES + 1):
        await can_sign_in(strict, "ada", "a wrong password")
    assert await set_password(strict, token) == "SetPasswordSuccess"
    assert await can_sign_in(strict, "ada", NEW)
    async with strict.database.reading() as session:
        ended = select(Session.revoke_reason).where(Session.user_id == user_id)
        assert "PASSWORD_RESET" in (await session.scalars(ended)).all()


async def test_nobody_resets_their_own_password_or_that_of_a_program(gateway: RunningGateway):
    me = (await gateway.run("{ me { id } }"))["me"]["id"]
    assert (await mutate(gateway, "createPasswordReset", "user", userId=me))["__typename"] == "InvalidInput"
    async with gateway.database.transaction() as tx:
        tx.add(user := User(username="robot", password_hash="!", kind="SERVICE", created_at=now()))
    refused = await mutate(gateway, "createPasswordReset", "user", userId=global_id("User", user.id))
    assert "service accounts" in refused["message"]


async def test_a_changed_password_takes_the_place_of_the_old_one(own_gateway: RunningGateway):
    same = await mutate(own_gateway, "changePassword", "user", currentPassword=PASSWORD, newPassword=PASSWORD)
    assert same["issues"][0]["path"] == ["newPassword"]
    changed = await mutate(own_gateway, "changePassword", "user", currentPassword=PASSWORD, newPassword=NEW)
    assert changed["user"]["username"] == ADMIN
    assert not await can_sign_in(own_gateway, ADMIN)
    assert await can_sign_in(own_gateway, ADMIN, NEW)


async def test_a_changed_password_ends_other_sessions_and_links(own_gateway: RunningGateway):
    async with own_gateway.database.transaction() as tx:
        [user_id] = await tx.scalars(select(User.id).where(User.username == ADMIN))
        tx.add(Session(user_id=user_id, provider="x", client="", address="", expires_at=now() + timedelta(hours=1)))
        tx.add(OneTimeLink(secret_hash="x", user_id=user_id, purpose="RESET", expires_at=now() + timedelta(hours=1)))
    await mutate(own_gateway, "changePassword", "user", currentPassword=PASSWORD, newPassword=NEW)
    async with own_gateway.database.reading() as session:
        other = select(Session.revoke_reason).where(Session.provider == "x")
        assert list(await session.scalars(other)) == ["PASSWORD_CHANGED"]
        assert list(await session.scalars(select(OneTimeLink))) == []


async def test_a_stolen_session_cannot_guess_the_password(strict: RunningGateway):
    kinds = [
        (await mutate(strict, "changePassword", "user", currentPassword="a wrong one", newPassword=NEW))["__typename"]
        for _ in range(MAX_FAILURES + 1)
    ]
    assert kinds == ["InvalidCredentials"] * MAX_FAILURES + ["AccountLocked"]
    right = await mutate(strict, "changePassword", "user", currentPassword=PASSWORD, newPassword=NEW)
    assert right["__typename"] == "AccountLocked"


async def test_nobody_registers_unless_that_is_allowed(gateway: RunningGateway):
    gateway.token = None
    with pytest.raises(GraphQLErrors, match="OLLAGRAPH_SELF_REGISTRATION") as refused:
        await mutate(gateway, "registerUser", "username", username="eve", password=NEW)
    assert refused.value.code == "FORBIDDEN"


async def test_who_registers_has_the_least_role_and_is_counted_by_address(open_gateway: RunningGateway):
    open_gateway.token = None
    for name in ("ann", "bea", "cat"):
        made = await mutate(open_gateway, "registerUser", "username", username=name, password=NEW)
        assert made.get("username") == name
    taken = await mutate(open_gateway, "registerUser", "username", username="ANN", password=NEW)
    assert taken["issues"][0]["path"] == ["username"]
    refused = await mutate(open_gateway, "registerUser", "username", username="dea", password=NEW)
    assert refused["__typename"] == "AccountLocked"
    assert await can_sign_in(open_gateway, "ann", NEW)
    assert (await open_gateway.run("{ me { role } }"))["me"] == {"role": "user"}


async def test_who_registers_says_by_which_clock_they_live(open_gateway: RunningGateway):
    open_gateway.token = None
    wrong = await mutate(
        open_gateway, "registerUser", "username", username="eve", password=NEW, timeZone="Mars/Olympus"
    )
    assert refused_field(wrong) == "timeZone"
    await mutate(open_gateway, "registerUser", "username", username="eve", password=NEW, timeZone="Asia/Kathmandu")
    assert await can_sign_in(open_gateway, "eve", NEW)
    assert (await open_gateway.run("{ me { timeZone } }"))["me"] == {"timeZone": "Asia/Kathmandu"}


async def test_an_operation_guesses_once(gateway: RunningGateway):
    one = '{name}: setPassword(input: {token: "x", password: "another long phrase"}) { __typename }'
    response = (await gateway.post("mutation {" + " ".join(one.replace("{name}", name) for name in "ab") + "}")).json()
    assert response["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
