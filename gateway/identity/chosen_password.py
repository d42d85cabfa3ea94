"""Whether a password may be chosen."""

from auth.passwords import PasswordHasher
from gateway.errors import InputIssues


async def check_new_password(
    passwords: PasswordHasher, issues: InputIssues, field: str, password: str, username: str
) -> None:
    """Add to `issues` all that the policy has against this user's new password."""
    for problem in await passwords.problems(password, username):
        issues.add(field, problem)
