"""The device's side: it gets two codes, shows one, and polls with the other until a person has decided.

Strangers begin such sign-ins, so those that come to nothing are counted by address, as wrong passwords are, and no more
than `MAX_WAITING` wait at once. A device that polls faster than its interval has to wait longer from then on.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from auth.client import Client, origin
from auth.device_codes import (
    generate_device_code,
    generate_user_code,
    hash_device_code,
    hash_user_code,
    is_device_code,
    read_user_code,
)
from db import queries
from db.clock import new_id, now
from db.engine import Database
from db.queries import Subject
from db.tables import DeviceCode
from gateway.errors import InvalidInput, Overloaded
from gateway.identity.attempts import ADDRESS_FACTOR, Attempts, Count
from gateway.identity.devices.refusals import (
    DeviceSignInDenied,
    DeviceSignInExpired,
    DeviceSignInPending,
    DeviceSignInTooFast,
)
from gateway.identity.sessions import DEVICE_PROVIDER, Sessions, SignedIn
from gateway.identity.uses import address_of
from gateway.tasks import purge_regularly

LIFETIME = timedelta(minutes=10)
"""How long a person may take to approve."""

POLL_INTERVAL, INTERVAL_STEP, LONGEST_INTERVAL = 5, 5, 60
"""Seconds between two polls: at first, how much longer after one that came too early (RFC 8628 §3.5), and at most."""

TOLERANCE = timedelta(milliseconds=500)
"""How much too early a poll may come: a clock that ticks every five seconds does not keep to the millisecond."""

MAX_WAITING = 100_000
"""Devices that wait at once: nobody's right is to fill the database."""

MAX_CLIENT_NAME = 100

PURGE_SECONDS = 60

ATTEMPTS = 5
"""Codes that are made before giving up, where each is somebody else's."""

STARTS = "   device"
"""The name by which sign-ins that were begun are counted, which nobody can type."""

TOLD = "devices that began to sign in from this address"


@dataclass(frozen=True, slots=True)
class StartedDeviceSignIn:
    """What a device is told. Nothing but hashes of its codes is kept."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    verification_uri: str
    expires_at: datetime
    interval_ms: int

    @property
    def verification_uri_complete(self) -> str:
        """The page with the code already in it."""
        return f"{self.verification_uri}={self.user_code}"


class DeviceSignIns:
    """Begins sign-ins of devices and finishes them. `public_url` is the address of the page where a person approves.

    Without it, the page is taken to be where the device reached the gateway.
    """

    def __init__(self, database: Database, sessions: Sessions, attempts: Attempts, public_url: str | None) -> None:
        self._database = database
        self._sessions = sessions
        self._attempts = attempts
        self._public_url = public_url

    async def start(self, client_name: str | None, client: Client) -> StartedDeviceSignIn:
        """Begin a sign-in for a device that calls itself so. Raises InvalidInput, AccountLocked, Overloaded."""
        name = _checked_name(client_name, client)
        counts = self._counts(origin(client.host))
        await self._attempts.check(counts, TOLD)  # refusals must not keep the one writer of SQLite busy
        async with self._database.reading() as session:
            waiting = await queries.device.count(session, now())
        if waiting >= MAX_WAITING:
            raise Overloaded("Too many devices wait to sign in. Try again in a few minutes.")
        for attempt in range(ATTEMPTS):
            device_code, user_code, at = generate_device_code(), generate_user_code(), now()
            row = DeviceCode(
                id=new_id(),
                device_hash=hash_device_code(device_code),
                user_code_hash=hash_user_code(read_user_code(user_code) or ""),
                client=name,
                address=address_of(client),
                created_at=at,
                expires_at=at + LIFETIME,
                poll_interval=POLL_INTERVAL,
            )
            try:
                async with self._database.transaction() as tx:
                    await self._attempts.count(tx, counts, TOLD)
                    tx.add(row)
            except IntegrityError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                page = f"{self._public_url or client.reached or ''}/#device"
                return StartedDeviceSignIn(device_code, user_code, page, row.expires_at, POLL_INTERVAL * 1000)
        raise AssertionError("unreachable")

    async def finish(self, device_code: str, client: Client) -> SignedIn:
        """Begin the session of the person who approved the device; called again and again until they have.

        Raises DeviceSignInPending, DeviceSignInTooFast, DeviceSignInDenied, DeviceSignInExpired.
        """
        found = None
        if is_device_code(device_code):
            async with self._database.reading() as session:
                found = await queries.device.by_device_code(session, hash_device_code(device_code))
        if found is None:
            raise DeviceSignInExpired
        early = _early(_open(found), now())
        if early and found.poll_interval >= LONGEST_INTERVAL:  # it costs no write to poll without end
            raise DeviceSignInTooFast(early)
        row = await self._noted_poll(found.id)
        if row.approved_at is None or row.user_id is None:
            raise DeviceSignInPending(row.poll_interval * 1000)
        return await self._signed_in(row, row.user_id, client)

    async def run(self) -> None:
        """Remove the codes that have expired, until cancelled."""
        await purge_regularly("codes of devices that have expired", self._purge, PURGE_SECONDS)

    async def _purge(self) -> None:
        async with self._database.transaction() as tx:
            await queries.device.purge(tx, now())

    async def _noted_poll(self, device_code_id: UUID) -> DeviceCode:
        """Note a poll, and give the device; of several at once, those behind the first come too early."""
        async with self._database.transaction() as tx:
            row = _open(await queries.device.lock(tx, device_code_id))
            early = _early(row, now())
            if early:
                row.poll_interval = min(row.poll_interval + INTERVAL_STEP, LONGEST_INTERVAL)
                early = _early(row, now())
            else:
                row.polled_at = now()
        if early:
            raise DeviceSignInTooFast(early)
        return row

    async def _signed_in(self, row: DeviceCode, user_id: UUID, client: Client) -> SignedIn:
        """Begin the session and use the approval up, in one transaction: of several at once, one gets through.

        The user is locked first, as where all of their sessions are ended.
        """
        async with self._database.transaction() as tx:
            user = await queries.device.approver(tx, user_id)
            if user is None:
                raise DeviceSignInDenied
            named = replace(client, user_agent=row.client)
            signed_in = await self._sessions.begin_within(tx, user, named, DEVICE_PROVIDER)
            if not await queries.device.use(tx, row.id, now()):
                _open(await queries.device.lock(tx, row.id))
                raise DeviceSignInExpired
            await self._attempts.take_back(tx, self._counts(origin(row.address)))
        return signed_in

    def _counts(self, address: str) -> list[Count]:
        return [Count(Subject(STARTS, address), ADDRESS_FACTOR * self._attempts.policy.failures)]


def _open(row: DeviceCode | None) -> DeviceCode:
    """Give a device that may still get a session. Raises DeviceSignInExpired, DeviceSignInDenied."""
    if row is None or row.used_at is not None or row.expires_at <= now():
        raise DeviceSignInExpired
    if row.denied_at is not None:
        raise DeviceSignInDenied
    return row


def _early(row: DeviceCode, at: datetime) -> int:
    """Give how many milliseconds too early a poll comes; 0 for one that does not."""
    if row.polled_at is None:
        return 0
    left = row.polled_at + timedelta(seconds=row.poll_interval) - at
    return ceil(left.total_seconds() * 1000) if left > TOLERANCE else 0


def _checked_name(name: str | None, client: Client) -> str:
    """Give the name of a device for people, by default its User-Agent. Raises InvalidInput."""
    if name is None:
        return client.user_agent[:MAX_CLIENT_NAME] or "a device without a name"
    name = name.strip()
    if not name or len(name) > MAX_CLIENT_NAME or not name.isprintable():
        raise InvalidInput("clientName", f"must have 1 to {MAX_CLIENT_NAME} printable characters.")
    return name
