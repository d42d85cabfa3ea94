"""`/.well-known/jwks.json`: the public keys by which others can verify our access tokens (RFC 7517 §5)."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from auth.signing_keys import TokenKeys

KEY_SET_PATH = "/.well-known/jwks.json"

LONGEST_CACHING = 300
"""Seconds."""

NO_KEYS = (
    "This gateway signs access tokens with a secret, so it has no public keys. "
    "To sign with key pairs, set OLLAGRAPH_SIGNING_KEYS.\n"
)


def key_set(keys: TokenKeys) -> Callable[[Request], Awaitable[Response]]:
    """Make what answers everybody with the keys of this moment.

    It may be cached for half of the delay after which a new key signs: so no reader meets a key that it has not read.
    """
    max_age = min(LONGEST_CACHING, int(keys.publish_delay.total_seconds() / 2))
    caching = {"Cache-Control": f"public, max-age={max_age}"}

    async def answer(_: Request) -> Response:
        if not keys.public:
            return PlainTextResponse(NO_KEYS, HTTPStatus.NOT_FOUND, {"Cache-Control": "no-store"})
        body = orjson.dumps({"keys": [dict(key) for key in keys.public]})
        return Response(body, headers=caching, media_type="application/jwk-set+json")

    return answer
