"""The one place of `auth` that speaks HTTP: what a provider answers, within bounds of time and size.

As for model servers nothing is taken from the environment, no proxy and no .netrc, and no redirect is followed: an
answer counts only from where it was asked for.
"""

import ssl
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from urllib.parse import quote_plus

import anyio
import httpx
import orjson

from auth.providers.errors import ProviderUnavailable

MAX_BODY_BYTES = 1024 * 1024
"""Longest answer that is read: metadata, keys, tokens and claims have some kB."""

Json = dict[str, object]


class ProviderClient:
    """Asks one provider. `timeout` is in seconds, for a whole request."""

    def __init__(self, provider: str, *, timeout: float, ca_file: Path | None = None) -> None:
        self._provider = provider
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            headers={"accept": "application/json", "accept-encoding": "identity"},
            timeout=timeout,
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=4),
            verify=ssl.create_default_context(cafile=ca_file),
            trust_env=False,
            follow_redirects=False,
        )

    async def get(self, url: str, *, token: str | None = None) -> tuple[int, object]:
        """Give status and JSON of a resource, asked for with a bearer token. Raises ProviderUnavailable."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self._ask("GET", url, headers)

    async def get_object(self, url: str, *, token: str | None = None) -> Json:
        """Give a JSON object that must be there. Raises ProviderUnavailable."""
        status, body = await self.get(url, token=token)
        if status != 200 or not isinstance(body, dict):
            raise self.unavailable(f"GET {url} answered {status} and no JSON object")
        return cast("Json", body)

    async def post(
        self, url: str, form: Mapping[str, str], *, basic: tuple[str, str] | None = None
    ) -> tuple[int, object]:
        """Send a form and give status and JSON. `basic` is a client's id and secret. Raises ProviderUnavailable."""
        headers: dict[str, str] = {}
        if basic is not None:  # RFC 6749 §2.3.1: each is encoded before they are joined
            joined = ":".join(quote_plus(part) for part in basic)
            headers["authorization"] = f"Basic {b64encode(joined.encode()).decode()}"
        return await self._ask("POST", url, headers, form)

    def unavailable(self, detail: str) -> ProviderUnavailable:
        """Give the error of this provider."""
        return ProviderUnavailable(self._provider, detail)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> tuple[int, object]:
        where = f"{method} {url.partition('?')[0]}"
        try:
            request = self._client.build_request(method, url, headers=headers, data=form)
            with anyio.fail_after(self._timeout):
                status, body = await self._read(request)
        except TimeoutError:
            raise self.unavailable(f"{where} took longer than {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self.unavailable(f"{where}: {type(error).__name__}: {error}") from error
        if status >= 500 or status == 429:
            raise self.unavailable(f"{where} answered {status}")
        try:
            return status, orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self.unavailable(f"{where} answered {status} and no JSON") from None

    async def _read(self, request: httpx.Request) -> tuple[int, bytes]:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise self.unavailable(f"the answer of {request.url.host} is larger than {MAX_BODY_BYTES} bytes")
            return response.status_code, bytes(body)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
