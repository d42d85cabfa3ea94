"""Rotating API keys: a new secret under the same id, and for a time the old one beside it.

The row is locked while it is decided, so of two rotations at once one comes first. The other one is refused: as long as
the old secret works there are two that do, each known to somebody. Only a rotation without a time of grace goes
through, for a secret that has leaked, and ends all others.

Who gives an idempotency key gets a secret that is derived from it (`auth.api_keys.derive_api_key`), so a retry is told
the same one although nothing but its hash is kept. Without one it is random, and nobody can be told it again.
"""

import hashlib
from datetime import datetime, timedelta
from uuid import UUID

from auth import api_keys
from auth.principal import Principal
from db.clock import now
from db.engine import Database
from db.tables import ApiKey
from gateway.errors import IdempotencyKeyReused, InputIssues, InvalidInput
from gateway.identity.api_keys import NewApiKey, check_holds, managed_key
from gateway.identity.grants import Granter
from gateway.identity.known import KnownCallers
from gateway.identity.uses import KeyUses

DEFAULT_GRACE = timedelta(days=1)
MAX_GRACE = timedelta(days=30)

RETRY_TIME = timedelta(minutes=10)
"""How long a retry is told the secret again at least, where the time of grace is shorter: an answer may be lost."""

MAX_IDEMPOTENCY_KEY = 255


class Rotations:
    """Gives keys new secrets. `derivation_key` is the same at all replicas."""

    def __init__(self, database: Database, known: KnownCallers, key_uses: KeyUses, derivation_key: bytes) -> None:
        self._database = database
        self._known = known
        self._key_uses = key_uses
        self._derivation_key = derivation_key

    async def rotate(
        self, principal: Principal, key_id: UUID, *, grace: timedelta = DEFAULT_GRACE, idempotency_key: str | None
    ) -> NewApiKey:
        """Give a key that holds a new secret; the old one works for `grace` longer, or ends at once.

        The same `idempotency_key` again gives the same secret. Raises NotFound, Forbidden, IdempotencyKeyReused, and
        InvalidInput also where the secret before the last rotation still works.
        """
        _check(grace, idempotency_key)
        async with self._database.transaction() as tx:
            key = await managed_key(tx, principal, key_id)
            await (await Granter.of(tx, principal)).check_within(tx, key)
            check_holds(key)
            at = now()
            if idempotency_key is not None and key.rotation_key == _kept(idempotency_key):
                new = self._again(key, grace, idempotency_key, at)
            else:
                new = self._rotated(key, grace, idempotency_key, at)
        self._known.clear()
        return NewApiKey(self._key_uses.told(key), new.secret)

    def _rotated(
        self, key: ApiKey, grace: timedelta, idempotency_key: str | None, at: datetime
    ) -> api_keys.GeneratedKey:
        ends = key.previous_expires_at
        if grace and ends is not None and at < ends:
            raise InvalidInput(
                "id",
                f"was rotated, and the secret before works until {ends:%Y-%m-%d %H:%M:%S} UTC. Wait until then, or "
                "rotate with `graceSeconds: 0`, which ends all earlier secrets at once.",
            )
        if idempotency_key is None:
            new = api_keys.generate_api_key()
        else:
            new = self._derived(key.id, at, idempotency_key)
        key.previous_hash, key.previous_expires_at = key.secret_hash, at + grace
        key.secret_hash, key.prefix = new.secret_hash, new.prefix
        key.rotated_at = at
        key.rotation_key = None if idempotency_key is None else _kept(idempotency_key)
        return new

    def _again(self, key: ApiKey, grace: timedelta, idempotency_key: str, at: datetime) -> api_keys.GeneratedKey:
        """Give the secret of the last rotation, which was asked for under the same idempotency key."""
        rotated_at, ends = key.rotated_at or at, key.previous_expires_at or at
        if ends - rotated_at != grace:
            raise IdempotencyKeyReused
        new = self._derived(key.id, rotated_at, idempotency_key)
        if at >= max(ends, rotated_at + RETRY_TIME) or not api_keys.same_hash(new.secret_hash, key.secret_hash):
            raise InvalidInput(
                "idempotencyKey",
                "the API key was rotated under this key, and its secret can no longer be shown. To rotate it again, "
                "use a new idempotency key.",
            )
        return new

    def _derived(self, key_id: UUID, at: datetime, idempotency_key: str) -> api_keys.GeneratedKey:
        return api_keys.derive_api_key(self._derivation_key, str(key_id), at.isoformat(), idempotency_key)


def _kept(idempotency_key: str) -> str:
    return hashlib.sha256(idempotency_key.encode()).hexdigest()


def _check(grace: timedelta, idempotency_key: str | None) -> None:
    issues = InputIssues()
    if not timedelta(0) <= grace <= MAX_GRACE:
        issues.add("graceSeconds", f"must be from 0 to {MAX_GRACE // timedelta(seconds=1)}.")
    if idempotency_key is not None and not (
        1 <= len(idempotency_key) <= MAX_IDEMPOTENCY_KEY and idempotency_key.isprintable()
    ):
        issues.add("idempotencyKey", f"must have 1 to {MAX_IDEMPOTENCY_KEY} printable characters.")
    issues.check()
