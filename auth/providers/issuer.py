"""What an OpenID provider publishes of itself: its metadata and its keys, and how long both are believed."""

import time
from dataclasses import dataclass, field
from typing import cast

import anyio

from auth.providers.configuration import is_protected
from auth.providers.http import Json, ProviderClient

METADATA_SECONDS = 3600.0
"""After this time the metadata is asked for again."""

KEYS_SECONDS = 3600.0
"""After this time the keys are asked for again, so that one that was taken back stops working."""

ROTATION_SECONDS = 5.0
"""Within this time an unknown key is not looked for twice: a stranger's tokens must not make the gateway a flood."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is used of the discovery document (OpenID Connect Discovery 1.0 §3)."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    token_auth_methods: tuple[str, ...]
    sends_issuer: bool
    """Whether answers of the authorization endpoint always name their issuer (RFC 9207 §3)."""


@dataclass(slots=True)
class _Kept:
    """What was asked for, and when."""

    at: float = float("-inf")
    metadata: Metadata | None = None
    keys: list[Json] = field(default_factory=list[Json])


class Issuer:
    """The published side of an OpenID provider at `url`."""

    def __init__(self, url: str, client: ProviderClient) -> None:
        self.url = url
        self._client = client
        self._metadata = _Kept()
        self._keys = _Kept()
        self._lock = anyio.Lock()

    async def metadata(self) -> Metadata:
        """Give the metadata. Raises ProviderUnavailable."""
        async with self._lock:
            if self._metadata.metadata is None or time.monotonic() - self._metadata.at > METADATA_SECONDS:
                self._metadata = _Kept(time.monotonic(), metadata=await self._discover())
            return cast("Metadata", self._metadata.metadata)

    async def keys(self, key_id: str | None, *, again: bool = False) -> list[Json]:
        """Give the keys (RFC 7517) with this id, all for None. Raises ProviderUnavailable.

        The provider may have changed its keys: an unknown id makes the gateway ask for them again, and so does
        `again`, for a signature that none of them made.
        """
        metadata = await self.metadata()
        async with self._lock:
            age = time.monotonic() - self._keys.at
            if age > KEYS_SECONDS or ((again or not self._matching(key_id)) and age > ROTATION_SECONDS):
                document = await self._client.get_object(metadata.jwks_uri)
                self._keys = _Kept(time.monotonic(), keys=_objects(document.get("keys")))
            return self._matching(key_id)

    def _matching(self, key_id: str | None) -> list[Json]:
        return [key for key in self._keys.keys if key_id is None or key.get("kid") == key_id]

    async def _discover(self) -> Metadata:
        document = await self._client.get_object(self.url.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self.url:
            raise self._client.unavailable(
                f"its metadata is of the issuer {document.get('issuer')!r}, and {self.url!r} is configured"
            )
        methods = document.get("token_endpoint_auth_methods_supported")
        return Metadata(
            authorization_endpoint=self._endpoint(document, "authorization_endpoint"),
            token_endpoint=self._endpoint(document, "token_endpoint"),
            jwks_uri=self._endpoint(document, "jwks_uri"),
            userinfo_endpoint=self._optional_endpoint(document, "userinfo_endpoint"),
            end_session_endpoint=self._optional_endpoint(document, "end_session_endpoint"),
            token_auth_methods=tuple(map(str, cast("list[object]", methods))) if isinstance(methods, list) else (),
            sends_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        )

    def _optional_endpoint(self, document: Json, name: str) -> str | None:
        return None if document.get(name) is None else self._endpoint(document, name)

    def _endpoint(self, document: Json, name: str) -> str:
        """Give an endpoint. One in the clear is refused, except at a provider that runs on this machine anyway."""
        url = document.get(name)
        if not isinstance(url, str) or not is_protected(url):
            raise self._client.unavailable(f"its metadata has no usable {name}: {url!r}")
        if self.url.startswith("https://") and not url.startswith("https://"):
            raise self._client.unavailable(f"its metadata has a {name} without https: {url!r}")
        return url


def _objects(value: object) -> list[Json]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Json", item) for item in items if isinstance(item, dict)]
