"""Devices that sign in with a code (RFC 8628): who approves what, once, in time, and what guesses and haste cost."""

import re
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import func, select, update

from auth.device_codes import generate_device_code, generate_user_code, is_device_code, read_user_code
from db import queries
from db.clock import now
from db.tables import AuditEvent, DeviceCode, Session, User
from gateway.identity.devices.sign_ins import LONGEST_INTERVAL, POLL_INTERVAL
from tests.support.gateways import ADMIN, GraphQLErrors, Json, RunningGateway

START = """mutation($name: String) { startDeviceSignIn(input: {clientName: $name}) {
  ... on StartDeviceSignInSuccess {
    deviceCode userCode verificationUri verificationUriComplete expiresAt intervalMs
  }
  ... on UserError { code message } ... on AccountLocked { retryAfterMs }
} }"""
POLL = """mutation($code: String!) { deviceSignIn(input: {deviceCode: $code}) { __typename
  ... on DeviceSignInSuccess { accessToken refreshToken user { username } session { id client provider address } }
  ... on UserError { code message }
  ... on DeviceSignInPending { retryAfterMs } ... on DeviceSignInTooFast { retryAfterMs }
} }"""
REQUEST = """query($code: String!) { deviceSignInRequest(userCode: $code) {
  ... on DeviceSignInRequestSuccess { request { userCode clientName address requestedAt expiresAt } }
  ... on UserError { code message }
} }"""
DECIDE = """mutation($code: String!) { %s(input: {userCode: $code}) { __typename
  ... on UserError { code message }
} }"""


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    return emptied_gateway


async def ask(gateway: RunningGateway, query: str, signed: bool = False, **variables: Any) -> Json:
    """The value of the one root field, asked by the person, or by a device that has no credentials."""
    headers = gateway.headers() if signed else {}
    body = {"query": query, "variables": variables}
    response = (await gateway.client.post("/graphql", json=body, headers=headers)).json()
    if "errors" in response:
        raise GraphQLErrors(response["errors"])
    return next(iter(response["data"].values()))


async def start(gateway: RunningGateway, name: str | None = "a laptop") -> Json:
    return await ask(gateway, START, name=name)


async def poll(gateway: RunningGateway, device: Json) -> Json:
    return await ask(gateway, POLL, code=device["deviceCode"])


async def approve(gateway: RunningGateway, device: Json) -> Json:
    return await ask(gateway, DECIDE % "approveDevice", signed=True, code=device["userCode"])


async def deny(gateway: RunningGateway, device: Json) -> Json:
    return await ask(gateway, DECIDE % "denyDevice", signed=True, code=device["userCode"])


async def change(gateway: RunningGateway, **columns: Any) -> None:
    """Change all devices, as time does."""
    async with gateway.database.transaction() as tx:
        await tx.execute(update(DeviceCode).values(**columns))


async def sessions(gateway: RunningGateway, client: str = "a laptop") -> int:
    async with gateway.database.reading() as reading:
        return await reading.scalar(select(func.count()).where(Session.client == client)) or 0


def test_a_code_is_read_as_people_type_it():
    code = generate_user_code()
    assert re.fullmatch("[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", code)
    typed = {code, code.lower(), code.replace("-", ""), f" {code[:4]} {code[5:]} ", code.replace("-", "\N{EN DASH}")}
    assert {read_user_code(it) for it in typed} == {code.replace("-", "")}
    assert [read_user_code(it) for it in ("", "WDJB-MJH", "WDJB-MJHTX", "ADJB-MJHT", "WDJB-MJH\u0130")] == [None] * 5


async def test_a_device_that_was_approved_gets_a_session_of_the_person_once(gateway: RunningGateway):
    device = await start(gateway)
    assert is_device_code(device["deviceCode"])
    assert device["verificationUri"] == f"{gateway.url}/#device"
    assert device["verificationUriComplete"] == f"{gateway.url}/#device={device['userCode']}"
    assert (await poll(gateway, device))["code"] == "AUTHORIZATION_PENDING"
    await change(gateway, polled_at=None)
    seen = (await ask(gateway, REQUEST, signed=True, code=device["userCode"].lower().replace("-", "")))["request"]
    assert (seen["userCode"], seen["clientName"], seen["address"]) == (device["userCode"], "a laptop", "127.0.0.1")
    assert (await approve(gateway, device))["__typename"] == "ApproveDeviceSuccess"
    signed_in = await poll(gateway, device)
    assert (signed_in["user"]["username"], signed_in["session"]["client"]) == (ADMIN, "a laptop")
    assert signed_in["session"]["provider"] == "device"
    await change(gateway, polled_at=None)
    assert (await poll(gateway, device))["code"] == "DEVICE_CODE_EXPIRED"
    assert (await approve(gateway, device))["code"] == "INVALID_INPUT"
    gateway.token = signed_in["accessToken"]
    assert (await gateway.run("{ me { username } }"))["me"]["username"] == ADMIN


async def test_of_polls_at_once_after_the_approval_one_gets_a_session(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    device = await start(gateway)
    await approve(gateway, device)
    answers: list[Json] = []

    async def one() -> None:
        answers.append(await poll(gateway, device))

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(one)
    assert sum("accessToken" in answer for answer in answers) == 1
    assert {answer.get("code") for answer in answers} <= {None, "SLOW_DOWN", "DEVICE_CODE_EXPIRED"}
    assert await sessions(gateway) == 1


async def test_an_approval_is_used_up_once_even_where_no_poll_is_too_early(
    emptied_gateway_on_each_database: RunningGateway,
):
    """What keeps it one is the statement, and not the interval."""
    gateway = emptied_gateway_on_each_database
    device = await start(gateway)
    await approve(gateway, device)
    async with gateway.database.reading() as reading:
        row = (await reading.scalars(select(DeviceCode))).one()
    used: list[bool] = []

    async def one() -> None:
        async with gateway.database.transaction() as tx:
            used.append(await queries.device.use(tx, row.id, now()))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(one)
    assert sorted(used) == [False] * 7 + [True]


async def test_a_device_that_was_denied_is_told_so_for_good(gateway: RunningGateway):
    device = await start(gateway)
    assert (await deny(gateway, device))["__typename"] == "DenyDeviceSuccess"
    assert [(await poll(gateway, device))["code"] for _ in range(2)] == ["ACCESS_DENIED"] * 2
    assert (await approve(gateway, device))["code"] == "INVALID_INPUT"


@pytest.mark.parametrize("approved", [True, False])
async def test_a_code_whose_time_is_over_is_worth_nothing(gateway: RunningGateway, approved: bool):
    device = await start(gateway)
    if approved:
        await approve(gateway, device)
    await change(gateway, expires_at=now() - timedelta(seconds=1))
    assert (await poll(gateway, device))["code"] == "DEVICE_CODE_EXPIRED"
    assert (await approve(gateway, device))["code"] == "INVALID_INPUT"
    async with gateway.database.transaction() as tx:
        await queries.device.purge(tx, now())
    assert (await poll(gateway, device))["code"] == "DEVICE_CODE_EXPIRED"


async def test_who_polls_too_fast_waits_longer_each_time_up_to_a_minute(gateway: RunningGateway):
    device = await start(gateway)
    first = await poll(gateway, device)
    waits = [(await poll(gateway, device)) for _ in range(LONGEST_INTERVAL // POLL_INTERVAL + 2)]
    assert (first["code"], first["retryAfterMs"]) == ("AUTHORIZATION_PENDING", POLL_INTERVAL * 1000)
    assert {it["code"] for it in waits} == {"SLOW_DOWN"}
    assert 5_000 < waits[0]["retryAfterMs"] <= 10_000
    assert 50_000 < waits[-1]["retryAfterMs"] <= LONGEST_INTERVAL * 1000
    await change(gateway, polled_at=now() - timedelta(seconds=POLL_INTERVAL + 1))
    assert (await poll(gateway, device))["code"] == "SLOW_DOWN"
    await approve(gateway, device)
    await change(gateway, polled_at=now() - timedelta(seconds=LONGEST_INTERVAL + 1))
    assert "accessToken" in await poll(gateway, device)


async def test_made_up_codes_of_devices_lead_to_nothing(gateway: RunningGateway):
    made_up = [generate_device_code(), "", "old_x", "\0", "WDJB-MJHT"]
    assert {(await ask(gateway, POLL, code=it))["code"] for it in made_up} == {"DEVICE_CODE_EXPIRED"}


async def test_wrong_codes_are_counted_and_the_right_one_comes_too_late_then(gateway: RunningGateway):
    device, allowed = await start(gateway), gateway.settings.login_max_failures
    for _ in range(allowed - 1):
        assert (await ask(gateway, REQUEST, signed=True, code=generate_user_code()))["code"] == "INVALID_INPUT"
    for _ in range(3):
        assert "request" in await ask(gateway, REQUEST, signed=True, code=device["userCode"])
    assert (await ask(gateway, DECIDE % "denyDevice", signed=True, code=generate_user_code()))[
        "code"
    ] == "INVALID_INPUT"
    refused = await approve(gateway, device)
    assert (refused["code"], "wrong codes" in refused["message"]) == ("ACCOUNT_LOCKED", True)
    await gateway.make_user("ada")
    await gateway.sign_in("ada")
    assert (await approve(gateway, device))["__typename"] == "ApproveDeviceSuccess"


async def test_what_is_no_code_at_all_is_no_guess(gateway: RunningGateway):
    for _ in range(gateway.settings.login_max_failures + 1):
        assert (await ask(gateway, REQUEST, signed=True, code="hello"))["code"] == "INVALID_INPUT"


async def test_an_address_begins_a_bounded_number_that_come_to_nothing(gateway: RunningGateway):
    devices = [await start(gateway) for _ in range(3 * gateway.settings.login_max_failures)]
    refused = await start(gateway)
    assert (refused["code"], refused["retryAfterMs"] > 0) == ("ACCOUNT_LOCKED", True)
    elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2", verify=False)
    async with httpx.AsyncClient(transport=elsewhere, timeout=30) as client:
        answer = (await client.post(f"{gateway.url}/graphql", json={"query": START})).json()
    assert "deviceCode" in answer["data"]["startDeviceSignIn"]
    await approve(gateway, devices[0])
    assert "accessToken" in await poll(gateway, devices[0])
    assert "deviceCode" in await start(gateway)


async def test_no_more_wait_at_once_than_there_is_room_for(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch):
    await start(gateway)
    monkeypatch.setattr("gateway.identity.devices.sign_ins.MAX_WAITING", 1)
    assert (await start(gateway))["code"] == "OVERLOADED"


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\u202eb", "a\0"])
async def test_a_name_that_cannot_be_shown_is_refused(gateway: RunningGateway, name: str):
    assert (await start(gateway, name))["code"] == "INVALID_INPUT"


async def test_a_device_without_a_name_is_called_by_its_user_agent(gateway: RunningGateway):
    device = await start(gateway, None)
    seen = await ask(gateway, REQUEST, signed=True, code=device["userCode"])
    assert seen["request"]["clientName"].startswith("python-httpx/")


@pytest.mark.parametrize("field", ["approveDevice", "denyDevice"])
async def test_an_api_key_decides_nothing(gateway: RunningGateway, field: str):
    device = await start(gateway)
    gateway.token = (await gateway.make_key(scopes=["PROFILE_WRITE"]))["secret"]
    for query in (DECIDE % field, REQUEST):
        with pytest.raises(GraphQLErrors) as refused:
            await ask(gateway, query, signed=True, code=device["userCode"])
        assert refused.value.code == "FORBIDDEN"
    assert (await poll(gateway, device))["code"] == "AUTHORIZATION_PENDING"


async def test_who_must_change_their_password_approves_nothing(gateway: RunningGateway):
    device = await start(gateway)
    async with gateway.database.transaction() as tx:
        await tx.execute(update(User).values(must_change_password=True))
    try:
        with pytest.raises(GraphQLErrors, match="changePassword"):
            await approve(gateway, device)
    finally:
        async with gateway.database.transaction() as tx:
            await tx.execute(update(User).values(must_change_password=False))


async def test_nobody_approves_without_credentials(gateway: RunningGateway):
    device = await start(gateway)
    with pytest.raises(GraphQLErrors) as refused:
        await ask(gateway, DECIDE % "approveDevice", code=device["userCode"])
    assert refused.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("how", ["deactivateUser", "deactivated by another replica", "logout everywhere"])
async def test_what_ends_a_person_s_sessions_ends_their_approvals(gateway: RunningGateway, how: str):
    admin, device, ada = gateway.token, await start(gateway), await gateway.make_user("ada")
    await gateway.sign_in("ada")
    await approve(gateway, device)
    if how == "logout everywhere":
        await gateway.run("mutation { logout(input: {everywhere: true}) { __typename } }")
    elif how == "deactivateUser":
        gateway.token = admin
        query = '{ users(filter: {search: "ada"}) { nodes { id } } }'
        [found] = (await gateway.run(query))["users"]["nodes"]
        change_user = "mutation($id: ID!) { deactivateUser(input: {id: $id}) { __typename } }"
        done = await gateway.run(change_user, {"id": found["id"]})
        assert done["deactivateUser"]["__typename"] == "DeactivateUserSuccess"
    else:  # nothing but the user's row says so
        async with gateway.database.transaction() as tx:
            await tx.execute(update(User).where(User.id == ada.id).values(disabled_at=now()))
    assert (await poll(gateway, device))["code"] == "ACCESS_DENIED"
    assert await sessions(gateway) == 0


async def test_of_decisions_at_once_one_counts(gateway: RunningGateway):
    device = await start(gateway)
    made: list[Json] = []

    async def decide(how: Any) -> None:
        made.append(await how(gateway, device))

    async with anyio.create_task_group() as tasks:
        for how in (approve, deny) * 4:
            tasks.start_soon(decide, how)
    [done] = [it["__typename"] for it in made if "code" not in it]
    told = await poll(gateway, device)
    assert (done == "ApproveDeviceSuccess") == ("accessToken" in told)


async def test_no_code_is_in_the_database(gateway: RunningGateway):
    device = await start(gateway)
    await approve(gateway, device)
    async with gateway.database.reading() as reading:
        written = str([vars(row) for row in await reading.scalars(select(DeviceCode))])
    for secret in (device["deviceCode"], device["userCode"], device["userCode"].replace("-", "")):
        assert secret not in written


async def test_decisions_and_sign_ins_are_audited_and_waiting_is_not(gateway: RunningGateway):
    began = now()
    device = await start(gateway)
    await poll(gateway, device)
    await poll(gateway, device)
    await approve(gateway, device)
    await change(gateway, polled_at=None)
    await poll(gateway, device)
    await deny(gateway, await start(gateway, "a phone"))
    async with gateway.database.reading() as reading:
        found = list(await reading.scalars(select(AuditEvent).where(AuditEvent.at >= began)))
    told = [(it.action, it.outcome, it.actor_id is not None) for it in found if it.code != "ACCESS_DENIED"]
    assert sorted(told) == [
        ("approveDevice", "SUCCESS", True),
        ("denyDevice", "SUCCESS", True),
        ("deviceSignIn", "SUCCESS", True),
    ]
    approval = next(it for it in found if it.action == "approveDevice")
    assert approval.details == {"clientName": "a laptop", "address": "127.0.0.1"}
