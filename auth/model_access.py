"""Which models a caller may use: lists of patterns, such as `llama3*`, of groups and of API keys."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

MAX_PATTERNS = 100
"""Of one list."""

MAX_PATTERN = 255
"""Characters of one pattern: as many as a model's name may have."""


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """Every list must allow a model, and any of its patterns does; no lists allow all."""

    lists: tuple[frozenset[str], ...] = ()

    def allows(self, model: str) -> bool:
        """Tell whether a model of this name may be used."""
        return all(any(matches(pattern, model) for pattern in patterns) for patterns in self.lists)

    def narrowed(self, patterns: Sequence[str] | None) -> "ModelAccess":
        """Give the access that one more list leaves; None is no list."""
        return self if patterns is None else ModelAccess((*self.lists, frozenset(patterns)))


ALL_MODELS = ModelAccess()


def access_of_groups(lists: Iterable[Sequence[str] | None]) -> ModelAccess:
    """Give what the groups of a user allow: what any of them does. A group without a list allows all, as no group."""
    found = list(lists)
    if not found or any(patterns is None for patterns in found):
        return ALL_MODELS
    return ModelAccess((frozenset(pattern for patterns in found for pattern in patterns or ()),))


def matches(pattern: str, model: str) -> bool:
    """Tell whether a name is meant by a pattern: `*` stands for any characters, and case does not count.

    A regular expression would try all ways to share the name among the stars; the first place for each part is enough.
    """
    name, (first, *others) = model.casefold(), _parts(pattern)
    if not others:
        return name == first
    *middle, last = others
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def covers(outer: str, inner: str) -> bool:
    """Tell whether a pattern means all the names that another one does."""
    # What a star stands for can be any characters, so also one that no pattern holds: only a star matches that.
    return matches(outer, inner.replace("*", "\0"))


@lru_cache(maxsize=4096)
def _parts(pattern: str) -> tuple[str, ...]:
    """Give what stands between the stars."""
    return tuple(pattern.casefold().split("*"))


def pattern_problem(pattern: str) -> str | None:
    """Say what is wrong with a pattern; None where it can be used."""
    if not 1 <= len(pattern) <= MAX_PATTERN or not pattern.isprintable() or pattern != pattern.strip():
        return f"must have 1 to {MAX_PATTERN} printable characters, without white space around them."
    if pattern.count("*") > MAX_STARS:
        return f"must have at most {MAX_STARS} stars."
    return None


MAX_STARS = 4
"""In one pattern, which is for people to read."""
