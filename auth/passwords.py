"""Passwords: hashed with Argon2id (RFC 9106) away from the event loop, and never kept."""

import secrets
import unicodedata
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from anyio import CapacityLimiter, to_thread
from argon2.profiles import RFC_9106_LOW_MEMORY
from passlib.context import CryptContext  # pyright: ignore[reportMissingTypeStubs] - passlib has none

from auth.lane import Lane

_T = TypeVar("_T")

MIN_PASSWORD_LENGTH = 8
"""NIST SP 800-63B §5.1.1.1."""

MAX_PASSWORD_LENGTH = 256
"""Long enough for every phrase, short enough that nobody can keep us busy with one."""

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without i, l, o, 0 and 1, which are mistaken for each other
_GROUPS = 4
_GROUP_LENGTH = 5


class PasswordPolicyError(ValueError):
    """The password may not be used. The message says why, to the user, and does not hold it."""


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """What one hash costs. The default is the second recommendation of RFC 9106 §4: 64 MiB and about 0.1 s."""

    time_cost: int = RFC_9106_LOW_MEMORY.time_cost
    memory_kib: int = RFC_9106_LOW_MEMORY.memory_cost
    parallelism: int = RFC_9106_LOW_MEMORY.parallelism


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether a password was right. `new_hash` is to be stored in place of the old one, which has become too weak."""

    ok: bool
    new_hash: str | None = None


class _Context(Protocol):
    """What is used of passlib's CryptContext, which has no types."""

    def hash(self, secret: str) -> str: ...
    def identify(self, hash: str) -> str | None: ...
    def verify_and_update(self, secret: str, hash: str) -> tuple[bool, str | None]: ...


class PasswordHasher:
    """Hashes passwords and verifies them.

    `concurrency` is how many are worked on at once: each takes `memory_kib`, so this bounds the memory that a flood
    of sign-ins can take. The others wait in a line, which is bounded for those who take a `place` in it.
    """

    def __init__(self, cost: Argon2Cost | None = None, *, concurrency: int = 2) -> None:
        cost = cost or Argon2Cost()
        context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__time_cost=cost.time_cost,
            argon2__memory_cost=cost.memory_kib,
            argon2__parallelism=cost.parallelism,
        )
        self._context = cast("_Context", context)
        self._dummy = self._context.hash(secrets.token_urlsafe())
        self._limiter = CapacityLimiter(concurrency)
        self._lane = Lane(concurrency)

    def place(self, origin: Hashable, *, known: bool) -> AbstractContextManager[None]:
        """Hold a place in the line for a password of this origin. Entering it raises LaneFull."""
        return self._lane.place(origin, known=known)

    async def hash(self, password: str) -> str:
        """Give the hash to store. Raises PasswordPolicyError for a password that may not be used."""
        check_password_policy(password)
        return await self._work(lambda: self._hash(_normal(password)), known=True)

    async def verify(self, password: str, password_hash: str | None, *, known: bool = True) -> Verified:
        """Tell whether the password is the one of this hash. Who is not `known` lets the others go first.

        Give None for a user that does not exist: it takes as long as for one that does, so that nobody can find out
        who has an account here. A hash of no known form never matches (so "!" locks an account), as slowly.
        """
        return await self._work(lambda: self._verify(password, password_hash), known=known)

    async def _work(self, compute: Callable[[], _T], *, known: bool) -> _T:
        async with self._lane.turn(known=known):
            return await to_thread.run_sync(compute, limiter=self._limiter)

    def _hash(self, password: str) -> str:
        return self._context.hash(password)

    def _verify(self, password: str, password_hash: str | None) -> Verified:
        if not _usable(password):
            return Verified(ok=False)  # at once, whoever it is for: nobody has such a password
        if password_hash is None or self._context.identify(password_hash) is None:
            self._context.verify_and_update(_normal(password), self._dummy)
            return Verified(ok=False)
        ok, new_hash = self._context.verify_and_update(_normal(password), password_hash)
        return Verified(ok, new_hash)


def check_password_policy(password: str) -> None:
    """Refuse a password that may not be used, with PasswordPolicyError.

    Only the length counts, in characters: rules about kinds of characters make passwords worse (NIST SP 800-63B
    §5.1.1.2).
    """
    if len(password) < MIN_PASSWORD_LENGTH:
        raise PasswordPolicyError(f"The password must have at least {MIN_PASSWORD_LENGTH} characters.")
    if len(password) > MAX_PASSWORD_LENGTH:
        raise PasswordPolicyError(f"The password must have at most {MAX_PASSWORD_LENGTH} characters.")
    if not _usable(password):
        raise PasswordPolicyError("The password contains characters that are not valid Unicode.")


def generate_password() -> str:
    """Make a password that can be read aloud and typed: four groups of five, 99 random bits."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
    return "-".join(groups)


def _usable(password: str) -> bool:
    """Tell whether this can be anybody's password: short enough, and no half of a surrogate pair, as JSON may hold."""
    return len(password) <= MAX_PASSWORD_LENGTH and not any("\ud800" <= letter <= "\udfff" for letter in password)


def _normal(password: str) -> str:
    """Give the one form of a password that keyboards write in several (RFC 8265 §4.2.2: OpaqueString is in NFC)."""
    return unicodedata.normalize("NFC", password)
