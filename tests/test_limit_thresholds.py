"""What is used of a limit comes to a threshold: written once for each window, whoever ends generations, and told."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import select, update

from auth.principal import Principal
from auth.scopes import Scope
from db.clock import new_id, now
from db.engine import Database
from db.tables import AuditEvent, LimitCounter, LimitCrossing
from db.tables import Limit as LimitTable
from gateway.errors import Forbidden
from gateway.limits import (
    Asking,
    Conditions,
    LimitDimension,
    LimitRule,
    Limits,
    LimitWindow,
    Measure,
    Used,
    is_seen_by,
    parse_thresholds,
    thresholds_of,
)
from gateway.notices import LimitNotices, Webhooks
from tests.support.gateways import RunningGateway
from tests.support.generations import COMPLETE, asking, set_limit
from tests.support.polling import pause
from tests.test_dataloaders import statements
from tests.test_limits_held import begin, end

ALICE = Asking(new_id(), "developer", model="llama3")
PATIENCE = 30

FOLLOW = """
subscription($all: Boolean) { limitReached(allUsers: $all) {
  threshold at limit { name used reserved limit remaining scope { dimension value } }
} }
"""


def limits_of(database: Database, *thresholds: int) -> Limits:
    return Limits(database, identity_max_age=0, thresholds=thresholds or (80, 100))


async def spend(database: Database, limits: Limits, tokens: int, reserve: int = 1) -> None:
    """Begin and end a generation."""
    await end(database, limits, Used(await begin(database, limits, ALICE, reserve), tokens))


async def crossings(database: Database) -> list[tuple[int, int]]:
    """What was crossed: from and up to which percentage."""
    async with database.reading() as session:
        rows = await session.scalars(select(LimitCrossing).order_by(LimitCrossing.id))
        return [(row.told_before, row.told) for row in rows]


async def test_of_many_ends_at_once_at_many_gateways_each_threshold_is_written_once(database_url: str):
    databases = [Database(database_url) for _ in range(3)]
    gateways = [(database, limits_of(database)) for database in databases]
    await set_limit(databases[0], 20)
    ids = [await begin(*gateways[0], ALICE) for _ in range(20)]
    async with anyio.create_task_group() as tasks:
        for number, id in enumerate(ids):
            tasks.start_soon(end, *gateways[number % 3], Used(id, 1))
    assert await crossings(databases[0]) == [(0, 80), (80, 100)]
    for database in databases:
        await database.close()


@pytest.mark.parametrize(
    ("bound", "used", "told"),
    [
        (3, 2, 0),
        (3, 3, 100),
        (10, 7, 0),
        (10, 8, 80),
        (10**18, 8 * 10**17 - 1, 0),
        (10**18, 8 * 10**17, 80),
        (10**18, 10**18 - 1, 80),
        (1, 1, 100),
        (5, 50, 100),
    ],
)
async def test_a_share_is_reckoned_exactly(sqlite_url: str, postgresql_url: str, bound: int, used: int, told: int):
    for url in (sqlite_url, postgresql_url):
        database = Database(url)
        await set_limit(database, bound)
        await spend(database, limits_of(database), used)
        async with database.reading() as session:
            assert await session.scalar(select(LimitCounter.told)) == told
        assert await crossings(database) == ([(0, told)] if told else [])
        await database.close()


async def test_a_new_window_tells_anew(database: Database):
    await set_limit(database, 1, Measure.REQUESTS)
    limits = limits_of(database)
    await spend(database, limits, 1)
    async with database.transaction() as tx:
        over = {"window_start": now() - timedelta(days=2), "window_end": now() - timedelta(days=1)}
        await tx.execute(update(LimitCounter).values(**over))
    await spend(database, limits, 1)
    assert await crossings(database) == [(0, 100), (0, 100)]


async def test_a_smaller_amount_tells_at_the_next_start_and_a_larger_one_nothing_again(database: Database):
    limit_id = await set_limit(database, 100)
    limits = limits_of(database)
    await spend(database, limits, 45)
    for amount in (50, 100):
        async with database.transaction() as tx:
            await tx.execute(update(LimitTable).where(LimitTable.id == limit_id).values(amount=amount))
        await begin(database, limits, ALICE)
        assert await crossings(database) == [(0, 80)]
    await spend(database, limits, 40)
    assert await crossings(database) == [(0, 80)]
    await spend(database, limits, 15)
    assert await crossings(database) == [(0, 80), (80, 100)]


async def test_what_is_rolled_back_is_not_told(database: Database):
    await set_limit(database, 1)
    limits = limits_of(database)
    id = await begin(database, limits, ALICE)

    async def fail() -> None:
        async with database.transaction() as tx:
            await limits.settle(tx, [Used(id, 1)])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await crossings(database) == []


async def test_an_end_asks_the_database_for_no_more_than_without_thresholds(database: Database):
    await set_limit(database, 10)
    asked: list[int] = []
    for limits in (Limits(database, identity_max_age=0), limits_of(database)):
        await spend(database, limits, 1)
        id = await begin(database, limits, ALICE)
        with statements() as found:
            await end(database, limits, Used(id, 1))
        asked.append(len(found))
    assert asked[0] == asked[1]


def crossing(scope: dict[LimitDimension, str] | None = None, **columns: Any) -> LimitCrossing:
    """A row as it is read."""
    values = {"told_before": 0, "told": 100, "used": 10, "reserved": 0, "bound": 10, "at": now(), **columns}
    return LimitCrossing(scope={str(part): value for part, value in (scope or {}).items()}, window_end=None, **values)


def rule(*each: LimitDimension, **conditions: Any) -> LimitRule:
    return LimitRule(
        new_id(), "limit", Measure.TOKENS, LimitWindow.DAY, 10, each=each, conditions=Conditions(**conditions)
    )


def test_one_change_may_come_to_several_thresholds():
    reached = thresholds_of(crossing(told_before=50), rule(), (50, 80, 90, 100))
    assert [it.threshold for it in reached] == [80, 90, 100]


def test_who_may_see_a_limit_sees_its_thresholds():
    ada = Principal(uuid4(), "ada", frozenset({Scope.USAGE_READ}), group_ids=(uuid4(),))
    own, others = {LimitDimension.USER: str(ada.user_id)}, {LimitDimension.USER: str(uuid4())}
    group, model = {LimitDimension.GROUP: str(ada.group_ids[0])}, {LimitDimension.MODEL: "m"}
    seen = [
        is_seen_by(crossing(), rule(), ada),
        is_seen_by(crossing(own), rule(LimitDimension.USER), ada),
        is_seen_by(crossing(group), rule(LimitDimension.GROUP), ada),
        is_seen_by(crossing(model), rule(LimitDimension.MODEL), ada),
    ]
    hidden = [
        is_seen_by(crossing(others), rule(LimitDimension.USER), ada),
        is_seen_by(crossing({LimitDimension.GROUP: str(uuid4())}), rule(LimitDimension.GROUP), ada),
        is_seen_by(crossing(), rule(user_id=uuid4()), ada),
    ]
    assert (set(seen), set(hidden)) == ({True}, {False})


@pytest.mark.parametrize("text", ["", "0", "101", "80;100", "-5", "80,", "eighty", ",".join(["50"] * 11)])
def test_thresholds_that_cannot_be_read_refuse_to_start(text: str):
    with pytest.raises(ValueError, match="percentages"):
        parse_thresholds(text)


def test_thresholds_are_percentages_or_off():
    assert (parse_thresholds("100, 80,80"), parse_thresholds("OFF")) == ((80, 100), ())


async def within_patience(call: Callable[[], Awaitable[Any]]) -> Any:
    with anyio.fail_after(PATIENCE):
        return await call()


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.notices.limit_notices.POLL_SECONDS", 0.02)


@pytest.mark.usefixtures("told_at_once")
async def test_followers_and_the_audit_log_are_told_of_what_they_may_see(own_gateway: RunningGateway):
    gateway = own_gateway
    name = f"limit {uuid4()}"
    await set_limit(gateway.database, 1, Measure.REQUESTS, LimitWindow.DAY, LimitDimension.USER, name=name)
    admin = gateway.token
    for user in ("ada", "bob"):
        await gateway.make_user(user)
    await gateway.sign_in("ada")
    async with gateway.connect() as own:
        gateway.token = admin
        async with gateway.connect() as all_users:
            for socket, variables in ((own, {"all": False}), (all_users, {"all": True})):
                await socket.subscribe(FOLLOW, variables)
                await socket.subscribe("{ viewer { method } }", id="begun")
                assert [event async for event in socket.events("begun")]
            await gateway.run(COMPLETE, asking("fake:count-3"))
            events = [await within_patience(lambda: anext(aiter(all_users.events()))) for _ in range(2)]
            await gateway.sign_in("bob")
            await gateway.run(COMPLETE, asking("fake:count-3"))
            gateway.token = admin
            others = [await within_patience(lambda: anext(aiter(all_users.events()))) for _ in range(2)]
        await own.subscribe("{ viewer { method } }", id="later")
        assert [event async for event in own.events("later")], "and nothing of the others came before it"
    assert [event["threshold"] for event in events + others] == [80, 100, 80, 100]
    assert events[0]["limit"]["used"] == events[0]["limit"]["limit"] == "1"
    assert events[0]["limit"]["scope"] != others[0]["limit"]["scope"]
    chosen = select(AuditEvent).where(AuditEvent.action == "limitReached", AuditEvent.target_id == name)
    told: list[int] = []
    with anyio.fail_after(PATIENCE):
        while len(told) < 4:  # followers may be told a moment earlier
            await pause()
            async with gateway.database.reading() as session:
                rows = (await session.scalars(chosen.order_by(AuditEvent.id))).all()
            told = [(it.details or {})["threshold"] for it in rows]
    assert told == [80, 100, 80, 100]


async def test_many_gateways_note_each_crossing_once(database_url: str):
    databases = [Database(database_url) for _ in range(3)]
    await set_limit(databases[0], 1)
    limits = [limits_of(database) for database in databases]
    await spend(databases[0], limits[0], 1)
    notices = [LimitNotices(it, of, Webhooks(it, None), lambda _: {}) for it, of in zip(databases, limits, strict=True)]
    async with anyio.create_task_group() as tasks:
        for one in notices:
            tasks.start_soon(one.note_some)
    async with databases[0].reading() as session:
        found = (await session.scalars(select(AuditEvent).where(AuditEvent.action == "limitReached"))).all()
    assert sorted((it.details or {})["threshold"] for it in found) == [80, 100]
    for database in databases:
        await database.close()


async def test_the_limits_of_all_users_are_for_who_may_see_them(sqlite_url: str):
    database = Database(sqlite_url)
    notices = LimitNotices(database, limits_of(database), Webhooks(database, None), lambda _: {})
    with pytest.raises(Forbidden, match="USAGE_READ_ALL"):
        notices.follow(Principal(uuid4(), "ada", frozenset({Scope.USAGE_READ})), all_users=True)
    await database.close()
