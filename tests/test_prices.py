"""Prices: which one holds, what is paid at it, and who may set one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from pathlib import Path
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import delete

from auth.model_access import matches, pattern_problem
from db.clock import now
from db.engine import Database
from db.tables import Price, UsageRecord
from gateway.errors import InvalidInput, LimitExceeded
from gateway.identity import OPERATOR
from gateway.limits import MOST_PER_MILLION, NewPrice, PriceList, Prices
from gateway.limits.prices import cost_nano, normal_pattern, specificity
from gateway.money import LARGEST_NANO, MINOR_UNITS, NANO, decimal_of, nano_of, shown_money
from schema.scalars import read_decimal
from tests.support.gateways import GraphQLErrors, Json, RunningGateway
from tests.support.generations import CANCEL, COMPLETE, asking
from tests.test_audit import events
from tests.test_cli import run_here

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

SET = """
mutation($input: SetPriceInput!) { setPrice(input: $input) {
  __typename
  ... on SetPriceSuccess { price {
    id model currency promptPerMillion cachedPerMillion completionPerMillion validFrom setBy { username }
  } }
  ... on UserError { message code } ... on InvalidInput { issues { path } }
} }
"""
PRICES = """
query($first: Int, $after: String, $filter: PriceFilter) { prices(first: $first, after: $after, filter: $filter) {
  nodes { id promptPerMillion } pageInfo { endCursor hasNextPage }
} }
"""
COST = "query($id: ID!) { generation(id: $id) { cost { amount currency } } }"

amounts = st.integers(0, MOST_PER_MILLION * 10**9).map(decimal_of)
tokens = st.integers(0, 2**31 - 1)


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    return emptied_gateway


def price(model: str = "*", prompt: str = "1", completion: str = "1", cached: str | None = None, day: int = 0) -> Price:
    wanted = NewPrice(
        model, "EUR", Decimal(prompt), Decimal(completion), None if cached is None else Decimal(cached), JANUARY
    )
    row = wanted.row(None, JANUARY)
    row.valid_from = JANUARY + day * DAY
    return row


async def set_price(gateway: RunningGateway, model: str = "fake:*", **input: object) -> Json:
    given = {"currency": "EUR", "promptPerMillion": "0.15", "completionPerMillion": "0.6", **input}
    return (await gateway.run(SET, {"input": {"model": model, **given}}))["setPrice"]


async def spend(gateway: RunningGateway, model: str = "fake:count-3") -> str:
    """Run a generation of a few tokens, and give its id."""
    answer = await gateway.run(COMPLETE, asking(model))
    return answer["generate"]["generation"]["id"]


async def cost(gateway: RunningGateway, generation: str) -> Json | None:
    return (await gateway.run(COST, {"id": generation}))["generation"]["cost"]


@given(amounts, amounts, st.none() | amounts, tokens, st.none() | tokens, tokens)
@example(Decimal("0.0005"), Decimal(0), None, 1, None, 0)  # half a billionth goes to the even one below
@example(Decimal("0.0015"), Decimal(0), None, 1, None, 0)  # and here to the even one above
def test_what_tokens_cost_is_the_exact_sum_rounded_once(
    prompt: Decimal,
    completion: Decimal,
    cached: Decimal | None,
    prompt_tokens: int,
    cached_tokens: int | None,
    completion_tokens: int,
):
    row = NewPrice("*", "EUR", prompt, completion, cached).row(None, JANUARY)
    from_cache = min(cached_tokens or 0, prompt_tokens)
    with localcontext(Context(prec=60)):
        parts = [
            (prompt_tokens - from_cache, prompt),
            (from_cache, prompt if cached is None else cached),
            (completion_tokens, completion),
        ]
        exact = sum((number * each for number, each in parts), Decimal(0)) / 1_000_000
        wanted = min(exact.quantize(Decimal("1e-9"), ROUND_HALF_EVEN), decimal_of(LARGEST_NANO))
    assert decimal_of(cost_nano(row, prompt_tokens, cached_tokens, completion_tokens)) == wanted


@given(st.integers(-LARGEST_NANO, LARGEST_NANO))
def test_an_amount_is_the_same_after_it_was_stored_and_sent(nano: int):
    amount = decimal_of(nano)
    assert nano_of(amount) == nano
    assert read_decimal(format(amount, "f")) == amount


@pytest.mark.parametrize("text", ["0.0000000001", "NaN", "Infinity", "1e300", "1." + "0" * 70 + "1"])
def test_what_is_no_whole_number_of_billionths_is_no_amount(text: str):
    assert nano_of(Decimal(text)) is None


@pytest.mark.parametrize("value", [0.15, True, "1e5", "", ".5", "5.", "\uff11", "0x1", " 1", "1" * 21, None, []])
def test_a_decimal_is_a_string_of_digits_and_no_float(value: object):
    assert read_decimal(value) is None


patterns = st.text("ab*", min_size=1, max_size=5).filter(lambda text: pattern_problem(text) is None)


@given(st.lists(st.tuples(patterns, st.integers(0, 5)), max_size=12), st.text("ab", min_size=1, max_size=4))
def test_the_most_specific_pattern_with_a_price_wins_and_then_the_latest_price(rows: list[tuple[str, int]], model: str):
    prices = [price(pattern, prompt=str(number), day=day) for number, (pattern, day) in enumerate(rows)]
    at = JANUARY + 2.5 * DAY
    fitting = [it for it in prices if matches(it.model, model) and it.valid_from <= at]
    wanted = max(fitting, key=lambda it: (specificity(it.model), it.valid_from, it.prompt_nano), default=None)
    assert PriceList(prices).at(model, at) is wanted


@pytest.mark.parametrize(
    ("patterns", "model", "wins"),
    [
        (["*", "llama*", "llama3*"], "llama3:8b", "llama3*"),
        (["llama3:8b", "*llama3:8b*", "llama3:8*"], "Llama3:8B", "llama3:8b"),
        (["*", "qwen*"], "llama3", "*"),
        (["qwen*"], "llama3", None),
    ],
)
def test_a_whole_name_goes_before_a_longer_pattern_and_that_before_a_shorter_one(
    patterns: Sequence[str], model: str, wins: str | None
):
    found = PriceList(price(pattern) for pattern in patterns).at(model, now())
    assert (found and found.model) == wins


def test_a_pattern_has_one_form():
    assert normal_pattern("LLaMA**3*") == "llama*3*"


async def test_the_cost_is_that_of_the_price_at_the_end_and_stays(gateway: RunningGateway):
    unpriced = await spend(gateway)
    first = (await set_price(gateway, promptPerMillion="0", completionPerMillion="0.0005"))["price"]
    assert (first["cachedPerMillion"], first["setBy"]) == (None, {"username": "admin"})
    earlier = await spend(gateway)
    await set_price(gateway, promptPerMillion="0", completionPerMillion="2000000", currency="USD")
    await set_price(gateway, promptPerMillion=9, validFrom=(now() + DAY).isoformat())
    later = await spend(gateway)
    assert await cost(gateway, later) == {"amount": "6", "currency": "USD"}
    assert await cost(gateway, earlier) == {"amount": "0.000000002", "currency": "EUR"}  # 1.5 billionths
    assert await cost(gateway, unpriced) is None
    async with gateway.database.transaction() as tx:  # as OLLAGRAPH_USAGE_RETENTION does in the end
        await tx.execute(delete(UsageRecord))
    assert await cost(gateway, later) == {"amount": "6", "currency": "USD"}


async def test_what_is_not_over_has_no_cost_yet(gateway: RunningGateway):
    await set_price(gateway)
    started = await gateway.run(
        'mutation { startGeneration(input: {model: "fake:hold-3", prompt: {text: "x"}, onDisconnect: CONTINUE}) '
        "{ ... on StartGenerationSuccess { generation { id cost { amount } } } } }"
    )
    assert started["startGeneration"]["generation"]["cost"] is None
    await gateway.run(CANCEL, {"id": started["startGeneration"]["generation"]["id"]})


async def test_all_that_is_wrong_with_a_price_is_told_at_once(gateway: RunningGateway):
    wrong = {"currency": "eur", "promptPerMillion": "-1", "completionPerMillion": "1000000001"}
    wrong |= {"cachedPerMillion": "0.0000000001", "validFrom": "9999-01-01T00:00:00Z"}
    refused = await set_price(gateway, " llama", **wrong)
    assert refused["code"] == "INVALID_INPUT"
    assert [issue["path"] for issue in refused["issues"]] == [
        ["model"],
        ["currency"],
        ["validFrom"],
        ["promptPerMillion"],
        ["cachedPerMillion"],
        ["completionPerMillion"],
    ]
    with pytest.raises(GraphQLErrors, match="must be a string of digits"):
        await set_price(gateway, promptPerMillion=0.15)


async def test_every_price_stays_in_the_list(gateway: RunningGateway):
    ids = [(await set_price(gateway, promptPerMillion=str(number)))["price"]["id"] for number in range(3)]
    other = (await set_price(gateway, "qwen*", promptPerMillion="7"))["price"]["id"]
    page = (await gateway.run(PRICES, {"first": 2}))["prices"]
    assert [node["id"] for node in page["nodes"]] == [other, ids[2]]
    rest = (await gateway.run(PRICES, {"first": 2, "after": page["pageInfo"]["endCursor"]}))["prices"]
    assert ([node["id"] for node in rest["nodes"]], rest["pageInfo"]["hasNextPage"]) == ([ids[1], ids[0]], False)
    of_model = (await gateway.run(PRICES, {"filter": {"model": "QWEN2"}}))["prices"]["nodes"]
    assert of_model == [{"id": other, "promptPerMillion": "7"}]
    later = {"filter": {"since": (now() + DAY).isoformat()}}
    assert (await gateway.run(PRICES, later))["prices"]["nodes"] == []
    node = await gateway.run("query($id: ID!) { node(id: $id) { ... on Price { model } } }", {"id": other})
    assert node == {"node": {"model": "qwen*"}}


async def test_a_price_is_in_the_audit_log(gateway: RunningGateway):
    made = await set_price(gateway, "qwen*")
    [event, *_] = await events(gateway, actions=["setPrice"])
    assert event["targetId"] == made["price"]["id"]
    assert {"model": "qwen*", "promptPerMillion": "0.15", "currency": "EUR"}.items() <= event["details"].items()


async def test_only_who_sets_limits_sets_prices(gateway: RunningGateway):
    given = await set_price(gateway)
    admin = gateway.token
    gateway.token = (await gateway.make_key(scopes=["USAGE_READ", "PROFILE_READ"]))["secret"]
    for query, variables in [
        (SET, {"input": {"model": "a", "currency": "EUR", "promptPerMillion": 1, "completionPerMillion": 1}}),
        (PRICES, {}),
        ("query($id: ID!) { node(id: $id) { id } }", {"id": given["price"]["id"]}),
    ]:
        with pytest.raises(GraphQLErrors, match="LIMITS_WRITE"):
            await gateway.run(query, variables)
    gateway.token = admin


@pytest.mark.parametrize("earlier", [False, True])
async def test_the_prices_of_a_moment_are_read_however_many_there_were(database: Database, earlier: bool):
    rows = [price(model, prompt=str(day + 40), day=day) for model in ("*", "a*") for day in range(-40, 3)]
    rows += [price("a*", prompt="99", day=2)]
    async with database.transaction() as tx:
        tx.add_all(rows)
    prices, at = Prices(database, 60), JANUARY + (-20 * DAY if earlier else 2.5 * DAY)
    async with database.reading() as session:
        await prices.known(session, now())
        known = await prices.known(session, at)
    found = known.at("abc", at)
    assert found is not None
    assert found.prompt_nano == (20 if earlier else 99) * 10**9


async def test_a_price_holds_at_once_here_and_a_moment_later_elsewhere(database: Database):
    here, elsewhere = Prices(database, 60), Prices(database, 0.0)
    old = await here.set(OPERATOR, NewPrice("*", "EUR", Decimal(1), Decimal(1)))

    async def known(prices: Prices) -> UUID | None:
        async with database.reading() as session:
            found = (await prices.known(session, now())).at("m", now())
        return found and found.id

    assert [await known(here), await known(elsewhere)] == [old.id, old.id]
    new = await here.set(OPERATOR, NewPrice("*", "EUR", Decimal(2), Decimal(2)))
    assert [await known(here), await known(elsewhere)] == [new.id, new.id]


async def test_patterns_with_prices_are_limited_and_prices_of_one_are_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.limits.prices.MAX_PATTERNS", 1)
    prices = Prices(database, 0)
    for pattern in ("a*", "A**"):
        await prices.set(OPERATOR, NewPrice(pattern, "EUR", Decimal(1), Decimal(1)))
    with pytest.raises(LimitExceeded, match="At most 1 "):
        await prices.set(OPERATOR, NewPrice("b*", "EUR", Decimal(1), Decimal(1)))


def test_prices_are_set_and_listed_on_the_command_line(tmp_path: Path):
    folder = tmp_path / "data"
    amounts = ["--currency", "EUR", "--prompt", "0.15", "--completion", "0.6"]
    made = run_here(folder, "prices", "set", "Llama*", *amounts, "--valid-from", "2026-01-01T00:00:00Z")
    assert (made.exit_code, "llama*" in made.stdout) == (0, True)
    again = run_here(folder, "prices", "set", "llama*", *amounts, "--cached", "0.01", "--json")
    listed = run_here(folder, "prices", "list", "--model", "llama3", "--json")
    last, first = orjson.loads(listed.stdout)
    assert last == orjson.loads(again.stdout)
    assert (last["cached"], first["valid_from"]) == ("0.01", "2026-01-01T00:00:00+00:00")
    refused = run_here(folder, "prices", "set", "a", "--currency", "EUR", "--prompt", "1,5", "--completion", "x")
    assert refused.exit_code == 1
    assert "prompt:" in refused.output
    assert "completion:" in refused.output
    log = [orjson.loads(line) for line in run_here(folder, "export-audit").stdout.splitlines()]
    assert [event["action"] for event in log] == ["prices set"] * 3
    assert log[1]["details"]["model"] == "llama*"


@pytest.mark.parametrize(
    ("nano", "currency", "shown"),
    [
        (50 * NANO, "EUR", "50.00 EUR"),
        (1_234 * NANO, "JPY", "1,234 JPY"),
        (NANO // 2, "BHD", "0.500 BHD"),
        (1, "EUR", "0.000000001 EUR"),
    ],
)
def test_money_is_shown_with_the_digits_of_its_currency(nano: int, currency: str, shown: str):
    assert shown_money(nano, currency) == shown


def test_the_currencies_are_those_in_use_with_their_smallest_coins():
    """As List One of ISO 4217 has them, published by SIX on 2026-01-01: each kind, and what has changed of late."""
    assert len(MINOR_UNITS) > 150
    digits = {
        **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
        **dict.fromkeys("EUR USD HUF TWD MGA MRU STN VES VED SLE XCG ZWG XAD XCD".split(), 2),
        **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
        **dict.fromkeys(["CLF", "UYW"], 4),
    }
    assert {code: MINOR_UNITS[code] for code in digits} == digits
    assert {code for code, places in MINOR_UNITS.items() if places != 2} <= digits.keys()
    assert MINOR_UNITS.keys().isdisjoint("ANG BGN CUC HRK MRO SLL STD VEF ZWL XAG XAU XDR XPT XTS XXX".split())


@pytest.mark.parametrize("currency", ["eur", "EURO", "HRK", "XAU", "XXX", "ZZZ", ""])
def test_a_price_is_in_a_currency_in_use(currency: str):
    with pytest.raises(InvalidInput, match="ISO 4217"):
        NewPrice("a", currency, Decimal(1), Decimal(1)).row(None, now())
