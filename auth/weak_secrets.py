"""Passwords and secrets that are tried first: those on the lists of what people choose, and those with a pattern."""

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

_LIST = Path(__file__).with_name("common_passwords.txt")
_LOOKALIKES = str.maketrans("@4301$57!", "aaeolssti")
_AFFIXES = re.compile(r"^[^a-z]{0,4}|[^a-z]+$")
_LONGEST_AFFIX = 4
_LEAST_DISTINCT = 8
"""Characters. Of 32 hexadecimal digits by chance, fewer than one in ten million has so few different ones."""


def is_common_password(password: str, username: str = "") -> bool:
    """Tell whether a password is on the lists, as it is or dressed up a little, or made of the user's name."""
    given = password.lower()
    words = _common() | ({username.lower()} if username else set[str]())
    unit = _unit(given)
    if given in words or unit in words or len(unit) <= _LONGEST_AFFIX or _is_run(given):
        return True
    for text in (given, given.translate(_LOOKALIKES)):
        word = _AFFIXES.sub("", text)
        rest = given.replace(word, "", 1) if word in given else given[len(word) :]
        if word in words and (len(rest) <= _LONGEST_AFFIX or rest in words):
            return True
    return False


def is_guessable_secret(secret: str) -> bool:
    """Tell whether a secret was hardly made by chance: few different characters, or one piece over and over."""
    return len(set(secret)) < _LEAST_DISTINCT or len(_unit(secret)) <= len(secret) // 2 or _is_run(secret.lower())


def _unit(text: str) -> str:
    """Give the shortest piece of which the text is a repetition; the end may cut the last one short."""
    for length in range(1, len(text) // 2 + 1):
        if all(text[at] == text[at % length] for at in range(length, len(text))):
            return text[:length]
    return text


def _is_run(text: str) -> bool:
    """Tell whether most characters follow the one before them, up or down, as in 12345678, abcd1234 and zyxwvuts."""
    steps = Counter(ord(after) - ord(before) for before, after in pairwise(text))
    return max(steps[step] for step in (-1, 0, 1)) >= 0.75 * (len(text) - 1)


@cache
def _common() -> frozenset[str]:
    return frozenset(_LIST.read_text(encoding="ascii").split())
