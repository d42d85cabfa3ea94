"""Passwords and secrets that are tried first: those that people choose, and those with a pattern."""

from itertools import pairwise
from typing import Any, cast

_LEAST_DISTINCT = 8
"""Characters. Of 32 hexadecimal digits by chance, fewer than one in ten million has so few different ones."""

_PIECE = 20
"""Characters that zxcvbn is given at once. Its time doubles with each letter that may stand for another (4@8({[<369): a
password of 64 of them takes 5 s, one of 20 takes 0.1 s."""

_LEAST_SCORE = 2
"""Of zxcvbn's 0 to 4: below it, fewer than a million guesses are enough."""


def is_common_password(password: str, username: str = "") -> bool:
    """Tell whether a password is on the lists, as it is or dressed up a little, or made of the user's name."""
    from zxcvbn import zxcvbn  # pyright: ignore[reportMissingTypeStubs] - it has none; loading its lists takes a while

    def is_weak(piece: str) -> bool:
        found = cast("dict[str, Any]", zxcvbn(piece, user_inputs=["ollagraph", username[:_PIECE]]))
        return found["score"] < _LEAST_SCORE

    # what takes a million guesses in one piece takes no fewer as a whole
    return all(is_weak(password[first : first + _PIECE]) for first in range(0, len(password), _PIECE))


def is_guessable_secret(secret: str) -> bool:
    """Tell whether a secret was hardly made by chance: few different characters, one piece over and over, or a run."""
    steps = [ord(after) - ord(before) for before, after in pairwise(secret)]
    run = max((steps.count(step) for step in (-1, 0, 1)), default=0)
    return len(set(secret)) < _LEAST_DISTINCT or _unit(secret) <= len(secret) // 2 or run >= 0.75 * len(steps)


def _unit(text: str) -> int:
    """Give the length of the shortest piece of which the text is a repetition; the end may cut the last one short."""
    lengths = range(1, len(text) // 2 + 1)
    return next((n for n in lengths if all(text[at] == text[at % n] for at in range(n, len(text)))), len(text))
