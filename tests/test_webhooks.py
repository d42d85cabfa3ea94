"""Webhooks: signed as Standard Webhooks has it, delivered at least once, tried again, and given up."""

import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, update
from starlette.requests import Request
from starlette.responses import Response

from db.clock import now
from db.engine import Database
from db.tables import AuditEvent, WebhookMessage
from gateway.limits import LimitDimension, LimitWindow, Measure
from gateway.notices import Webhooks, WebhookSecretError, WebhookTarget, parse_webhook_secrets, signature
from server.settings import Settings
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import gateway_settings, running_gateway
from tests.support.generations import COMPLETE, asking, set_limit
from tests.support.identity.serving import served
from tests.support.polling import pause

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
PATIENCE = 30


@dataclass
class Receiver:
    """An HTTP server that keeps what it is sent. It answers with `statuses` in turn, then with 204."""

    statuses: list[int] = field(default_factory=list[int])
    hangs: bool = False
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list[tuple[dict[str, str], bytes]])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        self.got.append((dict(request.headers), await request.body()))
        if self.hangs:
            await anyio.sleep_forever()
        status = self.statuses.pop(0) if self.statuses else 204
        await Response(status_code=status, headers={"location": "/elsewhere"})(scope, receive, send)

    async def count(self, least: int) -> None:
        """Wait until it has been sent so many."""
        with anyio.fail_after(PATIENCE):
            while len(self.got) < least:
                await pause()


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def url(receiver: Receiver) -> AsyncIterator[str]:
    async with served(receiver) as url:
        yield f"{url}/hook/secret-path"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for what is due often, and try again at once."""
    monkeypatch.setattr("gateway.notices.webhooks.POLL_SECONDS", 0.02)
    monkeypatch.setattr("gateway.notices.limit_notices.POLL_SECONDS", 0.02)
    monkeypatch.setattr("gateway.notices.webhooks.DELAYS", (0.01,))
    monkeypatch.setattr("gateway.notices.webhooks.LEASE_SECONDS", 0.0)


def target(url: str, **more: float) -> WebhookTarget:
    return WebhookTarget(url, parse_webhook_secrets(SECRET), **{"timeout": 5.0, "retry_time": 60.0, **more})


@asynccontextmanager
async def delivering(database: Database, target: WebhookTarget, count: int = 1) -> AsyncIterator[None]:
    """Gateways that deliver, and a message for them."""
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(Webhooks(database, target).run)
        yield
        tasks.cancel_scope.cancel()


async def add(database: Database, target: WebhookTarget, body: str = "{}") -> None:
    async with database.transaction() as tx:
        await Webhooks(database, target).add(tx, "test", body)


async def waiting(database: Database) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).select_from(WebhookMessage)) or 0


async def audited(database: Database) -> list[tuple[str | None, dict[str, Any]]]:
    async with database.reading() as session:
        rows = await session.scalars(select(AuditEvent).where(AuditEvent.action == "webhook"))
        return [(row.code, row.details or {}) for row in rows]


async def gone(database: Database) -> None:
    """Wait until nothing waits to be delivered."""
    with anyio.fail_after(PATIENCE):
        while await waiting(database):
            await pause()


def test_a_signature_is_that_of_the_specification():
    body = b'{"test": 2432232314}'
    given = signature(parse_webhook_secrets(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert given == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_of_several_secrets_signs():
    both = signature(parse_webhook_secrets(f"{SECRET} {OTHER}"), "msg", 1, b"")
    assert both.split() == [signature(parse_webhook_secrets(it), "msg", 1, b"") for it in (SECRET, OTHER)]


@pytest.mark.parametrize(
    "text", ["", " ", "whsec_", "whsec_AAAA", SECRET.removeprefix("whsec_"), "whsec_%%%%", f"{SECRET} x"]
)
def test_a_secret_that_is_none_is_refused_without_repeating_it(text: str):
    with pytest.raises(WebhookSecretError, match=r"must be whsec_|is empty") as caught:
        parse_webhook_secrets(text)
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"webhook_url": "https://a.example"}, "together"),
        ({"webhook_secret": SECRET}, "together"),
        ({"webhook_url": "ftp://secret.example", "webhook_secret": SECRET}, "must begin with http"),
    ],
)
def test_settings_at_odds_refuse_to_start(values: dict[str, str], told: str, tmp_path: Path):
    with pytest.raises(ValidationError, match=told) as caught:
        Settings(data_dir=tmp_path, **values)  # pyright: ignore
    assert "secret.example" not in str(caught.value)


async def test_a_message_is_delivered_once_by_many_gateways_and_signed(
    database: Database, receiver: Receiver, url: str
):
    await add(database, target(url), '{"a":1}')
    async with delivering(database, target(url), count=3):
        await gone(database)
    ((headers, body),) = receiver.got
    timestamp = int(headers["webhook-timestamp"])
    assert abs(timestamp - time.time()) < 60
    assert headers["webhook-signature"] == signature(
        parse_webhook_secrets(SECRET), headers["webhook-id"], timestamp, body
    )
    assert (headers["content-type"], body) == ("application/json", b'{"a":1}')


@pytest.mark.parametrize("status", [302, 307, 400, 429, 500, 503])
async def test_what_is_not_taken_is_sent_again_with_the_same_id_and_not_elsewhere(
    sqlite_url: str, receiver: Receiver, url: str, status: int
):
    database = Database(sqlite_url)
    receiver.statuses = [status, status]
    await add(database, target(url))
    async with delivering(database, target(url)):
        await gone(database)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3
    await database.close()


async def test_a_receiver_that_hangs_costs_a_time_out(sqlite_url: str, receiver: Receiver, url: str):
    database = Database(sqlite_url)
    receiver.hangs = True
    await add(database, target(url))
    async with delivering(database, target(url, timeout=0.1)):
        await receiver.count(2)
    assert await waiting(database) == 1
    await database.close()


@pytest.mark.parametrize(("status", "attempts"), [(410, 1), (500, 1)])
async def test_what_is_given_up_is_in_the_audit_log(
    sqlite_url: str, receiver: Receiver, url: str, status: int, attempts: int, caplog: pytest.LogCaptureFixture
):
    database = Database(sqlite_url)
    caplog.set_level(logging.DEBUG)
    receiver.statuses = [status] * 10
    retry_time = 60.0 if status == 410 else 0.0
    await add(database, target(url))
    async with delivering(database, target(url, retry_time=retry_time)):
        await gone(database)
    assert await audited(database) == [
        ("WEBHOOK_GIVEN_UP", {"type": "test", "attempts": attempts, "reason": f"HTTP status {status}"})
    ]
    ours = "\n".join(it.getMessage() for it in caplog.records if it.name.startswith(("gateway", "server")))
    assert "given up" in ours
    assert "secret-path" not in ours
    await database.close()


async def test_what_a_killed_gateway_was_sending_another_one_sends(sqlite_url: str, receiver: Receiver, url: str):
    database = Database(sqlite_url)
    receiver.hangs = True
    await add(database, target(url))
    async with delivering(database, target(url)):
        await receiver.count(1)
    receiver.hangs = False
    async with database.transaction() as tx:
        await tx.execute(update(WebhookMessage).values(due_at=now() - timedelta(seconds=1)))  # its time is over
    async with delivering(database, target(url)):
        await gone(database)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 2
    await database.close()


async def test_no_more_wait_than_may(sqlite_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.notices.webhooks.MOST_WAITING", 2)
    database = Database(sqlite_url)
    for _ in range(3):
        await add(database, target("http://127.0.0.1:1"))
    assert await waiting(database) == 2
    assert [code for code, _ in await audited(database)] == ["WEBHOOK_QUEUE_FULL"]
    await database.close()


async def test_a_limit_that_is_reached_is_told_by_webhook(
    sqlite_url: str, tmp_path: Path, fake: FakeModelServer, receiver: Receiver, url: str
):
    values = {"webhook_url": url, "webhook_secret": SECRET, "limit_thresholds": "50,100"}
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, **values), fake) as gateway:
        await set_limit(gateway.database, 2, Measure.REQUESTS, LimitWindow.DAY, LimitDimension.USER, name="requests")
        await gateway.run(COMPLETE, asking("fake:count-3"))
        await receiver.count(1)
        told = json.loads(receiver.got[0][1])
        assert (told["type"], told["data"]["threshold"]) == ("limit.threshold_reached", 50)
        limit = told["data"]["limit"]
        assert (limit["name"], limit["used"], limit["limit"], limit["remaining"]) == ("requests", "1", "2", "1")
        assert [part["dimension"] for part in limit["scope"]] == ["USER"]
        await gateway.run(COMPLETE, asking("fake:count-3"))
        await receiver.count(2)
        assert json.loads(receiver.got[1][1])["data"]["threshold"] == 100
        await gone(gateway.database)
