"""Signing in at an OpenID provider, as a browser and a gateway do it together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from auth.providers import (
    ExternalIdentity,
    OidcConfig,
    Providers,
    RedirectProvider,
    SignInRefused,
    build_providers,
)
from tests.support.identity.openid import (
    CLIENT_ID,
    CLIENT_SECRET,
    FakeOpenIdProvider,
)

BACK = "https://gateway.example.org/auth/oidc/callback"
ADA = {"preferred_username": "ada", "email": "ada@example.org", "email_verified": True, "name": "Ada", "groups": ["a"]}


def config(fake: FakeOpenIdProvider, **options: Any) -> OidcConfig:
    """Configure a gateway for a provider."""
    return replace(OidcConfig(fake.url, CLIENT_ID, CLIENT_SECRET, timeout=5), **options)


async def browse(url: str, **form: str) -> dict[str, str]:
    """Go to the provider as a browser, and give what it sends back with."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        response = await (browser.post(url, data=form) if form else browser.get(url))
    assert response.headers["location"].startswith(BACK), response.text
    return dict(parse_qsl(urlsplit(response.headers["location"]).query))


async def sign_in(provider: RedirectProvider, **form: str) -> ExternalIdentity:
    """Sign in from the first step to the last."""
    started = await provider.begin(BACK)
    return await provider.finish(started.pending, await browse(started.url, **form))


@asynccontextmanager
async def opened(*configs: OidcConfig) -> AsyncGenerator[Providers]:
    """Build providers, and close them."""
    providers = build_providers(configs)
    try:
        yield providers
    finally:
        await providers.aclose()


async def sign_in_with(config: OidcConfig) -> ExternalIdentity:
    """Sign in with a provider of this configuration."""
    async with opened(config) as providers:
        return await sign_in(providers.redirect(config.name))


async def refused(provider: RedirectProvider) -> SignInRefused:
    """Sign in, which must be refused; gives how."""
    with pytest.raises(SignInRefused) as refusal:
        await sign_in(provider)
    return refusal.value
