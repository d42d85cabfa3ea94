"""Which media type to answer in (RFC 9110, section 12.5.1; GraphQL over HTTP, section 6.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

GRAPHQL_RESPONSE = "application/graphql-response+json"
JSON = "application/json"

NAMING_PARAMETERS = frozenset({"subscriptionspec"})
"""Parameters that are part of what is asked for, in lower case; others, as a boundary, are the client's idea of it."""

OFFERS = (JSON, GRAPHQL_RESPONSE)
"""What can be spoken; among equals the first is chosen, since `*/*` mostly comes from clients that know only JSON."""


@dataclass(frozen=True, slots=True)
class _Range:
    kind: str
    quality: float

    def match(self, offer: str) -> int:
        """Tell how exactly this range names the offer: 0 not at all, 1 `*/*`, 2 `type/*`, 3 by its name.

        An offer with a parameter is matched by nothing but itself: who does not name it would not understand it.
        """
        if self.kind == offer:
            return 3
        if ";" in offer:
            return 0
        if self.kind == f"{offer.partition('/')[0]}/*":
            return 2
        return 1 if self.kind == "*/*" else 0


def negotiate(accept: str | None, offers: Sequence[str] = OFFERS) -> str | None:
    """Give the offer that the client wants most; None when it wants none of them. No header at all wants the first."""
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [parsed for part in accept.split(",") if (parsed := _parse(part)) is not None]
    best, best_quality = None, 0.0
    for offer in offers:
        matching = [(wanted.match(offer), wanted.quality) for wanted in ranges if wanted.match(offer)]
        quality = max(matching)[1] if matching else 0.0
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


def is_json(content_type: str | None) -> bool:
    """Tell whether a body of this type is read: JSON in UTF-8, its only encoding (RFC 8259, section 8.1)."""
    kind, *parameters = (content_type or "").lower().split(";")
    if kind.strip() != JSON:
        return False
    charsets = [
        value.strip(' "')
        for name, _, value in (part.partition("=") for part in parameters)
        if name.strip() == "charset"
    ]
    return all(charset in {"utf-8", "utf8"} for charset in charsets)


def _parse(part: str) -> _Range | None:
    kind, *parameters = part.lower().split(";")
    kind, quality = kind.strip(), 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
        elif name.strip() == "charset" and value.strip(' "') not in {"utf-8", "utf8"}:
            return None
        elif name.strip() in NAMING_PARAMETERS:
            named = value.strip(' "')
            kind += f";{name.strip()}={named}"
    return _Range(kind, quality)
