"""New passwords are long, not among those that are tried first, and every rule that fails is told at once."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.password_policy import CharacterClass, PasswordPolicy, normal_form
from tests.support.gateways import RunningGateway

ALL: frozenset[CharacterClass] = frozenset({"lower", "upper", "digit", "symbol"})
COMMON = "The password is one of the first that are tried. Take another."
NAMED = "The password must be more than the user name or 'ollagraph' with little added."


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "Passw0rd!",
        "12345678",
        "qwertyuiop",
        "admin123",
        "Administrator1",
        "aaaaaaaa",
        "letmein!",
        "abcd" * 9,
    ],
)
def test_a_password_that_is_tried_first_is_refused(password: str) -> None:
    assert PasswordPolicy().problems(password) == [COMMON]


@pytest.mark.parametrize(
    "password",
    ["ada.lovelace", "Ada.Lovelace", "ada.lovelace1!", "ecalevol.ada", "ollagraph", "OllaGraph2026", "hpargallo"],
)
def test_a_password_made_of_the_user_name_or_the_products_is_refused(password: str) -> None:
    assert PasswordPolicy().problems(password, "ada.lovelace") == [NAMED]


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "k7pq-x2mw-9fhd",
        "a password of mine",
        "x9$kQ2!v",
        "пароль из пяти слов",
        "🔑🦊🌵🚲🎷🧊🪁🥝",
    ],
)
def test_every_other_password_may_be_used(password: str) -> None:
    assert PasswordPolicy().problems(password, "ada") == []


def test_every_rule_that_fails_is_told_at_once() -> None:
    assert PasswordPolicy(15, ALL).problems("admin") == [
        "The password must have at least 15 characters.",
        "The password must contain an upper-case letter.",
        "The password must contain a digit.",
        "The password must contain a character that is neither a letter nor a digit, such as a space.",
        COMMON,
    ]


@pytest.mark.parametrize("missing", sorted(ALL))
def test_a_required_class_is_missed(missing: CharacterClass) -> None:
    letters = {"lower": "äöü", "upper": "ÄÖÜ", "digit": "375", "symbol": " €§"}
    password = "".join(text for name, text in letters.items() if name != missing) * 2
    assert len(PasswordPolicy(8, frozenset({missing})).problems(password)) == 1


@pytest.mark.parametrize("password", ["x" * 257, "x" * 10_000_000, "\u0301" * 1_000_000, "e\u0301" * 257])
def test_a_password_that_is_too_long_is_refused_without_being_looked_at(password: str) -> None:
    assert PasswordPolicy().problems(password) == ["The password must have at most 256 characters."]


def test_half_a_surrogate_pair_is_refused() -> None:
    assert PasswordPolicy().problems("\ud800" * 8) == ["The password contains characters that are not valid Unicode."]


def test_a_character_counts_once_however_the_keyboard_writes_it() -> None:
    assert normal_form("e\u0301" * 256) == "é" * 256
    [problem, *_] = PasswordPolicy(9).problems("öäüßçéñ" + "o\u0308")
    assert problem == "The password must have at least 9 characters."


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40), st.sampled_from([8, 15]), st.sets(st.sampled_from(sorted(ALL))))
def test_what_the_policy_takes_fulfils_its_rules(password: str, least: int, classes: set[CharacterClass]) -> None:
    if PasswordPolicy(least, frozenset(classes)).problems(password, "ada"):
        return
    normal = unicodedata.normalize("NFC", password)
    kinds: dict[CharacterClass, bool] = {
        "lower": any(letter.islower() for letter in normal),
        "upper": any(letter.isupper() for letter in normal),
        "digit": any(letter.isdecimal() for letter in normal),
        "symbol": any(not letter.isalnum() for letter in normal),
    }
    assert len(normal) >= least
    assert all(kinds[name] for name in classes)


def test_letters_that_may_stand_for_others_do_not_take_all_day() -> None:
    """Each doubles what is to be tried: whole, this one took half a minute of a core."""
    assert PasswordPolicy().problems("4@8({[<369&#!1/|0$5+7%2" * 11) == []


async def test_a_hash_of_a_cheaper_setting_is_replaced_at_the_next_sign_in(shared_gateway: RunningGateway) -> None:
    from auth.passwords import Argon2Cost, PasswordHasher
    from tests.support.gateways import PASSWORD

    async def stored(new: str | None = None) -> str:
        async with shared_gateway.database.transaction() as tx:
            connection = await tx.connection()
            if new is not None:
                await connection.exec_driver_sql("UPDATE users SET password_hash = ?", (new,))
            (row,) = await connection.exec_driver_sql("SELECT password_hash FROM users")
        return row[0]

    for other in (Argon2Cost(1, 16, 1), Argon2Cost(2, 8, 1)):
        before = await stored(await PasswordHasher(other).hash(PASSWORD))
        await shared_gateway.sign_in()
        after = await stored()
        assert before != after
        assert after.startswith("$argon2id$v=19$m=8,t=1,p=1$")
