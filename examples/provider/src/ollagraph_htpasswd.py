"""Sign-in to Ollagraph with a file of users, a line for each: `id:name:hash:groups`.

    7:ada:$argon2id$v=19$...:staff,admins

The id is the subject: it stays with a person whatever their name becomes, and is never given to another. Hashes
are made with `python -c "from argon2 import PasswordHasher; print(PasswordHasher().hash(input()))"`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from auth.providers import ExternalIdentity, ProviderUnavailable, RoleMapping


@dataclass(frozen=True)
class User:
    """One line of the file."""

    id: str
    name: str
    hash: str
    groups: frozenset[str]


class HtpasswdProvider:
    """Signs in the users of a file.

    Its settings are `file`, the path, and `admins`, the group whose role is admin; everybody else is a user.
    """

    name = "htpasswd"
    label = "Company account"

    def __init__(self, settings: Mapping[str, str]) -> None:
        if not settings.get("file"):
            raise ValueError("the setting 'file' is missing: the path of a file of users")
        self._file = Path(settings["file"])
        admins = settings.get("admins")
        self._roles = RoleMapping(((admins, "admin"),) if admins else (), default="user")
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash("nobody's password")

    async def verify(self, username: str, password: str) -> ExternalIdentity | None:
        """Tell who signs in. An unknown name takes as long as a wrong password, in a thread of its own."""
        return await to_thread.run_sync(self._verify, username, password)

    async def aclose(self) -> None:
        """Close nothing: no file stays open."""

    def _verify(self, username: str, password: str) -> ExternalIdentity | None:
        user = next((user for user in self._users() if user.name == username), None)
        try:
            self._hasher.verify(user.hash if user else self._nobody, password)
        except (VerificationError, InvalidHashError):
            return None
        if user is None:
            return None
        return ExternalIdentity(
            self.name, user.id, user.name, groups=user.groups, role=self._roles.role_of(user.groups)
        )

    def _users(self) -> list[User]:
        try:
            lines = self._file.read_text().splitlines()
        except OSError as error:
            raise ProviderUnavailable(self.name, str(error)) from error
        return [
            User(number, name, hashed, frozenset(filter(None, groups.split(","))))
            for line in lines
            if line.strip() and not line.startswith("#")
            for number, name, hashed, groups in [line.split(":", 3)]
        ]
