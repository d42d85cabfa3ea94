"""The days of limits are those of the user's time zone, also when the user or the clock changes."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from db import queries
from db.clock import new_id
from db.engine import Database
from gateway.limits import NO_CONDITIONS, Asking, Conditions, LimitDimension, LimitRule, LimitWindow, Measure, Needs
from gateway.limits.rules import claims_of
from gateway.limits.status import status_of
from tests.support.gateways import RunningGateway
from tests.support.generations import COMPLETE
from tests.support.generations import asking as asking_for

ADA, KEY = new_id(), new_id()
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAILY = LimitRule(new_id(), "daily", Measure.REQUESTS, LimitWindow.DAY, 1, each=(LimitDimension.USER,))
ZONES = ("UTC", "Asia/Tokyo", "Pacific/Kiritimati", "America/New_York", "Asia/Kathmandu", "Pacific/Pago_Pago")


def asking(zone: str | None) -> Asking:
    return Asking(ADA, "user", api_key_id=KEY, time_zone=zone)


@pytest.mark.parametrize(
    ("each", "conditions", "begins"),
    [
        ([LimitDimension.USER], NO_CONDITIONS, 15),
        ([LimitDimension.API_KEY, LimitDimension.MODEL], NO_CONDITIONS, 15),
        ([], Conditions(user_id=ADA), 15),
        ([], Conditions(api_key_id=KEY), 15),
        ([], NO_CONDITIONS, 0),
        ([LimitDimension.MODEL], NO_CONDITIONS, 0),
    ],
)
def test_a_limit_on_one_user_has_their_zone(each: list[LimitDimension], conditions: Conditions, begins: int):
    rule = LimitRule(new_id(), "l", Measure.TOKENS, LimitWindow.DAY, 1, each=tuple(each), conditions=conditions)
    who = Asking(ADA, "user", api_key_id=KEY, model="m", time_zone="Asia/Tokyo")  # nine hours before UTC
    [claim] = claims_of([rule], who, Needs(1), NOON)
    assert claim.reserve.window_start.hour == begins


async def take(database: Database, zone: str | None, at: datetime) -> datetime | None:
    """Reserve one of the day's, and give when the window ends; None where it is used up."""
    [claim] = claims_of([DAILY], asking(zone), Needs(0), at)
    async with database.transaction() as tx:
        reserved = await queries.limit.reserve(tx, new_id(), [claim.reserve], at)
        found = await queries.limit.counters(tx, [claim.reserve.key])
    status = status_of(claim, found[claim.reserve.key], at)
    return None if reserved.full else status.resets_at


async def test_a_change_of_the_zone_neither_ends_a_window_nor_makes_one_shorter(database: Database):
    midnight = NOON.replace(hour=0) + timedelta(days=1)
    assert await take(database, None, NOON) == midnight
    assert await take(database, "Pacific/Kiritimati", NOON + timedelta(hours=1)) is None
    [claim] = claims_of([DAILY], asking("Pacific/Kiritimati"), Needs(0), midnight)
    async with database.reading() as session:
        counters = await queries.limit.counters(session, [claim.reserve.key])
    told = status_of(claim, counters[claim.reserve.key], midnight).resets_at
    assert await take(database, "Pacific/Kiritimati", midnight) == told == midnight + timedelta(hours=34)
    assert await take(database, "Pacific/Kiritimati", midnight + timedelta(hours=33)) is None
    assert await take(database, "Pacific/Kiritimati", midnight + timedelta(hours=34)) == midnight + timedelta(hours=58)


async def test_who_changes_the_zone_again_and_again_gets_no_more(database: Database):
    granted = [
        hour for hour in range(96) if await take(database, ZONES[hour % len(ZONES)], NOON + timedelta(hours=hour))
    ]
    assert len(granted) >= 3
    assert all(later - earlier >= 24 for earlier, later in pairwise(granted[1:]))


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
async def test_a_day_on_which_the_clock_changes_is_one_day(database: Database, day: str, hours: int):
    begin = datetime.fromisoformat(f"{day}T00:00:00+00:00") - timedelta(hours=1 if day < "2026-03-30" else 2)
    assert await take(database, "Europe/Berlin", begin) == begin + timedelta(hours=hours)
    assert await take(database, "Europe/Berlin", begin + timedelta(hours=hours, seconds=-1)) is None
    assert await take(database, "Europe/Berlin", begin + timedelta(hours=hours)) is not None


async def test_users_set_their_zone_and_reports_use_it(used_gateway: RunningGateway):
    update = (
        "mutation($input: UpdateProfileInput!) { updateProfile(input: $input) { ... on UpdateProfileSuccess { user "
        "{ timeZone } } ... on InvalidInput { issues { path } } } }"
    )
    wrong = (await used_gateway.run(update, {"input": {"timeZone": "Mars/Olympus"}}))["updateProfile"]
    assert wrong == {"issues": [{"path": ["timeZone"]}]}
    given = (await used_gateway.run(update, {"input": {"timeZone": "Asia/Kathmandu"}}))["updateProfile"]
    assert given == {"user": {"timeZone": "Asia/Kathmandu"}}
    await used_gateway.run(COMPLETE, asking_for("fake:count-3"))
    report = "query($input: UsageInput) { usage(input: $input) { rows { nodes { start } } } }"

    async def start(**input: str) -> datetime:
        [row] = (await used_gateway.run(report, {"input": input}))["usage"]["rows"]["nodes"][-1:]
        return datetime.fromisoformat(row["start"])

    assert (await start()).strftime("%H:%M") == "18:15"  # midnight in Kathmandu
    assert (await start(timeZone="UTC")).strftime("%H:%M") == "00:00"
    left = (await used_gateway.run(update, {"input": {"timeZone": None}}))["updateProfile"]
    assert left == {"user": {"timeZone": None}}
