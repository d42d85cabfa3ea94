"""Text that goes into LDAP filters and names, so that nobody's user name can change what they say."""

import re
from uuid import UUID

_PLACEHOLDER = re.compile(r"\{(username|dn)\}")
_SPACED = re.compile(r"\s*(?<!\\)([,=+])\s*")


def escaped(value: str) -> str:
    """Escape a value for a filter (RFC 4515 §3) or a distinguished name (RFC 4514 §2.4).

    Both take `\\xx` for any byte, so everything but ASCII letters and digits becomes that. No list of special
    characters has to be right.
    """
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:02x}" for byte in value.encode())


def filled(template: str, **values: str) -> str:
    """Put escaped values into a template with `{username}` or `{dn}`. A placeholder within a value stays as it is."""
    return _PLACEHOLDER.sub(lambda found: escaped(values[found[1]]) if found[1] in values else found[0], template)


def normal_group(name: str) -> str:
    """Give the one form of a group's name or distinguished name, which are compared without regard to case."""
    return _SPACED.sub(r"\1", name.strip()).casefold()


def subject_text(attribute: str, value: bytes) -> str:
    """Give a subject as text. Active Directory's `objectGUID` is 16 bytes, and written as its own tools write it."""
    if attribute.lower() == "objectguid" and len(value) == 16:
        return str(UUID(bytes_le=value))
    return value.decode("utf-8")
