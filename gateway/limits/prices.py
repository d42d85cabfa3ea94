"""Prices of models: which one holds at a moment, and what a generation costs at it.

A price is never changed. A new one, of the same pattern, holds instead from its `valid_from` on; what has been written
into the ledger keeps the cost that it has. Nothing here is a float.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from auth.model_access import matches, pattern_problem
from auth.principal import AuthMethod, Principal
from db import queries
from db.clock import new_id, now
from db.engine import Database, ReadSession, WriteSession
from db.queries import PriceChoice
from db.tables import Price
from gateway.errors import InputIssues, InvalidInput, LimitExceeded
from gateway.money import CURRENCY_RULE, DIGITS, LARGEST_NANO, MINOR_UNITS, nano_of

MILLION = 1_000_000

MOST_PER_MILLION = 1_000_000_000
"""Units of a currency for a million tokens."""

MAX_PATTERNS = 1_000
"""Patterns that have prices: all of them are in memory."""

KNOWN_BEFORE = timedelta(days=1)
"""How long before now a list reaches that was read for now: ends of generations may wait for the database."""

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NewPrice:
    """A price to be set, in units of `currency` for a million tokens.

    `model` is a pattern. `cached` None is the price of other prompt tokens; `valid_from` None is now.
    """

    model: str
    currency: str
    prompt: Decimal
    completion: Decimal
    cached: Decimal | None = None
    valid_from: datetime | None = None

    def row(self, set_by: UUID | None, at: datetime) -> Price:
        """Give the row to write. Raises InvalidInput, with all that is wrong."""
        issues = InputIssues()
        if reason := pattern_problem(self.model):
            issues.add("model", reason)
        if self.currency not in MINOR_UNITS:
            issues.add("currency", f"must be {CURRENCY_RULE}")
        valid_from = self.valid_from or at
        if not EARLIEST <= valid_from < LATEST:
            issues.add("validFrom", f"must be within the years {EARLIEST.year} to {LATEST.year - 1}.")
        row = Price(
            id=new_id(),
            model=normal_pattern(self.model),
            currency=self.currency,
            prompt_nano=_nano(self.prompt, "promptPerMillion", issues),
            cached_nano=None if self.cached is None else _nano(self.cached, "cachedPerMillion", issues),
            completion_nano=_nano(self.completion, "completionPerMillion", issues),
            valid_from=valid_from,
            created_at=at,
            set_by=set_by,
        )
        issues.check()
        return row


@dataclass(frozen=True, slots=True)
class PricesWanted:
    """Which prices to list; None takes all.

    `model` is a model's name: prices of patterns that mean it. `since` is the first `valid_from`, `until` is behind
    the last.
    """

    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a generation costs: billionths of a unit of the price's currency, and the price."""

    nano: int
    price: Price


class PriceList:
    """The prices that hold from `since` on, each in its time."""

    def __init__(self, prices: Iterable[Price], since: datetime = EARLIEST) -> None:
        self.since = since
        self._by_pattern: dict[str, list[Price]] = {}
        for price in prices:
            self._by_pattern.setdefault(price.model, []).append(price)
        for found in self._by_pattern.values():
            found.sort(key=lambda price: (price.valid_from, price.created_at, price.id), reverse=True)
        self._patterns = sorted(self._by_pattern, key=specificity, reverse=True)
        self._of_model: dict[str, list[list[Price]]] = {}

    def at(self, model: str, moment: datetime) -> Price | None:
        """Give the price of a model at a moment: of the most specific pattern that has one, the latest."""
        for found in self._of(model):
            for price in found:
                if price.valid_from <= moment:
                    return price
        return None

    def cost(
        self, model: str, moment: datetime, *, prompt_tokens: int, cached_tokens: int | None, completion_tokens: int
    ) -> Cost | None:
        """Give what so many tokens cost at a moment; None where the model has no price then."""
        price = self.at(model, moment)
        if price is None:
            return None
        return Cost(cost_nano(price, prompt_tokens, cached_tokens, completion_tokens), price)

    def _of(self, model: str) -> list[list[Price]]:
        """Give the prices of each pattern that means a model, the most specific first; remembered for each name."""
        found = self._of_model.get(model)
        if found is None:
            found = [self._by_pattern[pattern] for pattern in self._patterns if matches(pattern, model)]
            self._of_model[model] = found
        return found


def cost_nano(price: Price, prompt_tokens: int, cached_tokens: int | None, completion_tokens: int) -> int:
    """Give what tokens cost, in billionths, rounded once and half to even; no more than a column holds.

    Cached tokens are among those of the prompt: a backend that reports more of them counts as reporting all.
    """
    cached = min(cached_tokens or 0, prompt_tokens)
    cached_price = price.prompt_nano if price.cached_nano is None else price.cached_nano
    of_a_million = (
        (prompt_tokens - cached) * price.prompt_nano + cached * cached_price + completion_tokens * price.completion_nano
    )
    nano, rest = divmod(of_a_million, MILLION)
    if rest * 2 > MILLION or (rest * 2 == MILLION and nano % 2):
        nano += 1
    return min(nano, LARGEST_NANO)


def specificity(pattern: str) -> tuple[bool, int, int, str]:
    """Give what patterns are sorted by: a whole name, then as many characters and as few stars as there can be.

    Patterns that are equal in all of it come by their text, so that every replica takes the same one.
    """
    stars = pattern.count("*")
    return not stars, len(pattern) - stars, -stars, pattern


def normal_pattern(pattern: str) -> str:
    """Give the form in which a pattern is kept: case does not count, and several stars in a row are one."""
    return re.sub(r"\*+", "*", pattern).lower()


class Prices:
    """Sets prices, lists them, and tells the ledger which one holds.

    What this replica sets holds at once, what another one does after `identity_max_age` seconds at the latest.
    """

    def __init__(self, database: Database, identity_max_age: float) -> None:
        self._database = database
        self._identity_max_age = identity_max_age
        self._list: PriceList | None = None
        self._read_at = float("-inf")
        self._version = 0

    async def set(self, principal: Principal, wanted: NewPrice) -> Price:
        """Add a price. Raises InvalidInput, with all that is wrong; LimitExceeded where patterns are too many."""
        is_user = principal.method is not AuthMethod.COMMAND_LINE
        row = wanted.row(principal.user_id if is_user else None, now())
        async with self._database.transaction() as tx:
            if await queries.price.other_patterns(tx, row.model) >= MAX_PATTERNS:
                raise LimitExceeded(f"At most {MAX_PATTERNS:,} patterns can have prices.", MAX_PATTERNS)
            tx.add(row)
        self._version += 1
        self._list = None
        return row

    async def page(self, wanted: PricesWanted, first: int, before: UUID | None) -> tuple[Sequence[Price], bool]:
        """Give prices, the last set first, set before `before`; and whether there are more. Raises InvalidInput."""
        if "\0" in (wanted.model or ""):
            raise InvalidInput("filter.model", "may not hold the character U+0000.")
        async with self._database.reading() as session:
            choice = PriceChoice(since=wanted.since, until=wanted.until)
            if wanted.model is not None:
                known = await queries.price.patterns(session)
                choice = choice._replace(models=[it for it in known if matches(it, wanted.model)])
            rows = await queries.price.prices_page(session, choice, limit=first + 1, before=before)
        return rows[:first], len(rows) > first

    async def by_id(self, ids: Sequence[UUID]) -> list[Price | None]:
        """Give many prices at once, in the order of the ids."""
        async with self._database.reading() as session:
            found = await queries.price.prices_by_id(session, ids)
        return [found.get(price_id) for price_id in ids]

    async def now(self) -> PriceList:
        """Give the prices that hold now."""
        fresh = self._fresh(now())
        if fresh is not None:
            return fresh
        async with self._database.reading() as session:
            return await self.known(session, now())

    async def known(self, session: ReadSession | WriteSession, earliest: datetime) -> PriceList:
        """Give the prices that hold from `earliest` on, read in this transaction where none were read lately."""
        fresh = self._fresh(earliest)
        if fresh is not None:
            return fresh
        version, read_at = self._version, time.monotonic()
        since = min(earliest, now() - KNOWN_BEFORE)
        found = PriceList(await queries.price.prices_since(session, since), since)
        if version == self._version:  # else a price was set meanwhile, which this may not have
            self._list, self._read_at = found, read_at
        return found

    def _fresh(self, earliest: datetime) -> PriceList | None:
        """Give the list that was read last, where it is young enough and reaches back so far."""
        if self._list is None or time.monotonic() - self._read_at >= self._identity_max_age:
            return None
        return self._list if self._list.since <= earliest else None


def _nano(amount: Decimal, field: str, issues: InputIssues) -> int:
    nano = nano_of(amount)
    if nano is None or not 0 <= amount <= MOST_PER_MILLION:
        issues.add(field, f"must be from 0 to {MOST_PER_MILLION:,}, with at most {DIGITS} decimal places.")
        return 0
    return nano
