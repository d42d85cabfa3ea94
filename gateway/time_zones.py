"""The time zones by which days and months are reckoned."""

from zoneinfo import ZoneInfo

from gateway.errors import InputIssues, InvalidInput

LONGEST_ZONE = 64
"""Characters in the name of a time zone."""


def time_zone(name: str, field: str) -> ZoneInfo:
    """Find a zone of the IANA database. Raises InvalidInput naming `field`."""
    try:
        if 1 <= len(name) <= LONGEST_ZONE and name.isascii() and name.isprintable():
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # there is none, no zone can be called so, or it is a folder of zones
        pass
    raise InvalidInput(field, "must be a time zone of the IANA database, such as Europe/Berlin.")


def check_time_zone(name: str, issues: InputIssues, field: str = "timeZone") -> None:
    """Add to `issues` what is no zone of the IANA database."""
    try:
        time_zone(name, field)
    except InvalidInput as error:
        issues.add(field, error.issues[0].message)


def stored_zone(name: str | None) -> ZoneInfo:
    """Give a zone that was checked when it was stored: UTC where there is none, or this machine has it no longer."""
    try:
        return time_zone(name or "UTC", "timeZone")
    except InvalidInput:
        return ZoneInfo("UTC")
