"""How likely a model found the tokens that it wrote."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of an answer. `logprob` is the natural logarithm of its probability, a finite number.

    `utf8` is the token as bytes, since a token may be a part of a character; None where the server does not tell.
    """

    token: str
    logprob: float
    utf8: bytes | None = None
