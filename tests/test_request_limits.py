"""How many requests an address may send: without credentials, and to sign in."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from pydantic import ValidationError

from auth.client import Client
from gateway.request_limits import RequestBucket, RequestLimits, TooManyRequests, parse_request_rules
from gateway.request_limits.memory import CountsInMemory
from gateway.streams import RequestCounts
from server.settings import Settings
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import GraphQLErrors, Json, RunningGateway, gateway_settings, running_gateway
from tests.support.polling import pause
from tests.support.shared.gateways import sharing
from tests.support.valkeys import ValkeyServer

PARALLEL = 12
ALLOWED = 8

INFO = "{ __typename }"
REFRESH = 'refreshSession(input: { refreshToken: "none" }) { __typename }'
LOGIN = 'login(input: { username: "nobody", password: "wrong" }) { __typename }'

limited = sharing(rate_limit_anonymous=f"{ALLOWED}/hour", rate_limit_sign_in="5/hour", trusted_proxies=["127.0.0.1"])
direct = sharing(rate_limit_anonymous="3/second", rate_limit_sign_in="5/hour")


async def ask(gateway: RunningGateway, query: str = INFO, address: str | None = None, **headers: str) -> httpx.Response:
    """Send a request from an address; without the gateway's token unless a header has it."""
    forwarded = {} if address is None else {"X-Forwarded-For": address}
    return await gateway.client.post("/graphql", json={"query": query}, headers={**forwarded, **headers})


async def together(count: int, call: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Call so many times at once, and give all answers."""
    answers: list[Any] = []

    async def one() -> None:
        answers.append(await call())

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return answers


async def let_in(limits: RequestLimits, host: str = "203.0.113.1") -> bool:
    try:
        await limits.count(RequestBucket.ANONYMOUS, Client(host))
    except TooManyRequests:
        return False
    return True


async def counting_together(limits: RequestLimits) -> None:
    """Return when Valkey counts."""
    with anyio.fail_after(30):
        while not await limits.are_shared():
            await pause()


@asynccontextmanager
async def shared_limits(url: str, rule: str, **more: Any) -> AsyncIterator[RequestLimits]:
    """What a gateway counts with, which counts at the Valkey of this URL by now."""
    limits = RequestLimits({RequestBucket.ANONYMOUS: parse_request_rules(rule)}, RequestCounts(url), **more)
    async with aclosing(limits), anyio.create_task_group() as tasks:
        tasks.start_soon(limits.run)
        await counting_together(limits)
        yield limits
        tasks.cancel_scope.cancel()


async def test_of_many_requests_at_once_exactly_as_many_are_let_in_as_may_be(limited: RunningGateway):
    answers = await together(PARALLEL, lambda: ask(limited, address="203.0.113.1"))
    assert sorted(answer.status_code for answer in answers) == [200] * ALLOWED + [429] * (PARALLEL - ALLOWED)


async def test_a_refusal_names_the_limit_and_tells_when_to_come_back(limited: RunningGateway):
    answers = await together(ALLOWED + 1, lambda: ask(limited, address="203.0.113.2"))
    (refused,) = [answer for answer in answers if answer.status_code == 429]
    extensions = refused.json()["errors"][0]["extensions"]
    assert (extensions["code"], extensions["limit"], extensions["retryable"]) == ("RATE_LIMITED", "anonymous", True)
    assert 0 < extensions["retryAfterMs"] <= 3_600_000
    assert int(refused.headers["Retry-After"]) * 1000 >= extensions["retryAfterMs"]
    assert refused.headers["RateLimit-Policy"] == f'"anonymous";q={ALLOWED};qu="requests";w=3600'
    assert refused.headers["RateLimit"] == f'"anonymous";r=0;t={refused.headers["Retry-After"]}'


async def test_who_is_signed_in_is_not_counted(limited: RunningGateway):
    await together(ALLOWED + 1, lambda: ask(limited, address="203.0.113.3"))
    answer = await ask(limited, "{ me { username } }", "203.0.113.3", **limited.headers())
    assert answer.json() == {"data": {"me": {"username": "admin"}}, "extensions": answer.json()["extensions"]}


async def test_credentials_that_do_not_hold_count_as_none(limited: RunningGateway):
    wrong = {"Authorization": "Bearer wrong"}
    answers = await together(ALLOWED + 1, lambda: ask(limited, "{ me { username } }", "203.0.113.4", **wrong))
    assert sum(answer.status_code == 429 for answer in answers) == 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_what_watches_the_gateway_is_not_counted(limited: RunningGateway, path: str):
    get = {"X-Forwarded-For": "203.0.113.5"}
    answers = await together(ALLOWED + 1, lambda: limited.client.get(path, headers=get))
    allowed = {"/healthz": {200}, "/readyz": {200, 503}}[path]  # a machine that is busy is not ready
    assert {answer.status_code for answer in answers} <= allowed


@pytest.mark.parametrize("path", ["/blobs/x", "/audit.jsonl", "/usage.csv", "/schema.graphql"])
async def test_the_other_endpoints_count_too(limited: RunningGateway, path: str):
    address = {"X-Forwarded-For": f"198.51.100.{len(path)}"}
    answers = await together(ALLOWED + 1, lambda: limited.client.get(path, headers=address))
    (refused,) = [answer for answer in answers if answer.status_code == 429]
    assert "Retry-After" in refused.headers


async def test_signing_in_has_a_stricter_limit_and_each_field_counts(limited: RunningGateway):
    answers = [await ask(limited, f"mutation {{ {LOGIN} {REFRESH} }}", "203.0.113.6") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["errors"][0]["extensions"]["limit"] == "sign-in"
    assert (await ask(limited, address="203.0.113.6")).status_code == 200


async def test_the_way_over_an_identity_provider_counts_as_signing_in(limited: RunningGateway):
    address = {"X-Forwarded-For": "203.0.113.7"}
    answers = await together(6, lambda: limited.client.get("/auth/none/callback", headers=address))
    (refused,) = [answer for answer in answers if answer.status_code == 429]
    assert refused.json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
    assert refused.headers["RateLimit"].startswith('"sign-in";r=0;t=')


async def test_the_addresses_of_one_ipv6_network_count_together(limited: RunningGateway):
    login = f"mutation {{ {LOGIN} }}"
    for number in range(5):
        assert (await ask(limited, login, f"2001:db8:1:2::{number + 1}")).status_code == 200
    assert (await ask(limited, login, "2001:db8:1:2:ffff::1")).status_code == 429
    assert (await ask(limited, login, "2001:db8:1:3::1")).status_code == 200


async def test_nobody_but_a_trusted_proxy_tells_another_address(direct: RunningGateway):
    answers = [await ask(direct, f"mutation {{ {LOGIN} }}", f"203.0.113.{number}") for number in range(1, 6)]
    assert 429 in {answer.status_code for answer in answers}, "one of the five was the administrator's own"


async def test_after_the_time_that_a_refusal_tells_requests_are_let_in_again(direct: RunningGateway):
    with anyio.fail_after(30):
        while (answer := await ask(direct)).status_code != 429:
            pass
    await anyio.sleep(answer.json()["errors"][0]["extensions"]["retryAfterMs"] / 1000)
    assert (await ask(direct)).status_code == 200


async def test_on_a_websocket_one_operation_is_refused_and_the_others_go_on(limited: RunningGateway):
    async with limited.connect(init=limited.headers()) as socket:
        errors: list[Json] = []
        for number in range(5):
            try:
                async for _ in follow(socket, f"mutation {{ {LOGIN} {REFRESH} }}", str(number)):
                    pass
            except GraphQLErrors as error:
                errors += error.errors
        assert {(it["extensions"]["code"], it["extensions"]["limit"]) for it in errors} == {("RATE_LIMITED", "sign-in")}
        await socket.subscribe("{ me { username } }", id="last")
        assert [event async for event in socket.events("last")] == [{"username": "admin"}]


async def follow(socket: Any, query: str, id: str) -> AsyncIterator[Json]:
    await socket.subscribe(query, id=id)
    async for event in socket.events(id):
        yield event


async def test_gateways_with_one_valkey_count_together(valkey: ValkeyServer, tmp_path: Path, sqlite_url: str):
    values = {"redis_url": valkey.url, "rate_limit_anonymous": f"{ALLOWED}/hour", "trusted_proxies": ["127.0.0.1"]}
    settings = gateway_settings(tmp_path, sqlite_url, None, **values)
    async with (
        shared_limits(valkey.url, f"{ALLOWED}/hour") as other,
        running_gateway(settings, FakeModelServer()) as gateway,
    ):
        await counting_together(gateway.requests)
        there = await together(PARALLEL // 2, lambda: let_in(other, "192.0.2.77"))
        here = await together(PARALLEL // 2, lambda: ask(gateway, address="192.0.2.77"))
    assert sum(there) + sum(answer.status_code == 200 for answer in here) == ALLOWED


async def test_at_many_gateways_at_once_exactly_as_many_are_let_in_as_may_be(valkey: ValkeyServer):
    async with (
        shared_limits(valkey.url, f"{ALLOWED}/hour") as one,
        shared_limits(valkey.url, f"{ALLOWED}/hour") as other,
    ):
        gateways = [one, other] * (PARALLEL // 2)
        answers = await together(PARALLEL, lambda: let_in(gateways.pop(), "192.0.2.78"))
    assert sum(answers) == ALLOWED


async def test_without_valkey_a_gateway_counts_on_by_itself_and_then_together_again(
    own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("gateway.request_limits.shared.RETRY_SECONDS", 0.05)
    caplog.set_level(logging.WARNING, "gateway.request_limits.shared")
    async with shared_limits(own_valkey.url, "4/hour") as one, shared_limits(own_valkey.url, "4/hour") as other:
        assert [await let_in(one) for _ in range(2)] == [True, True]
        own_valkey.kill()
        assert [await let_in(one) for _ in range(3)] == [True, True, False], "what was counted before counts on"
        assert [await let_in(other) for _ in range(5)] == [True] * 4 + [False], "it knew nothing of the other's"
        assert len(caplog.records) == 2, "each tells once"
        own_valkey.launch()
        await counting_together(one)
        await counting_together(other)
        hosts = ["203.0.113.9"] * 4
        assert [await let_in(one, host) for host in hosts[:2]] + [await let_in(other, host) for host in hosts] == (
            [True] * 4 + [False] * 2
        )


async def test_a_flood_of_addresses_fills_neither_memory_nor_valkey(own_valkey: ValkeyServer):
    memory = CountsInMemory(most=20)
    async with shared_limits(own_valkey.url, "1/hour", memory=memory) as limits, own_valkey.client() as client:
        for number in range(200):
            await let_in(limits, f"203.0.{number}.1")
            await let_in(limits, f"203.0.{number}.1")
        assert len(memory) == 20
        assert len(await client.keys("ollagraph:requests:LIMITER/*")) == 20


async def test_a_window_that_is_over_makes_room_for_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.request_limits.memory.SWEEP_SECONDS", 0.0)
    memory = CountsInMemory(most=2)
    memory.add("lasts", 60, 1)
    memory.add("over", 0, 1)
    memory.add("new", 60, 1)
    assert (await memory.get("lasts"), await memory.get("over"), await memory.get("new")) == (1, 0, 1)


async def test_nothing_is_counted_where_limits_are_off(sqlite_url: str, tmp_path: Path):
    values = {"rate_limit_enabled": False, "rate_limit_anonymous": "1/hour", "rate_limit_sign_in": "1/hour"}
    settings = gateway_settings(tmp_path, sqlite_url, None, **values)
    async with running_gateway(settings, FakeModelServer()) as gateway:
        answers = await together(5, lambda: ask(gateway, f"mutation {{ {LOGIN} }}"))
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("text", ["", "many", "60", "60/fortnight", "0/minute", "1/month", "1/second;" * 6 + "1/hour"])
def test_a_rule_that_cannot_be_read_refuses_to_start(text: str, tmp_path: Path):
    with pytest.raises(ValidationError, match=r"must be as 60/minute|must allow at least|may have at most"):
        Settings(data_dir=tmp_path, rate_limit_sign_in=text)


@pytest.mark.parametrize("text", ["60/minute", "10 per 2 seconds", "5/second; 100/hour"])
def test_rules_are_written_as_the_library_has_them(text: str, tmp_path: Path):
    assert Settings(data_dir=tmp_path, rate_limit_anonymous=text).rate_limit_anonymous == text
