"""A year of usage, made up: more every month, on working days, and by day; some of it cancelled and some failed."""

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Any

from gateway.codes import ErrorCode
from gateway.demo.people import Company, Person, id_at
from gateway.generation import State, source_columns
from gateway.limits import PriceList
from gateway.streams import CancelReason, FinishReason, TokenUsage, UsageSource, UsageSources

MAX_GENERATIONS = 10_000_000
MAX_DAYS = 3_660

MODELS = ("llama3.2:3b", "qwen3:8b", "mistral-small:24b")
_TOKENS_PER_SECOND = (110.0, 62.0, 24.0)
_BACKENDS = ("ollama", "ollama", "openai")

_HOURS = (1, 1, 1, 1, 1, 2, 4, 9, 18, 24, 25, 22, 15, 20, 24, 23, 20, 14, 8, 6, 5, 4, 3, 2)
"""How much is used in each hour of a day, beside the others."""

_WEEKEND = 0.2
_GROWTH = 3.0
"""How much more is used at the end than at the beginning."""

_FEATURES = ("search", "summaries", "chat", "translation")
_CUSTOMERS = 200


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much is to be made up, and from which seed. `until` is the end of the last day, in UTC."""

    seed: int
    users: int
    generations: int
    days: int
    until: datetime

    @property
    def begin(self) -> datetime:
        """The beginning of the first day."""
        return self.until - timedelta(days=self.days)


Row = Mapping[str, Any]
"""The columns of a row, by name."""


def days_of(random: Random, size: DemoSize) -> Iterator[tuple[datetime, int]]:
    """Give each day and how many generations it has; together they are as many as asked for."""
    weights: list[float] = []
    for number in range(size.days):
        weekend = _WEEKEND if (size.begin + timedelta(days=number)).weekday() >= 5 else 1.0
        weights.append(weekend * (1 + (_GROWTH - 1) * number / size.days) * random.uniform(0.8, 1.2))
    reached = list(accumulate(weights))
    before = 0
    for number, part in enumerate(reached):
        until = round(size.generations * part / reached[-1])
        yield size.begin + timedelta(days=number), until - before
        before = until


class Year:
    """Makes the rows of the ledger, a day at a time, in the order of time."""

    def __init__(self, random: Random, size: DemoSize, company: Company) -> None:
        self._random = random
        self._size = size
        self._people = company.people
        self._reached = list(accumulate(person.weight for person in company.people))
        self._prices = PriceList(company.prices)

    def rows(self) -> Iterator[list[dict[str, Any]]]:
        """Give the rows of one day after the other."""
        for day, count in days_of(self._random, self._size):
            hours = self._random.choices(range(24), _HOURS, k=count)
            moments = sorted(hour * 3600 + self._random.random() * 3600 for hour in hours)
            yield [self._row(day + timedelta(seconds=moment)) for moment in moments]

    def _row(self, at: datetime) -> dict[str, Any]:
        random, person = self._random, self._someone()
        kind = person.favourite if random.random() < 0.7 else random.randrange(len(MODELS))
        prompt, completion = _lognormal(random, 5.8, 1.1, 30_000), _lognormal(random, 5.0, 0.9, 8_000)
        cached = prompt * random.randrange(90) // 100 if random.random() < 0.4 else 0
        state, told = _ending(random)
        if state is not State.COMPLETED:
            completion = int(completion * random.random())
        source = UsageSource.BACKEND if state is State.COMPLETED else UsageSource.COUNTED
        used = TokenUsage(prompt, completion, cached, UsageSources.of_weakest(source, prompt, cached, None))
        queued = _lognormal(random, 2.0, 1.6, 60_000) if random.random() < 0.3 else 0
        first = queued + _lognormal(random, 5.3, 0.6, 20_000)
        took = int(completion * 1000 / (_TOKENS_PER_SECOND[kind] * random.uniform(0.7, 1.1)))
        cost = self._prices.cost(
            MODELS[kind], at, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion
        )
        return {
            "generation_id": id_at(random, at - timedelta(milliseconds=first + took)),
            "user_id": person.user.id,
            "api_key_id": random.choice(person.keys).id if random.random() < 0.8 else None,
            "model": MODELS[kind],
            "backend": _BACKENDS[kind],
            "tags": {"feature": random.choice(_FEATURES)} if random.random() < 0.6 else None,
            "end_user": f"customer-{random.randrange(_CUSTOMERS)}" if random.random() < 0.25 else None,
            "group_ids": [str(group.id) for group in person.groups],
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "cached_tokens": cached,
            "thinking_tokens": None,
            "source": source,
            **source_columns(used),
            "at": at,
            "state": state,
            **told,
            "queued_ms": queued,
            "time_to_first_token_ms": first if completion else None,
            "last_token_ms": first + took if completion else None,
            "eval_ms": took if completion else None,
            "total_ms": first + took,
            "cost_nano": cost and cost.nano,
            "currency": cost and cost.price.currency,
            "price_id": cost and cost.price.id,
        }

    def _someone(self) -> Person:
        return self._people[bisect(self._reached, self._random.random() * self._reached[-1])]


def _lognormal(random: Random, mean: float, spread: float, most: int) -> int:
    return min(most, 1 + int(random.lognormvariate(mean, spread)))


_ENDINGS: Sequence[tuple[State, dict[str, Any]]] = (
    (State.COMPLETED, {"finish_reason": FinishReason.STOP, "cancel_reason": None, "error_code": None}),
    (State.COMPLETED, {"finish_reason": FinishReason.LENGTH, "cancel_reason": None, "error_code": None}),
    (State.CANCELLED, {"finish_reason": None, "cancel_reason": CancelReason.VIEWERS_LEFT, "error_code": None}),
    (State.CANCELLED, {"finish_reason": None, "cancel_reason": CancelReason.REQUESTED, "error_code": None}),
    (State.FAILED, {"finish_reason": None, "cancel_reason": None, "error_code": ErrorCode.BACKEND_TIMEOUT}),
    (State.FAILED, {"finish_reason": None, "cancel_reason": None, "error_code": ErrorCode.BACKEND_UNAVAILABLE}),
)


def _ending(random: Random) -> tuple[State, dict[str, Any]]:
    return random.choices(_ENDINGS, (88, 5, 3, 2, 1, 1))[0]
