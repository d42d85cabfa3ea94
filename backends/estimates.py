"""How many tokens a text may be, where nobody has counted them."""

BYTES_PER_TOKEN = 4
"""The usual rule of thumb for English text and today's vocabularies."""

BYTES_PER_WIDE_TOKEN = 2
"""The same for what is not ASCII: an accent is a token, an emoji two, and two Chinese characters are three."""

LONGEST_TOKEN = 16
"""Characters; a longer piece of an answer is hardly one token."""


def estimated_tokens(text: str) -> float:
    """Guess at the tokens of a text, by its bytes in UTF-8; with fractions, so that the guesses at parts add up."""
    if text.isascii():
        return len(text) / BYTES_PER_TOKEN
    narrow = len(text.encode("ascii", "ignore"))
    wide = len(text.encode(errors="replace")) - narrow
    return narrow / BYTES_PER_TOKEN + wide / BYTES_PER_WIDE_TOKEN


def is_one_token(text: str) -> bool:
    """Tell whether a piece of an answer can be a single token. Servers send an emoji at once, which is several."""
    return len(text) <= LONGEST_TOKEN and (text.isascii() or max(text) <= "\uffff")
