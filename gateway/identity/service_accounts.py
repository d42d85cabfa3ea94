"""Service accounts: users that are programs. They own API keys, and have no password to sign in with."""

from sqlalchemy.exc import IntegrityError

from auth.principal import Principal
from auth.roles import BUILT_IN_ROLES, known_scopes
from auth.scopes import Scope
from db import queries
from db.clock import new_id, now
from db.engine import Database, WriteSession
from db.tables import User
from gateway.errors import InputIssues, InvalidInput, cut
from gateway.identity.profile import USERNAME

SERVICE = "SERVICE"
"""The `kind` of these users."""

NO_PASSWORD = "!"  # noqa: S105 - the hash of none
MAX_DISPLAY_NAME = 100


class ServiceAccounts:
    """Makes service accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, principal: Principal, username: str, *, role: str, display_name: str | None = None) -> User:
        """Make one. Raises InvalidInput, also for a role that allows more than the caller may do."""
        username = username.strip().lower()
        display_name = (display_name or "").strip() or None
        issues = InputIssues()
        if not USERNAME.fullmatch(username):
            issues.add(
                "username", "must have 1 to 64 letters, digits or . _ @ + - and begin and end with none of these signs."
            )
        if display_name is not None and not (len(display_name) <= MAX_DISPLAY_NAME and display_name.isprintable()):
            issues.add("displayName", f"must have at most {MAX_DISPLAY_NAME} printable characters.")
        user = User(
            id=new_id(),
            username=username,
            password_hash=NO_PASSWORD,
            kind=SERVICE,
            role=role,
            display_name=display_name,
            created_at=now(),
        )
        try:
            async with self._database.transaction() as tx:
                scopes = await _scopes_of(tx, role)
                if scopes is None:
                    issues.add("role", f"there is no role {cut(role)!r}.")
                elif not scopes <= principal.scopes:
                    missing = ", ".join(sorted(scope.name for scope in scopes - principal.scopes))
                    issues.add("role", f"allows more than the credentials of this request, which lack {missing}.")
                issues.check()
                tx.add(user)
        except IntegrityError as error:
            raise InvalidInput("username", f"{username!r} is taken.") from error
        return user


async def _scopes_of(tx: WriteSession, role: str) -> frozenset[Scope] | None:
    """Give what a role allows; None where there is none of this name."""
    if role in BUILT_IN_ROLES:
        return BUILT_IN_ROLES[role].scopes
    words = await queries.identity.scopes_of_role(tx, role) if role.isprintable() else None
    return None if words is None else known_scopes(words)
