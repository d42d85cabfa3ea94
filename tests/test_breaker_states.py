"""When a breaker opens and closes, whatever comes in whichever order."""

from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backends import errors
from gateway.catalog import Breaker, BreakerRule, BreakerState
from gateway.catalog.breaker import LONGEST_PAUSE

FAILURES = 3
ASKED = [("ada", "m"), ("bob", "m"), ("ada", "n"), ("bob", "n"), ("eve", "o")]
FAULTS = st.sampled_from(
    [
        errors.BackendUnavailable("gone"),
        errors.BackendFailed("out of memory"),
        errors.BackendProtocolError("cut"),
        errors.BackendOverloaded("busy"),
        errors.BackendTimeout(errors.TimeoutPhase.FIRST_BYTE, 1),
    ]
)
REFUSALS = st.sampled_from(
    [
        errors.BackendRejected("no"),
        errors.BackendOverloaded("too many", refused=True),
        errors.BackendModelNotFound("no model"),
        errors.BackendContextTooLong("long"),
        errors.BackendTimeout(errors.TimeoutPhase.TOTAL, 1),
    ]
)


class Breakers(RuleBasedStateMachine):
    """Attempts of three users for three models that begin and end in any order, under a clock of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.turns: list[BreakerState] = []
        self.breaker = Breaker("b", BreakerRule(FAILURES, 5), self._turn, lambda: self.time)
        self.under_way: list[tuple[tuple[str, str], ExitStack, Callable[[], None]]] = []

    def _turn(self) -> None:
        self.turns.append(self.breaker.state)

    @rule(asked=st.sampled_from(ASKED))
    def begin(self, asked: tuple[str, str]) -> None:
        if not self.breaker.lets_in(asked):
            with pytest.raises(errors.BackendResting) as resting:
                self.breaker.check(asked)
            assert 0 < (resting.value.retry_after or 0) <= LONGEST_PAUSE
            return
        stack = ExitStack()
        self.under_way.append((asked, stack, stack.enter_context(self.breaker.attempt(asked))))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def answer_begins(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.under_way))[2]()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), error=st.one_of(st.none(), FAULTS, REFUSALS, st.just(GeneratorExit())))
    def end(self, data: st.DataObject, error: BaseException | None) -> None:
        ended = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(ended)
        ended[1].__exit__(type(error) if error else None, error, None)

    @rule(seconds=st.floats(0.1, 100))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    @rule()
    def comes_back(self) -> None:
        self.breaker.try_soon()

    @invariant()
    def it_lets_everybody_in_while_it_is_closed(self) -> None:
        if self.breaker.state is BreakerState.CLOSED:
            assert all(self.breaker.lets_in(asked) for asked in (None, *ASKED))

    @invariant()
    def nobody_in_general_gets_in_while_it_is_open(self) -> None:
        if self.breaker.state is BreakerState.OPEN:
            assert not self.breaker.lets_in()

    @invariant()
    def it_never_stays_open_longer_than_the_longest_pause(self) -> None:
        opened_at = self.time
        self.time += LONGEST_PAUSE + 1
        assert self.breaker.state is not BreakerState.OPEN
        self.time = opened_at

    @invariant()
    def it_is_told_of_each_opening_and_closing(self) -> None:
        is_closed = self.breaker.state is BreakerState.CLOSED
        assert is_closed == (not self.turns or self.turns[-1] is BreakerState.CLOSED)

    def teardown(self) -> None:
        """When all has ended and the pause is over, one request gets in, and its answer closes the breaker."""
        for _, stack, _ in self.under_way:
            stack.__exit__(GeneratorExit, GeneratorExit(), None)
        self.time += LONGEST_PAUSE + 1
        with self.breaker.attempt(ASKED[0]):
            others = [self.breaker.lets_in(asked) for asked in (None, ASKED[0])]
            assert all(others) or not any(others)
        assert self.breaker.state is BreakerState.CLOSED


TestBreakers = Breakers.TestCase


def fail(breaker: Breaker, asked: tuple[str, str]) -> None:
    with suppress(errors.BackendFailed), breaker.attempt(asked):
        raise errors.BackendFailed("no")


def test_each_failed_trial_doubles_the_pause_up_to_the_longest():
    time, pauses = 0.0, list[float]()
    breaker = Breaker("b", BreakerRule(1, 5), lambda: None, lambda: time)
    for _ in range(7):
        fail(breaker, ASKED[0])
        with pytest.raises(errors.BackendResting) as resting:
            breaker.check(ASKED[0])
        pauses.append(resting.value.retry_after or 0)
        time += pauses[-1]
    assert pauses == [5, 10, 20, 40, 60, 60, 60]


def test_a_trial_that_breaks_off_after_its_first_words_was_the_last_failure():
    breaker = Breaker("b", BreakerRule(FAILURES, 5), lambda: None, lambda: 0.0)
    for _ in range(FAILURES):
        fail(breaker, ASKED[0])
    breaker.try_soon()
    with suppress(errors.BackendFailed), breaker.attempt(ASKED[0]) as begun:
        begun()
        assert breaker.state is BreakerState.CLOSED
        raise errors.BackendFailed("cut")
    assert breaker.state is BreakerState.OPEN


def test_who_failed_before_an_answer_is_not_to_blame_for_what_fails_later():
    breaker = Breaker("b", BreakerRule(1, 5), lambda: None, lambda: 0.0)
    fail(breaker, ("ada", "m"))
    with breaker.attempt(("bob", "n")):
        pass
    fail(breaker, ("bob", "n"))
    assert breaker.lets_in(("ada", "m"))


def test_what_began_before_it_opened_neither_closes_nor_opens_it():
    breaker = Breaker("b", BreakerRule(1, 5), lambda: None, lambda: 0.0)
    with breaker.attempt(ASKED[0]):
        fail(breaker, ASKED[0])
        assert breaker.state is BreakerState.OPEN
    assert breaker.state is BreakerState.OPEN


@pytest.mark.parametrize(
    ("failing", "let_in"),
    [
        ([("ada", "m"), ("ada", "m")], [("bob", "m"), ("ada", "n"), ("bob", "n"), ("eve", "o")]),
        ([("ada", "m"), ("ada", "n")], [("bob", "m"), ("bob", "n"), ("eve", "o")]),
        ([("ada", "m"), ("bob", "m")], [("ada", "n"), ("bob", "n"), ("eve", "o")]),
        ([("ada", "m"), ("bob", "n")], []),
    ],
)
def test_what_the_failures_have_in_common_is_kept_out_alone(
    failing: list[tuple[str, str]], let_in: list[tuple[str, str]]
):
    breaker = Breaker("b", BreakerRule(2, 5), lambda: None, lambda: 0.0)
    for asked in failing:
        fail(breaker, asked)
    assert [asked for asked in ASKED if breaker.lets_in(asked)] == let_in
    assert not breaker.lets_in()


def test_a_breaker_for_no_failures_never_opens():
    breaker = Breaker("b", BreakerRule(0, 5), lambda: None)
    for _ in range(100):
        fail(breaker, ASKED[0])
    assert breaker.state is BreakerState.CLOSED
