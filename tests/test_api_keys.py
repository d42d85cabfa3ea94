"""API keys: their form, their checksum, and what is kept of them."""

import string
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.api_keys import generate_api_key, hash_api_key, is_well_formed, same_hash

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


def number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 62 + BASE62.index(digit)
    return value


def test_a_new_key_is_well_formed() -> None:
    assert is_well_formed(generate_api_key().secret)


def test_a_key_ends_with_the_crc_of_its_random_part() -> None:
    secret = generate_api_key().secret
    assert number(secret[-6:]) == zlib.crc32(secret[4:-6].encode())


def test_a_small_checksum_is_padded_with_zeros() -> None:
    assert is_well_formed("olg_" + "000000000000000000000000000405" + "00azb7")


def test_what_a_person_sees_of_a_key_is_its_beginning() -> None:
    key = generate_api_key()
    assert key.prefix == key.secret[:12]


def test_a_key_is_kept_as_its_sha_256() -> None:
    assert hash_api_key("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_hash_of_a_new_key_is_that_of_its_secret() -> None:
    key = generate_api_key()
    assert key.secret_hash == hash_api_key(key.secret)


def test_no_two_keys_are_the_same() -> None:
    assert len({generate_api_key().secret for _ in range(1000)}) == 1000


def test_a_key_does_not_show_its_secret() -> None:
    key = generate_api_key()
    assert key.secret not in repr(key)


@given(place=st.integers(0, 39), letter=st.sampled_from(BASE62 + "-_ é"))
def test_a_key_with_one_wrong_character_is_not_well_formed(place: int, letter: str) -> None:
    secret = generate_api_key().secret
    wrong = secret[:place] + letter + secret[place + 1 :]
    assert is_well_formed(wrong) == (wrong == secret)


@given(st.text(max_size=60))
def test_no_other_text_is_well_formed(text: str) -> None:
    assert not is_well_formed(text)


@pytest.mark.parametrize("change", [str.lower, str.upper, lambda key: key + "0", lambda key: key[:-1], lambda key: ""])
def test_a_key_that_was_changed_is_not_well_formed(change: Callable[[str], str]) -> None:
    assert not is_well_formed(change(generate_api_key().secret))


def test_a_hash_is_the_same_as_itself_only() -> None:
    assert same_hash(hash_api_key("a"), hash_api_key("a"))
    assert not same_hash(hash_api_key("a"), hash_api_key("b"))
