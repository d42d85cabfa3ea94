"""What only identity refuses, beside the errors of `gateway.errors`.

GatewayError
├── Conflict      something else stands against a change; `code` says what
└── InvalidLink   a one-time link that was used, has expired, or never was one
"""

from gateway.errors import ErrorCode, GatewayError


class Conflict(GatewayError):
    """The change cannot be made while things are as they are. Its subclasses say what is in the way."""


class LastAdministrator(Conflict):
    """Nobody would be left who can administer the gateway."""

    code = ErrorCode.LAST_ADMINISTRATOR

    def __init__(self) -> None:
        super().__init__("This is the last active administrator. Make another user an administrator first.")


class RoleInUse(Conflict):
    """Users have the role."""

    code = ErrorCode.ROLE_IN_USE

    def __init__(self, name: str, users: int) -> None:
        super().__init__(f"The role {name!r} is in use ({users} users have it). Give them another role first.")


class InvalidLink(GatewayError):
    """The link leads nowhere any more."""

    code = ErrorCode.INVALID_LINK

    def __init__(self) -> None:
        super().__init__("The link is not valid: it was used, or it has expired. Ask an administrator for a new one.")
