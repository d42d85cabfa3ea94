"""Delivers webhooks, each at least once: from a table that is written with what they tell, until they are taken.

Any replica delivers: whoever moves a message's `due_at` ahead has it until then, and a replica that is killed meanwhile
leaves it to the others.
"""

import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import anyio
import httpx

from db import queries
from db.clock import now
from db.engine import Database, DatabaseUnavailable, WriteSession
from db.tables import WebhookMessage
from gateway.audit import AuditOutcome, Deed, Target, event_of
from gateway.notices.signature import signature

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often what is due is looked for."""

AT_ONCE = 10
"""Messages that one replica delivers at the same time."""

MOST_WAITING = 10_000
"""Messages in the table. Beyond that, new ones are not delivered; the audit log has what they would tell."""

LEASE_SECONDS = 30.0
"""How much longer than the time-out of a delivery the message stays with its replica."""

DELAYS = (5, 60, 300, 1_800, 7_200, 18_000, 36_000, 50_400)
"""Seconds until a message is tried again, after the first attempt and those that follow; then always the last."""

JITTER = 0.2
"""The share of a delay by which it is longer or shorter, so that messages do not come back together."""

LONGEST_RETRY_AFTER = 86_400
"""Seconds that a receiver may ask for."""


@dataclass(frozen=True, slots=True, repr=False)
class WebhookTarget:
    """Where webhooks go. `url` may hold a secret, as in its path. Times are in seconds."""

    url: str
    secrets: tuple[bytes, ...]
    timeout: float
    retry_time: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a message was not taken. `retry_after` are the seconds that its receiver asks for; `final`: never again."""

    reason: str
    retry_after: float = 0
    final: bool = False


class Webhooks:
    """The webhooks of this gateway. Without a `target` nothing is kept for them."""

    def __init__(self, database: Database, target: WebhookTarget | None) -> None:
        self._database = database
        self._target = target
        self._fails = False

    async def add(self, tx: WriteSession, type: str, body: str) -> None:
        """Have a message delivered, if the transaction is committed."""
        if self._target is None:
            return
        if await queries.notice.count_messages(tx) >= MOST_WAITING:
            tx.add(event_of(Deed("webhook", AuditOutcome.FAILED, "WEBHOOK_QUEUE_FULL", details={"type": type})))
            return
        tx.add(WebhookMessage(type=type, body=body))
        await tx.flush()

    async def run(self) -> None:
        """Deliver, until cancelled."""
        if self._target is None:
            await anyio.sleep_forever()
            return
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=self._target.timeout) as client:
            while True:
                try:
                    found = await self._deliver_due(client, self._target)
                except DatabaseUnavailable:
                    found = 0  # which has told the log
                if found < AT_ONCE:
                    await anyio.sleep(POLL_SECONDS)

    async def _deliver_due(self, client: httpx.AsyncClient, target: WebhookTarget) -> int:
        """Deliver some of what is due; gives how many were."""
        async with self._database.reading() as session:
            messages = await queries.notice.due(session, now(), AT_ONCE)
        claimed: list[WebhookMessage] = []
        if messages:
            until = now() + timedelta(seconds=target.timeout + LEASE_SECONDS)
            async with self._database.transaction() as tx:
                claimed = [message for message in messages if await queries.notice.claim(tx, message, until)]
        async with anyio.create_task_group() as tasks:
            for message in claimed:
                tasks.start_soon(self._deliver, client, target, message)
        return len(messages)

    async def _deliver(self, client: httpx.AsyncClient, target: WebhookTarget, message: WebhookMessage) -> None:
        failure = await _send(client, target, message)
        try:
            async with self._database.transaction() as tx:
                if failure is None:
                    await queries.notice.remove(tx, message.id)
                else:
                    await self._failed(tx, target, message, failure)
        except DatabaseUnavailable:
            return  # it is delivered once more, when its time is over
        if failure is None and self._fails:
            logger.warning("webhooks are taken again")
        self._fails = failure is not None

    async def _failed(
        self, tx: WriteSession, target: WebhookTarget, message: WebhookMessage, failure: _Failure
    ) -> None:
        """Try a message again later, or give it up and tell the audit log."""
        if not self._fails:
            logger.warning("a webhook was not taken: %s. It is tried again", failure.reason)
        attempts = message.attempts + 1
        at, given_up_at = now(), message.created_at + timedelta(seconds=target.retry_time)
        delay = DELAYS[min(attempts, len(DELAYS)) - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
        due_at = at + timedelta(seconds=max(delay, min(failure.retry_after, LONGEST_RETRY_AFTER)))
        if not failure.final and at < given_up_at:
            await queries.notice.postpone(tx, message.id, min(due_at, given_up_at))
            return
        logger.error("webhook %s was given up after %d attempts: %s", message.id, attempts, failure.reason)
        details = {"type": message.type, "attempts": attempts, "reason": failure.reason}
        target_of = Target("Webhook", str(message.id))
        tx.add(event_of(Deed("webhook", AuditOutcome.FAILED, "WEBHOOK_GIVEN_UP", target=target_of, details=details)))
        await queries.notice.remove(tx, message.id)


async def _send(client: httpx.AsyncClient, target: WebhookTarget, message: WebhookMessage) -> _Failure | None:
    """Send a message once; None where it was taken. What the receiver says beside its status is not read."""
    body, message_id, timestamp = message.body.encode(), f"msg_{message.id.hex}", int(time.time())
    headers = {
        "content-type": "application/json",
        "user-agent": "Ollagraph",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(target.secrets, message_id, timestamp, body),
    }
    try:
        with anyio.fail_after(target.timeout):
            async with client.stream("POST", target.url, content=body, headers=headers) as response:
                status, retry_after = response.status_code, _retry_after(response.headers)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, UnicodeError) as error:
        return _Failure(f"no answer ({type(error).__name__})")
    if HTTPStatus(200) <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    return _Failure(f"HTTP status {status}", retry_after, final=status == HTTPStatus.GONE)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Give the seconds that a receiver asks for; 0 where it asks for none, or by a date."""
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 0.0
