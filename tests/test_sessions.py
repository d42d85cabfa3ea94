"""Sessions: rotating refresh tokens, their theft, sign-out, and who may see and end which."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select, update
from websockets.exceptions import ConnectionClosed

from auth.refresh_tokens import generate_refresh_token, hash_refresh_token, is_refresh_token, next_refresh_token
from db import queries
from db.clock import now
from db.tables import AuditEvent, RefreshToken, Session, User
from gateway.identity.sessions import KEPT_AFTER_END, RETRY_TIME
from schema.node import global_id, parse_uuid
from server.transports import http
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import ADMIN, PASSWORD, Json, RunningGateway, Socket, gateway_settings, running_gateway

TOKENS = "accessToken expiresAt refreshToken refreshExpiresAt session { id provider client address current expiresAt }"
LOGIN = f"mutation($input: LoginInput!) {{ login(input: $input) {{ ... on LoginSuccess {{ {TOKENS} }} }} }}"
REFRESH = f"""mutation($input: RefreshSessionInput!) {{ refreshSession(input: $input) {{
  ... on RefreshSessionSuccess {{ {TOKENS} }} ... on UserError {{ code message }}
}} }}"""
LOGOUT = """mutation($input: LogoutInput!) { logout(input: $input) {
  ... on LogoutSuccess { signedOut } ... on UserError { code message }
} }"""
REVOKE = """mutation($id: ID!) { revokeSession(input: {id: $id}) {
  ... on RevokeSessionSuccess { session { id revokedAt } } ... on UserError { code }
} }"""
SESSIONS = "{ me { sessions { id current client address lastUsedAt } } }"


@pytest.fixture
def gateway(used_gateway: RunningGateway) -> RunningGateway:
    """A gateway that the tests of this module share; each signs in anew."""
    return used_gateway


async def login(gateway: RunningGateway, username: str = ADMIN, **input: Any) -> Json:
    variables = {"input": {"username": username, "password": PASSWORD, **input}}
    return (await gateway.run(LOGIN, variables))["login"]


async def refresh(gateway: RunningGateway, token: str | None) -> Json:
    body = {"query": REFRESH, "variables": {"input": {"refreshToken": token}}}
    response = await gateway.client.post("/graphql", json=body)
    return response.json()["data"]["refreshSession"]


async def reason(gateway: RunningGateway, token: str) -> str | None:
    """Why an access token is refused; None where it holds."""
    body = {"query": "{ me { id } }"}
    response = await gateway.client.post("/graphql", json=body, headers={"Authorization": f"Bearer {token}"})
    errors = response.json().get("errors")
    return errors[0]["extensions"]["reason"] if errors else None


async def stored(gateway: RunningGateway, session: Json) -> Session:
    async with gateway.database.reading() as reading:
        found = await reading.get(Session, parse_uuid(session["session"]["id"], "Session"))
    assert found is not None
    return found


async def forget_use(gateway: RunningGateway, token: str) -> None:
    """Let the use of a refresh token be too long ago for a retry."""
    async with gateway.database.transaction() as tx:
        used = update(RefreshToken).where(RefreshToken.secret_hash == hash_refresh_token(token))
        await tx.execute(used.values(used_at=now() - RETRY_TIME - timedelta(seconds=1)))


def test_a_next_token_takes_the_token_and_the_nonce() -> None:
    first, nonce = generate_refresh_token(), "0" * 64
    following = next_refresh_token(first, nonce)
    assert is_refresh_token(following)
    assert following == next_refresh_token(first, nonce)
    assert following not in {next_refresh_token(first, "1" * 64), next_refresh_token(generate_refresh_token(), nonce)}


async def test_a_sign_in_begins_a_session_and_a_refresh_carries_it_on(gateway: RunningGateway):
    first = await login(gateway)
    second = await refresh(gateway, first["refreshToken"])
    third = await refresh(gateway, second["refreshToken"])
    assert len({first["refreshToken"], second["refreshToken"], third["refreshToken"]}) == 3
    assert {it["session"]["id"] for it in (first, second, third)} == {first["session"]["id"]}
    assert (first["session"]["provider"], first["session"]["address"]) == ("password", "127.0.0.1")
    assert third["refreshExpiresAt"] > first["refreshExpiresAt"]
    assert await reason(gateway, third["accessToken"]) is None


async def test_no_secret_of_a_session_is_in_the_database(gateway: RunningGateway):
    first = await login(gateway)
    second = await refresh(gateway, first["refreshToken"])
    async with gateway.database.reading() as reading:
        rows = [str(vars(row)) for table in (Session, RefreshToken) for row in await reading.scalars(select(table))]
    secrets = [it[name] for it in (first, second) for name in ("accessToken", "refreshToken")]
    assert not [secret for secret in secrets if secret in " ".join(rows)]


async def test_each_sign_in_begins_a_session_of_its_own_whatever_the_client_sends(gateway: RunningGateway):
    """Session fixation: nobody can prepare a session that somebody else then signs in to."""
    prepared = await login(gateway)
    gateway.token = prepared["accessToken"]
    cookie = f"ollagraph_session={prepared['refreshToken']}"
    variables = {"input": {"username": ADMIN, "password": PASSWORD, "refreshTokenIn": "COOKIE"}}
    response = await gateway.post(LOGIN, variables, Cookie=cookie)
    made = response.json()["data"]["login"]
    assert made["session"]["id"] != prepared["session"]["id"]
    assert prepared["refreshToken"] not in response.headers["set-cookie"]


async def test_a_client_that_lost_the_answer_gets_the_same_next_token(gateway: RunningGateway):
    first = await login(gateway)
    lost, again = [await refresh(gateway, first["refreshToken"]) for _ in range(2)]
    assert again["refreshToken"] == lost["refreshToken"]
    assert "accessToken" in await refresh(gateway, again["refreshToken"])


@pytest.mark.parametrize("late", [True, False], ids=["later", "after the next one was used"])
async def test_a_refresh_token_that_comes_back_ends_the_whole_session(gateway: RunningGateway, late: bool):
    stolen = await login(gateway)
    thief = await refresh(gateway, stolen["refreshToken"])
    if late:
        await forget_use(gateway, stolen["refreshToken"])
    else:
        thief = await refresh(gateway, thief["refreshToken"])
    refused = await refresh(gateway, stolen["refreshToken"])
    assert refused["code"] == "SESSION_ENDED"
    assert "used before" in refused["message"]
    assert (await refresh(gateway, thief["refreshToken"]))["code"] == "SESSION_ENDED"
    assert await reason(gateway, thief["accessToken"]) == "REVOKED_SESSION"
    assert (await stored(gateway, stolen)).revoke_reason == "REUSED"


async def test_a_theft_is_audited_once(gateway: RunningGateway):
    stolen = await login(gateway)
    await refresh(gateway, stolen["refreshToken"])
    await forget_use(gateway, stolen["refreshToken"])
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(refresh, gateway, stolen["refreshToken"])
    session = await stored(gateway, stolen)
    async with gateway.database.reading() as reading:
        events = list(
            await reading.scalars(
                select(AuditEvent).where(AuditEvent.code == "REUSED", AuditEvent.target_id == str(session.id))
            )
        )
    assert [(it.actor, it.action, it.outcome, it.code) for it in events] == [
        (ADMIN, "refreshSession", "REFUSED", "REUSED")
    ]


async def test_a_theft_ends_no_other_session(gateway: RunningGateway):
    other, stolen = await login(gateway), await login(gateway)
    await refresh(gateway, stolen["refreshToken"])
    await forget_use(gateway, stolen["refreshToken"])
    await refresh(gateway, stolen["refreshToken"])
    assert "accessToken" in await refresh(gateway, other["refreshToken"])


async def test_of_fifteen_at_once_all_get_the_same_next_token(
    gateway_on_each_database: RunningGateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.identity.sessions.RETRY_TIME", timedelta(hours=1))  # a busy machine needs longer
    gateway = gateway_on_each_database
    first = await login(gateway)
    answers: list[Json] = []

    async def use() -> None:
        answers.append(await refresh(gateway, first["refreshToken"]))

    async with anyio.create_task_group() as tasks:
        for _ in range(15):
            tasks.start_soon(use)
    [following] = {it["refreshToken"] for it in answers}
    assert len(answers) == 15
    session = await stored(gateway, first)
    async with gateway.database.reading() as reading:
        kept = select(func.count()).where(RefreshToken.session_id == session.id)
        assert await reading.scalar(kept) == 2
    assert "accessToken" in await refresh(gateway, following)


MADE_UP = {"empty": "", "malformed": "olr_" + "a" * 36, "unknown": generate_refresh_token()}


@pytest.mark.parametrize("token", MADE_UP.values(), ids=MADE_UP.keys())
async def test_a_token_that_nobody_was_given_leads_to_nothing(gateway: RunningGateway, token: str):
    assert (await refresh(gateway, token))["code"] == "SESSION_ENDED"


@pytest.mark.parametrize("table", ["session", "user"])
async def test_a_session_does_not_go_on_after_its_end_or_for_a_user_who_is_disabled(
    gateway: RunningGateway, table: str
):
    await gateway.make_user(f"ada-{table}")
    begun = await login(gateway, f"ada-{table}")
    session = await stored(gateway, begun)
    async with gateway.database.transaction() as tx:
        if table == "user":
            await tx.execute(update(User).where(User.id == session.user_id).values(disabled_at=now()))
        else:
            await tx.execute(update(Session).where(Session.id == session.id).values(expires_at=now()))
    assert (await refresh(gateway, begun["refreshToken"]))["code"] == "SESSION_ENDED"
    assert await reason(gateway, begun["accessToken"]) in {"INVALID_TOKEN", "EXPIRED_TOKEN"}


async def test_no_refresh_moves_the_end_of_a_session_beyond_its_lifetime(gateway: RunningGateway):
    begun = await login(gateway)
    session = await stored(gateway, begun)
    lifetime = timedelta(seconds=gateway.settings.session_lifetime)
    async with gateway.database.transaction() as tx:
        old = now() - lifetime + timedelta(hours=1)
        await tx.execute(update(Session).where(Session.id == session.id).values(created_at=old))
    await refresh(gateway, begun["refreshToken"])
    assert (await stored(gateway, begun)).expires_at == old + lifetime


async def test_signing_out_ends_this_session_and_no_other(gateway: RunningGateway):
    other, this = await login(gateway), await login(gateway)
    gateway.token = this["accessToken"]
    assert (await gateway.run(LOGOUT, {"input": {}}))["logout"] == {"signedOut": True}
    assert await reason(gateway, this["accessToken"]) == "REVOKED_SESSION"
    assert (await refresh(gateway, this["refreshToken"]))["code"] == "SESSION_ENDED"
    assert await reason(gateway, other["accessToken"]) is None


async def test_signing_out_everywhere_ends_all_of_the_users_sessions_and_nobody_elses(gateway: RunningGateway):
    await gateway.make_user("everywhere")
    mine = [await login(gateway, "everywhere") for _ in range(3)]
    others = await login(gateway)
    gateway.token = mine[0]["accessToken"]
    await gateway.run(LOGOUT, {"input": {"everywhere": True}})
    assert {await reason(gateway, it["accessToken"]) for it in mine} == {"REVOKED_SESSION"}
    assert await reason(gateway, others["accessToken"]) is None


async def test_an_api_key_has_no_session_to_sign_out_of(gateway: RunningGateway):
    gateway.token = (await gateway.make_key())["secret"]
    assert (await gateway.run(LOGOUT, {"input": {}}))["logout"]["code"] == "UNSUPPORTED"
    assert (await gateway.run("{ viewer { session { id } } }"))["viewer"]["session"] is None


async def test_who_is_signed_in_sees_their_sessions_and_which_one_this_is(gateway: RunningGateway):
    await gateway.make_user("lists")
    first, second = [await login(gateway, "lists") for _ in range(2)]
    gateway.token = second["accessToken"]
    found = (await gateway.run(SESSIONS))["me"]["sessions"]
    assert {it["id"]: it["current"] for it in found} == {first["session"]["id"]: False, second["session"]["id"]: True}
    assert "httpx" in found[0]["client"]
    viewer = (await gateway.run("{ viewer { session { id current } } }"))["viewer"]
    assert viewer["session"] == {"id": second["session"]["id"], "current": True}


async def test_a_session_of_somebody_else_can_neither_be_seen_nor_ended(gateway: RunningGateway):
    """IDOR: the id alone opens nothing, and the answer is that for a session that there is not."""
    victim = await login(gateway)
    await gateway.make_user("eve")
    gateway.token = (await login(gateway, "eve"))["accessToken"]
    id = victim["session"]["id"]
    assert (await gateway.run(REVOKE, {"id": id}))["revokeSession"] == {"code": "NOT_FOUND"}
    nodes = "query($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } }"
    assert await gateway.run(nodes, {"id": id}) == {"node": None, "nodes": [None]}
    assert await reason(gateway, victim["accessToken"]) is None


async def test_an_administrator_sees_and_ends_anybodys(gateway: RunningGateway):
    user = await gateway.make_user("bob")
    bobs = await login(gateway, "bob")
    gateway.token = (await login(gateway))["accessToken"]
    query = "query($id: ID!) { node(id: $id) { ... on User { sessions { id current } } } }"
    node = (await gateway.run(query, {"id": global_id("User", user.id)}))["node"]
    assert node["sessions"] == [{"id": bobs["session"]["id"], "current": False}]
    ended = (await gateway.run(REVOKE, {"id": bobs["session"]["id"]}))["revokeSession"]["session"]
    assert ended["revokedAt"] is not None
    assert await reason(gateway, bobs["accessToken"]) == "REVOKED_SESSION"


async def test_an_answer_that_is_waited_for_over_plain_http_ends_with_its_session(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
):
    """No stream and no socket, but what it asked for runs all the same; and no tokens are spent any more."""
    monkeypatch.setattr(http, "WATCHED_AFTER", 0.05)
    begun = await login(gateway)
    query = 'mutation { generate(input: {model: "fake:hold-3", prompt: {text: "x"}}) { __typename } }'
    answers: list[Json] = []

    async def ask() -> None:
        headers = {"Authorization": f"Bearer {begun['accessToken']}"}
        answers.append((await gateway.client.post("/graphql", json={"query": query}, headers=headers)).json())

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            request = await gateway.fake.request()
            await gateway.run(REVOKE, {"id": begun["session"]["id"]})
        await request.ended.wait()
    (answer,) = answers
    assert (answer["data"], answer["errors"][0]["extensions"]["reason"]) == (None, "REVOKED_SESSION")
    assert request.left


async def test_ending_a_session_twice_keeps_the_first_date(gateway: RunningGateway):
    id = (await login(gateway))["session"]["id"]
    first, second = [(await gateway.run(REVOKE, {"id": id}))["revokeSession"]["session"] for _ in range(2)]
    assert first == second


async def test_a_key_without_the_scope_ends_no_session(gateway: RunningGateway):
    begun = await login(gateway)
    gateway.token = (await gateway.make_key(scopes=["PROFILE_READ"]))["secret"]
    response = (await gateway.post(REVOKE, {"id": begun["session"]["id"]})).json()
    assert response["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_what_is_over_is_removed_after_a_day_with_its_tokens(gateway: RunningGateway):
    over, kept = await login(gateway), await login(gateway)
    session = await stored(gateway, over)
    async with gateway.database.transaction() as tx:
        before = now() - KEPT_AFTER_END
        await tx.execute(update(Session).where(Session.id == session.id).values(expires_at=before))
        await queries.session.purge_sessions(tx, before + timedelta(seconds=1))
        left = {token.session_id for token in await tx.scalars(select(RefreshToken))}
    assert session.id not in left
    assert (await stored(gateway, kept)).id in left
    assert await reason(gateway, over["accessToken"]) == "INVALID_TOKEN"


@on_sqlite
async def test_of_too_many_sessions_the_one_used_longest_ago_ends(
    database_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = gateway_settings(tmp_path, database_url, fake.url, max_sessions_per_user=3)
    async with running_gateway(settings, fake) as gateway:
        await gateway.make_user("ada")
        first, second, third = [await login(gateway, "ada") for _ in range(3)]
        first = await refresh(gateway, first["refreshToken"])
        fourth = await login(gateway, "ada")
        reasons = [await reason(gateway, it["accessToken"]) for it in (first, second, third, fourth)]
        assert reasons == [None, "REVOKED_SESSION", None, None]
        assert (await stored(gateway, second)).revoke_reason == "LIMIT"


GENERATE = "subscription($input: GenerateInput!) { generate(input: $input) { __typename } }"


async def read_on(socket: Socket) -> None:
    with anyio.fail_after(20):
        while True:
            await socket.receive()


async def ended(gateways: Sequence[RunningGateway], begun: Json) -> None:
    """Hold a socket with a stream at the second gateway and revoke the session at the first."""
    one, two = gateways
    one.token = two.token = begun["accessToken"]
    async with two.connect() as socket:
        await socket.subscribe(GENERATE, {"input": {"model": "fake:stall-3", "prompt": {"text": "x"}}})
        await socket.receive()
        await one.run(REVOKE, {"id": begun["session"]["id"]})
        with pytest.raises(ConnectionClosed) as closed:
            await read_on(socket)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "This session was ended. Sign in again.")


@on_postgresql
async def test_a_revoked_session_loses_its_sockets_on_every_replica(
    database_url: str, tmp_path: Path, fake: FakeModelServer
):
    settings = [
        gateway_settings(tmp_path / name, database_url, fake.url, secret_key="s" * 32, identity_max_age=0.1)
        for name in ("one", "two")
    ]
    async with running_gateway(settings[0], fake) as one, running_gateway(settings[1], fake) as two:
        begun = await login(one)
        await ended((one, two), begun)
        assert await reason(two, begun["accessToken"]) == "REVOKED_SESSION"
