"""Limits where the gateway of a generation dies: what its prompt needs that is read again is reserved before."""

from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from sqlalchemy import select

from backends.protocol import ChatRequest, Message, Options
from db.clock import new_id
from db.tables import Generation, Reservation
from gateway.generation.continuation import encode_request
from gateway.generation.job import Job
from gateway.limits import Asking, Limits, Needs
from gateway.streams import NO_USAGE, SavedStream, StreamOwner
from tests.support.fake_model_server import FakeModelServer
from tests.support.generations import set_limit
from tests.support.polling import pause
from tests.support.processes import START_SECONDS, serving
from tests.support.valkeys import ValkeyServer
from tests.test_planned_stop import PASSWORD
from tests.test_run import running_scene

SET_LIMIT = """
mutation($amount: Decimal!) { setLimit(input: { name: "tokens", measure: TOKENS, window: DAY, amount: $amount }) {
  __typename
} }
"""
START = """
mutation { startGeneration(input: {
  model: "fake:stall-5", prompt: { text: "one two three four" }, options: { maxTokens: 20 }
  onDisconnect: CONTINUE, onBackendLoss: CONTINUE
}) { ... on StartGenerationSuccess { generation { id } } } }
"""
LOOK = "query($id: ID!) { generation(id: $id) { state text error { code } } }"


@pytest.mark.parametrize(("amount", "code"), [("47", "QUOTA_EXCEEDED"), ("48", None)])
async def test_a_gateway_that_has_just_started_reserves_before_a_prompt_is_read_again(
    tmp_path: Path, fake: FakeModelServer, valkey: ValkeyServer, amount: str, code: str | None
):
    settings = {
        **{"ADMIN_PASSWORD": PASSWORD, "OLLAMA_URL": fake.url, "REDIS_URL": valkey.url, "LEASE_TIME": "0.5"},
        "IDENTITY_MAX_AGE": "60",  # for as long nothing but a start would read the limits
    }
    folder = tmp_path / "data"
    with anyio.fail_after(START_SECONDS):
        async with serving(folder, **settings) as served:
            token = await served.sign_in(PASSWORD)
            await served.run(SET_LIMIT, token, amount=amount)
            id = (await served.run(START, token))["startGeneration"]["generation"]["id"]
            while not (await served.run(LOOK, token, id=id))["generation"]["text"]:
                await pause()
        async with serving(folder, **settings) as served:
            token = await served.sign_in(PASSWORD)
            while (ended := (await served.run(LOOK, token, id=id))["generation"])["state"] == "RUNNING":
                if len(fake.requests) == 2:
                    fake.release()
                await pause()
    assert (ended["error"] or {}).get("code") == code
    assert len(fake.requests) == (1 if code else 2)


async def test_what_was_used_before_anybody_was_told_of_a_start_is_reserved_beside_the_rest(
    sqlite_url: str, fake: FakeModelServer
):
    """Its gateway had asked the backend while the row was on its way, and died before the stream log had an event."""
    async with running_scene(sqlite_url, fake.url) as scene:
        await set_limit(scene.database, 1000)
        row = Generation(
            **{"id": new_id(), "user_id": scene.user_id, "model": "fake:hold-3", "backend": "ollama", "fence": 1},
            **{"state": "QUEUED", "on_disconnect": "CONTINUE", "on_backend_loss": "CONTINUE"},
        )
        limits, reserved = Limits(scene.database), 40
        claims = await limits.claims(Asking(scene.user_id, "user", model=row.model), Needs(reserved))
        async with scene.database.transaction() as tx:
            tx.add(row)
            await tx.flush()
            await limits.reserve(tx, row.id, claims)
        await scene.log.open(row.id, StreamOwner(1))
        chat = ChatRequest(row.model, [Message("user", "one two three")], options=Options(max_tokens=20))
        saved = SavedStream([], replace(NO_USAGE, prompt_tokens=300), encode_request(chat))
        run = scene.runner.resume(Job(row, chat, saved), await scene.catalog.find(row.model))
        await fake.request()
        async with scene.database.reading() as session:
            amount = await session.scalar(select(Reservation.amount))
        assert amount is not None
        assert amount >= 300 + 3 + 20
        fake.release()
        await run.finished.wait()
