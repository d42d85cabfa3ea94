"""Who uses the gateway of the sample data: users in groups, their API keys, and what models cost them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from random import Random
from uuid import UUID

from auth.scopes import DEFAULT_KEY_SCOPES
from db.queries import NO_PASSWORD
from db.tables import ApiKey, Group, GroupMember, Price, User
from gateway.limits import NewPrice

MAX_USERS = 10_000

_FIRST = (
    *("ada", "alan", "barbara", "dennis", "donald", "edsger", "frances", "grace", "hedy", "john", "karen", "katherine"),
    *("ken", "leslie", "linus", "margaret", "mary", "radia", "shafi", "sophie", "tim", "tony", "vint", "yukihiro"),
)
_LAST = ("baker", "chen", "diaz", "eriksen", "fischer", "garcia", "haddad", "ito", "jansen", "kumar", "lopez", "meyer")
_GROUPS = (
    ("Engineering", "Builds the product."),
    ("Support", "Answers customers."),
    ("Research", "Tries new models."),
    ("Marketing", "Writes about it."),
)
_KEYS = ("notebook", "CI", "chat app", "batch jobs", "prototype")

PRICES = (
    ("llama3.2*", "0.05", "0.20", None, 365),
    ("qwen3*", "0.15", "0.60", "0.03", 365),
    ("mistral-small*", "0.40", "1.20", None, 365),
    ("mistral-small*", "0.30", "0.90", "0.10", 120),  # it became cheaper
)
"""Patterns; prices of a million prompt, completion and cached tokens; how many days before the end they began."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user with their keys and groups, how much they use, and which model they like best."""

    user: User
    keys: Sequence[ApiKey]
    groups: Sequence[Group]
    weight: float
    favourite: int


@dataclass(frozen=True, slots=True)
class Company:
    """All who use the gateway, and what they pay."""

    groups: Sequence[Group]
    people: Sequence[Person]
    prices: Sequence[Price]

    def members(self) -> Iterator[GroupMember]:
        """Give who is in which group."""
        for person in self.people:
            yield from (GroupMember(group_id=group.id, user_id=person.user.id) for group in person.groups)


def id_at(random: Random, moment: datetime) -> UUID:
    """Give a UUIDv7 (RFC 9562, section 5.7) of a moment: ids of the sample data sort by time as all others."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | random.getrandbits(12) << 64 | 2 << 62 | random.getrandbits(62))


def make_company(random: Random, users: int, begin: datetime, end: datetime) -> Company:
    """Make up so many users, who came from `begin` to `end`. None of them can sign in, and nobody knows their keys."""
    groups = [Group(id=id_at(random, begin), name=name, description=text, created_at=begin) for name, text in _GROUPS]
    people = [_person(random, number, groups, begin) for number in range(users)]
    days = (end - begin).days
    prices = [
        NewPrice(
            *(model, "EUR", Decimal(prompt), Decimal(completion), None if cached is None else Decimal(cached)),
            valid_from=end - timedelta(days=min(before, days)),
        ).row(None, begin)
        for model, prompt, completion, cached, before in PRICES
    ]
    for price in prices:
        price.id = id_at(random, price.valid_from)
        price.created_at = price.valid_from
    return Company(groups, people, prices)


def _person(random: Random, number: int, groups: Sequence[Group], begin: datetime) -> Person:
    names = len(_FIRST) * len(_LAST)
    first, last = _FIRST[number % len(_FIRST)], _LAST[number // len(_FIRST) % len(_LAST)]
    username = f"{first}.{last}" + (f".{number // names + 1}" if number >= names else "")
    user = User(
        id=id_at(random, begin),
        username=username,
        password_hash=NO_PASSWORD,
        kind="PERSON",
        role="developer",
        email=f"{username}@demo.example",
        display_name=f"{first.title()} {last.title()}",
        must_change_password=False,
        created_at=begin,
    )
    keys = [_key(random, user, name, begin) for name in random.sample(_KEYS, random.randint(1, 3))]
    return Person(
        user,
        keys,
        random.sample(groups, random.choice((1, 1, 1, 2))),
        weight=random.paretovariate(1.2),  # few use much
        favourite=random.randrange(3),
    )


def _key(random: Random, user: User, name: str, begin: datetime) -> ApiKey:
    secret = random.getrandbits(256).to_bytes(32)
    digest = sha256(secret).hexdigest()
    return ApiKey(
        id=id_at(random, begin),
        user_id=user.id,
        name=name,
        prefix=f"olg_demo{digest[:4]}",
        secret_hash=digest,
        scopes=sorted(DEFAULT_KEY_SCOPES),
        created_at=begin,
    )
