"""The time zones by which days and months are reckoned."""

from zoneinfo import ZoneInfo

from gateway.errors import InvalidInput

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
