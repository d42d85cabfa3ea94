"""The person's side: they type the code that the device shows, see who asks, and approve or deny.

A code has 34 bits, so guesses are counted, by the person and by their address, before a code is looked up. Only a
session of a person approves: what a leaked API key can do ends with the key, and does not grow into a session.
"""

from uuid import UUID

import anyio

from auth.client import Client, origin
from auth.device_codes import hash_user_code, read_user_code
from auth.principal import Principal
from db import queries
from db.clock import now
from db.engine import Database
from db.queries import Subject
from db.tables import DeviceCode
from gateway.errors import Forbidden, InvalidInput
from gateway.identity.attempts import ADDRESS_FACTOR, ANY_ADDRESS, Attempts, Count

GUESSES = "   code"
"""The name by which codes are counted that nobody's device shows; no user can have it."""

TOLD = "wrong codes"


class DeviceApprovals:
    """Shows people which device waits with a code, and takes their decision."""

    def __init__(self, database: Database, attempts: Attempts) -> None:
        self._database = database
        self._attempts = attempts

    async def request(self, principal: Principal, user_code: str, client: Client) -> DeviceCode:
        """Give the device that waits with this code.

        Raises Forbidden for who is no signed-in person; InvalidInput where no device waits with it; AccountLocked.
        """
        _session_of(principal)
        letters = read_user_code(user_code)
        if letters is None:
            raise InvalidInput("userCode", "must be the eight letters that the device shows, such as WDJB-MJHT.")
        counts = self._counts(principal, client)
        await self._attempts.check(counts, TOLD)
        with anyio.CancelScope(shield=True):  # a client who leaves has guessed all the same
            async with self._database.transaction() as tx:
                await self._attempts.count(tx, counts, TOLD)
        async with self._database.reading() as session:
            found = await queries.device.waiting(session, hash_user_code(letters), now())
        if found is None:
            raise _nobody_waits()
        with anyio.CancelScope(shield=True):
            async with self._database.transaction() as tx:
                await self._attempts.take_back(tx, counts)
        return found

    async def approve(self, principal: Principal, user_code: str, client: Client) -> DeviceCode:
        """Let the device that waits with this code sign in as the caller. Raises what `request` raises."""
        return await self._decide(principal, user_code, client, approve=True)

    async def deny(self, principal: Principal, user_code: str, client: Client) -> DeviceCode:
        """Let the device that waits with this code not sign in. Raises what `request` raises."""
        return await self._decide(principal, user_code, client, approve=False)

    async def _decide(self, principal: Principal, user_code: str, client: Client, *, approve: bool) -> DeviceCode:
        """Write the decision, in a transaction in which the caller's session is seen to hold.

        It is locked: whoever ends all sessions of the user at this moment finds the approval, and takes it back.
        """
        found = await self.request(principal, user_code, client)
        async with self._database.transaction() as tx:
            at = now()
            session = await queries.session.session_to_end(tx, _session_of(principal))
            if session is None or session.revoked_at is not None or session.expires_at <= at:
                raise Forbidden("Your session has ended. Sign in again.")
            decided = await queries.device.decide(tx, found.id, principal.user_id, at, approve=approve)
        if decided is None:
            raise _nobody_waits()
        return decided

    def _counts(self, principal: Principal, client: Client) -> list[Count]:
        failures = self._attempts.policy.failures
        return [
            Count(Subject(f"{GUESSES} {principal.user_id}", ANY_ADDRESS), failures),
            Count(Subject(GUESSES, origin(client.host)), ADDRESS_FACTOR * failures),
        ]


def _session_of(principal: Principal) -> UUID:
    """Give the session of a person. Raises Forbidden for an API key, and before the first password was changed."""
    if principal.session_id is None:
        raise Forbidden("Only a signed-in person can approve or deny a device; an API key cannot.")
    if principal.must_change_password:
        raise Forbidden("Choose a password of your own first, with the mutation `changePassword`.")
    return principal.session_id


def _nobody_waits() -> InvalidInput:
    return InvalidInput(
        "userCode", "no device waits with this code: it is mistyped, was used, or has expired. Compare the two."
    )
