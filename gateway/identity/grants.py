"""What a key may be granted: no more scopes than its owner and its maker have, and no more than a key that makes it.

Whoever asks with a key can make, change and rotate only keys that are as narrow as that one in each way: scopes,
models, networks, origins and expiry. What is not given is then taken from that key. A rotation shows a secret, so it
counts as making a key.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import eq

from auth.addresses import NotAnAddress
from auth.key_limits import MAX_PLACES, canonical_network, canonical_origin, network_covers
from auth.model_access import MAX_PATTERNS, covers, pattern_problem
from auth.principal import ContentPolicy, Principal
from auth.scopes import Scope
from db import queries
from db.clock import now
from db.engine import WriteSession
from db.tables import ApiKey
from gateway.errors import Forbidden, InputIssues, cut
from gateway.identity.rights import acting_scopes

MAX_KEY_NAME = 100


class _NotOne(ValueError):
    """A value of a list is refused; the message says why."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """One kind of list: how long it may be, how a value is read, and when one value allows all that another does."""

    field: str
    most: int
    read: Callable[[str], str]
    covers: Callable[[str, str], bool]


def _pattern(text: str) -> str:
    if problem := pattern_problem(text):
        raise _NotOne(problem)
    return text


def _origin(text: str) -> str:
    try:
        return canonical_origin(text)
    except NotAnAddress:
        raise _NotOne(f"must be an origin such as https://app.example, not {cut(text)!r}.") from None


def _network(text: str) -> str:
    try:
        return canonical_network(text)
    except NotAnAddress:
        raise _NotOne(f"must be an address, or a network such as 10.0.0.0/8, not {cut(text)!r}.") from None


MODELS = _Limit("models", MAX_PATTERNS, _pattern, covers)
ORIGINS = _Limit("allowedOrigins", MAX_PLACES, _origin, eq)
NETWORKS = _Limit("allowedNetworks", MAX_PLACES, _network, network_covers)


@dataclass(frozen=True, slots=True)
class Granter:
    """Who grants: the caller, and the key that they ask with, if it is one."""

    principal: Principal
    key: ApiKey | None

    @classmethod
    async def of(cls, tx: WriteSession, principal: Principal) -> "Granter":
        """Look up the key of the caller as it is now."""
        if principal.api_key_id is None:
            return cls(principal, None)
        found = await queries.api_key.api_keys_by_id(tx, [principal.api_key_id])
        if principal.api_key_id not in found:
            raise Forbidden("The API key of this request has been deleted.")
        return cls(principal, found[principal.api_key_id])

    async def check_within(self, tx: WriteSession, key: ApiKey) -> None:
        """Refuse a key that allows more than the credentials of the caller. Raises Forbidden.

        One's own keys are always within a session of one's own. For those of others, `acting_scopes` decides, too.
        """
        own = self.key
        if key.user_id != self.principal.user_id and not set(key.scopes) <= {*await acting_scopes(tx, self.principal)}:
            raise Forbidden("This API key has scopes that the credentials of this request do not have.")
        if own is not None and not (
            set(key.scopes) <= set(own.scopes)
            and _within(MODELS, key.models, own.models)
            and _within(ORIGINS, key.origins, own.origins)
            and _within(NETWORKS, key.networks, own.networks)
            and ContentPolicy.read(key.content_policy).rank <= ContentPolicy.read(own.content_policy).rank
            and (own.expires_at is None or (key.expires_at is not None and key.expires_at <= own.expires_at))
        ):
            raise Forbidden("This API key allows more than the one of this request: other credentials are needed.")


def checked_name(issues: InputIssues, name: str) -> str:
    """Give the name of a key without white space around it."""
    name = name.strip()
    if not 1 <= len(name) <= MAX_KEY_NAME or not name.isprintable():
        issues.add("name", f"must have 1 to {MAX_KEY_NAME} printable characters.")
    return name


def checked_scopes(
    issues: InputIssues, granter: Granter, owners: frozenset[Scope], wanted: Iterable[Scope]
) -> list[str]:
    """Give the scopes in the order in which they are stored."""
    granted = frozenset(wanted)
    if not granted:
        issues.add("scopes", "must name at least one scope.")
    for whose, allowed in (("creator", granter.principal.scopes), ("owner", owners)):
        if not granted <= allowed:
            missing = ", ".join(sorted(scope.name for scope in granted - allowed))
            issues.add("scopes", f"a key cannot have more scopes than its {whose}, who lacks {missing}.")
            break
    return sorted(granted)


def checked_expiry(issues: InputIssues, granter: Granter, expires_at: datetime | None) -> datetime | None:
    """Give when the key ends: with the granter's key at the latest."""
    if expires_at is not None and expires_at <= now():
        issues.add("expiresAt", "must be in the future.")
    latest = None if granter.key is None else granter.key.expires_at
    if latest is None:
        return expires_at
    if expires_at is not None and expires_at > latest:
        issues.add("expiresAt", f"must not be later than the expiry of the key of this request, {latest}.")
    return expires_at or latest


def checked_models(issues: InputIssues, granter: Granter, models: Sequence[str] | None) -> list[str] | None:
    """Give the patterns of models; None for no limit."""
    return _checked(issues, MODELS, models, granter.key and granter.key.models)


def checked_origins(issues: InputIssues, granter: Granter, origins: Sequence[str] | None) -> list[str] | None:
    """Give the origins in their one form; None for no limit."""
    return _checked(issues, ORIGINS, origins, granter.key and granter.key.origins)


def checked_networks(issues: InputIssues, granter: Granter, networks: Sequence[str] | None) -> list[str] | None:
    """Give the networks in CIDR form; None for no limit."""
    return _checked(issues, NETWORKS, networks, granter.key and granter.key.networks)


def checked_content_policy(issues: InputIssues, granter: Granter, policy: ContentPolicy | None) -> str | None:
    """Give what may be kept of what is asked with the key; None for no limit."""
    within = None if granter.key is None else granter.key.content_policy
    if policy is None or within is None:
        return within or policy
    if policy.rank > ContentPolicy.read(within).rank:
        issues.add("contentPolicy", f"the key of this request keeps no more than {within}.")
    return policy


def _checked(
    issues: InputIssues, limit: _Limit, values: Sequence[str] | None, within: list[str] | None
) -> list[str] | None:
    """Read a list and tell of every value that is wrong; without one, it is that of the granter's key."""
    if values is None:
        return within
    if not 1 <= len(values) <= limit.most:
        issues.add(limit.field, f"must have 1 to {limit.most} values, or be null for no limit.")
        return None
    found: list[str] = []
    for number, value in enumerate(values):
        try:
            found.append(limit.read(value))
        except _NotOne as error:
            issues.add(f"{limit.field}[{number}]", str(error))
            continue
        if within is not None and not _within(limit, found[-1:], within):
            issues.add(f"{limit.field}[{number}]", "the key of this request does not allow this.")
    return list(dict.fromkeys(found))


def _within(limit: _Limit, values: list[str] | None, outer: list[str] | None) -> bool:
    """Tell whether one list allows no more than another; None allows all."""
    if outer is None:
        return True
    return values is not None and all(any(limit.covers(allowed, value) for allowed in outer) for value in values)
