"""What a caller may do, and who a caller is."""

import dataclasses
import inspect
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from auth import errors
from auth.principal import Principal
from auth.roles import BUILT_IN_ROLES, known_scopes
from auth.scopes import DEFAULT_KEY_SCOPES, DEVELOPER_SCOPES, Scope

NOW = datetime(2026, 2, 3, tzinfo=UTC)
ERRORS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.AuthenticationError)
]


def principal(expires_at: datetime | None = None) -> Principal:
    return Principal(uuid4(), "ada", frozenset({Scope.MODELS_READ}), expires_at=expires_at)


@pytest.mark.parametrize("scope", Scope)
def test_every_scope_is_described_in_a_sentence(scope: Scope) -> None:
    assert scope.description.endswith(".")


def test_each_role_may_do_all_that_the_one_below_may() -> None:
    below, *above = (BUILT_IN_ROLES[name].scopes for name in ("read-only", "user", "developer", "admin"))
    for scopes in above:
        assert below < scopes
        below = scopes
    assert below == set(Scope)


def test_nobody_but_an_administrator_sees_what_is_not_theirs() -> None:
    everybodys = {scope for scope in Scope if scope.value.endswith("_all") or scope.value.startswith("users:")}
    assert len(everybodys) == 4
    assert not everybodys & DEVELOPER_SCOPES


def test_an_app_may_not_make_keys_unless_told() -> None:
    assert DEVELOPER_SCOPES - DEFAULT_KEY_SCOPES == {Scope.KEYS_READ, Scope.KEYS_WRITE, Scope.PROFILE_WRITE}


def test_a_word_that_is_no_scope_grants_nothing() -> None:
    assert known_scopes(["models:read", "everything", "MODELS_READ", "admin", ""]) == {Scope.MODELS_READ}


def test_a_principal_has_the_scopes_it_was_given() -> None:
    assert principal().has(Scope.MODELS_READ)
    assert not principal().has(Scope.USERS_READ)


def test_a_principal_is_expired_from_its_end_on() -> None:
    assert not principal(NOW).expired(NOW - timedelta(microseconds=1))
    assert principal(NOW).expired(NOW)


def test_a_principal_without_an_end_never_expires() -> None:
    assert not principal().expired(datetime.max.replace(tzinfo=UTC))


def test_a_principal_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        principal().username = "eve"  # pyright: ignore[reportAttributeAccessIssue] - that is the point


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_message_for_a_user(kind: type[errors.AuthenticationError]) -> None:
    assert str(kind()).endswith(".")


def test_every_error_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in ERRORS}) == len(ERRORS)


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_stands_in_the_drawing_of_the_tree(kind: type[errors.AuthenticationError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
