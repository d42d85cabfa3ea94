"""Which passwords may be chosen, after NIST SP 800-63B rev. 4 §3.1.1.2: long ones that nobody tries first.

Length counts, in characters of Unicode's form NFC. Classes of characters are required only where a setting says so:
NIST forbids it, since it makes passwords worse, but a certificate may ask for it. No password is refused for its age.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from auth.weak_secrets import is_common_password

MIN_LENGTH = 8
"""The fewest characters that NIST allows at all; 15 where the password is all that is asked for."""

MAX_PASSWORD_LENGTH = 256
"""Long enough for every phrase, short enough that nobody can keep us busy with one. NIST asks for 64 or more."""

_MAX_DECOMPOSED = 4 * MAX_PASSWORD_LENGTH
"""What is longer has more than the allowed characters in NFC, too, and is not worth the time to find out."""

_SHORTEST_NAME = 3
_LEAST_BESIDES_NAME = 5
"""Characters that must stand in a password besides the user's or the product's name."""

PRODUCT = "ollagraph"

CharacterClass = Literal["lower", "upper", "digit", "symbol"]

_CLASSES: Mapping[CharacterClass, tuple[str, Callable[[str], bool]]] = {
    "lower": ("a lower-case letter", str.islower),
    "upper": ("an upper-case letter", str.isupper),
    "digit": ("a digit", str.isdecimal),
    "symbol": ("a character that is neither a letter nor a digit, such as a space", lambda it: not it.isalnum()),
}


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """The rules for new passwords. Those that are in use already are not looked at."""

    min_length: int = MIN_LENGTH
    required_classes: frozenset[CharacterClass] = field(default_factory=frozenset[CharacterClass])

    def problems(self, password: str, username: str = "") -> list[str]:
        """Tell in sentences all that is wrong with a password that this user is to have; nothing if it is good.

        The sentences do not hold it. Takes up to 0.1 s, and 0.1 s more the first time: not for the event loop.
        """
        normal = normal_form(password)
        if normal is None:
            return [_NOT_UNICODE if _has_surrogates(password) else _TOO_LONG]
        found: list[str] = []
        if len(normal) < self.min_length:
            found.append(f"The password must have at least {self.min_length} characters.")
        found += [f"The password must contain {_CLASSES[name][0]}." for name in self.missing_classes(normal)]
        if _is_made_of_name(normal, (username, PRODUCT)):
            found.append(f"The password must be more than the user name or '{PRODUCT}' with little added.")
        elif is_common_password(normal, username):
            found.append("The password is one of the first that are tried. Take another.")
        return found

    def missing_classes(self, password: str) -> list[CharacterClass]:
        """Give the required classes of which the password has no character."""
        return [name for name, (_, is_one) in _CLASSES.items() if self._lacks(name, map(is_one, password))]

    def _lacks(self, name: CharacterClass, found: Iterable[bool]) -> bool:
        return name in self.required_classes and not any(found)


_TOO_LONG = f"The password must have at most {MAX_PASSWORD_LENGTH} characters."
_NOT_UNICODE = "The password contains characters that are not valid Unicode."


def normal_form(password: str) -> str | None:
    """Give the one form of a password that keyboards write in several (RFC 8265 §4.2.2: OpaqueString is in NFC).

    None for what cannot be anybody's password: too long, or with half of a surrogate pair, as JSON may hold.
    """
    if len(password) > _MAX_DECOMPOSED or _has_surrogates(password):
        return None
    normal = unicodedata.normalize("NFC", password)
    return normal if len(normal) <= MAX_PASSWORD_LENGTH else None


def _has_surrogates(password: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in password)


def _is_made_of_name(password: str, names: Iterable[str]) -> bool:
    """Tell whether hardly anything is left of a password without a name, written in either direction and any case."""
    text = password.casefold()
    for name in (name.casefold() for name in names if len(name) >= _SHORTEST_NAME):
        for written in (name, name[::-1]):
            if written in text and len(text.replace(written, "")) < _LEAST_BESIDES_NAME:
                return True
    return False
