"""What a user is called, how they are reached, and which password they may choose."""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from auth.passwords import PasswordHasher
from gateway.errors import InputIssues
from gateway.identity.api_keys import UNCHANGED, Unchanged
from gateway.time_zones import check_time_zone

MAX_DISPLAY_NAME = 100
MAX_EMAIL = 254
"""RFC 5321 §4.5.3.1.3, without the angle brackets."""

_EMAIL = re.compile(r"[^\s@<>()\",;:\\]+@[^\s@<>()\",;:\\]+")

TOMBSTONE = "deleted-"
"""What the names of deleted users begin with, and no other's."""

USERNAME = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,62}[a-z0-9])?")


class UserKind(StrEnum):
    """What kind of user it is."""

    PERSON = "PERSON"
    SERVICE = "SERVICE"


@dataclass(frozen=True, slots=True)
class Profile:
    """A name for people, an e-mail address and a time zone of the IANA database; None where there is none."""

    display_name: str | Unchanged | None = UNCHANGED
    email: str | Unchanged | None = UNCHANGED
    time_zone: str | Unchanged | None = UNCHANGED

    def columns(self, issues: InputIssues) -> dict[str, Any]:
        """Give the columns to write, and add to `issues` what cannot be written. Nothing and white space is null."""
        found: dict[str, Any] = {}
        if not isinstance(self.display_name, Unchanged):
            name = unicodedata.normalize("NFC", (self.display_name or "").strip()) or None
            if name is not None and (len(name) > MAX_DISPLAY_NAME or not name.isprintable()):
                issues.add("displayName", f"must have 1 to {MAX_DISPLAY_NAME} printable characters.")
            found["display_name"] = name
        if not isinstance(self.email, Unchanged):
            email = (self.email or "").strip() or None
            if email is not None and not (len(email) <= MAX_EMAIL and email.isprintable() and _EMAIL.fullmatch(email)):
                issues.add("email", f"must be an e-mail address with at most {MAX_EMAIL} characters.")
            found["email"] = email
        if not isinstance(self.time_zone, Unchanged):
            found["time_zone"] = zone = (self.time_zone or "").strip() or None
            if zone is not None:
                check_time_zone(zone, issues)
        return found


def checked_username(username: str, issues: InputIssues) -> str:
    """Give a name as it is stored, and add to `issues` what makes it unusable."""
    username = username.strip().lower()
    if not USERNAME.fullmatch(username):
        issues.add(
            "username", "must have 1 to 64 letters, digits or . _ @ + - and begin and end with none of these signs."
        )
    elif username.startswith(TOMBSTONE):
        issues.add("username", f"must not begin with {TOMBSTONE!r}, which marks deleted users.")
    return username


async def check_new_password(
    passwords: PasswordHasher, issues: InputIssues, field: str, password: str, username: str
) -> None:
    """Add to `issues` all that the policy has against this user's new password."""
    for problem in await passwords.problems(password, username):
        issues.add(field, problem)
