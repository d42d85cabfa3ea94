"""The built-in provider: the gateway's own accounts, with passwords hashed here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from auth.passwords import PasswordHasher
from auth.providers.protocol import ExternalIdentity

BUILT_IN = "password"


@dataclass(frozen=True, slots=True)
class StoredPassword:
    """What is stored of one account: its id, its name, and the hash, which is None for an account without password."""

    subject: str
    username: str
    password_hash: str | None = field(repr=False)


LookUp = Callable[[str], Awaitable[StoredPassword | None]]
"""Finds an account by the name that was typed; None for an unknown or disabled one."""

Store = Callable[[StoredPassword, str], Awaitable[None]]
"""Stores a new hash of the same password in the place of the old one, unless that is another one by now."""


class BuiltInPasswords:
    """Verifies passwords of the gateway's own accounts, which `look_up` finds.

    An unknown name takes as long as a wrong password. `store` is called with a stronger hash where the old one has
    become too weak.
    """

    name = BUILT_IN
    label = "Password"

    def __init__(self, hasher: PasswordHasher, look_up: LookUp, store: Store) -> None:
        self._hasher = hasher
        self._look_up = look_up
        self._store = store

    async def verify(self, username: str, password: str, *, known: bool = True) -> ExternalIdentity | None:
        """Tell who signs in. Who is not `known` lets others go first where many wait (`PasswordHasher.verify`)."""
        stored = await self._look_up(username)
        verified = await self._hasher.verify(password, stored.password_hash if stored else None, known=known)
        if stored is None or not verified.ok:
            return None
        if verified.new_hash is not None:
            await self._store(stored, verified.new_hash)
        return ExternalIdentity(self.name, stored.subject, stored.username)

    async def aclose(self) -> None:
        """Close nothing: the hasher belongs to the caller."""
