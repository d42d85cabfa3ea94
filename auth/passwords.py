"""Passwords: hashed with Argon2id (RFC 9106) away from the event loop, and never kept."""

import secrets
from base64 import b64encode
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from anyio import CapacityLimiter, to_thread
from argon2.profiles import RFC_9106_LOW_MEMORY
from passlib.context import CryptContext  # pyright: ignore[reportMissingTypeStubs] - passlib has none

from auth.lane import Lane
from auth.password_policy import MAX_PASSWORD_LENGTH, PasswordPolicy, normal_form

_T = TypeVar("_T")

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without i, l, o, 0 and 1, which are mistaken for each other
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_GROUPS = 4
_GROUP_LENGTH = 5


class UnusablePassword(ValueError):
    """This cannot be anybody's password: it is too long, or no valid Unicode."""


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

    def __init__(
        self, cost: Argon2Cost | None = None, policy: PasswordPolicy | None = None, *, concurrency: int = 2
    ) -> None:
        cost = cost or Argon2Cost()
        context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__time_cost=cost.time_cost,
            argon2__memory_cost=cost.memory_kib,
            argon2__parallelism=cost.parallelism,
        )
        self._context = cast("_Context", context)
        self._policy = policy or PasswordPolicy()
        self._dummy = _hash_of_nothing(cost)
        self._limiter = CapacityLimiter(concurrency)
        self._lane = Lane(concurrency)

    def place(self, origin: Hashable, *, known: bool) -> AbstractContextManager[None]:
        """Hold a place in the line for a password of this origin. Entering it raises LaneFull."""
        return self._lane.place(origin, known=known)

    async def hash(self, password: str, *, known: bool = True) -> str:
        """Give the hash to store. The policy is asked before, with `problems`. Raises UnusablePassword."""
        normal = normal_form(password)
        if normal is None:
            raise UnusablePassword(f"a password has at most {MAX_PASSWORD_LENGTH} characters of valid Unicode")
        return await self._work(lambda: self._hash(normal), known=known)

    def make_up(self) -> str:
        """Make a password that the policy takes."""
        return generate_password(self._policy)

    async def problems(self, password: str, username: str = "") -> list[str]:
        """Tell what the policy has against a new password, all at once and away from the event loop."""
        return await self._work(lambda: self._policy.problems(password, username), known=True)

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
        normal = normal_form(password)
        if normal is None:
            return Verified(ok=False)  # at once, whoever it is for: nobody has such a password
        if password_hash is None or self._context.identify(password_hash) is None:
            self._context.verify_and_update(normal, self._dummy)
            return Verified(ok=False)
        ok, new_hash = self._context.verify_and_update(normal, password_hash)
        return Verified(ok, new_hash)


def _hash_of_nothing(cost: Argon2Cost) -> str:
    """Give a hash that no password has, and that takes as long to verify as any of this cost.

    Salt and digest are random, as long as those of a real one. To hash something would take `memory_kib` at each start.
    """
    salt, digest = (b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in (16, 32))
    return f"$argon2id$v=19$m={cost.memory_kib},t={cost.time_cost},p={cost.parallelism}${salt}${digest}"


def generate_password(policy: PasswordPolicy | None = None) -> str:
    """Make a password that can be read aloud and typed: four groups of five, 99 random bits.

    It is longer and has capitals only where the policy requires that.
    """
    policy = policy or PasswordPolicy()
    letters = _LETTERS + (_CAPITALS if "upper" in policy.required_classes else "")
    groups = max(_GROUPS, -(-(policy.min_length + 1) // (_GROUP_LENGTH + 1)))
    while True:
        parts = ("".join(secrets.choice(letters) for _ in range(_GROUP_LENGTH)) for _ in range(groups))
        password = "-".join(parts)
        if not policy.missing_classes(password):
            return password
