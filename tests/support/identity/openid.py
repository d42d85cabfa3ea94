"""An OpenID provider over real HTTP that keeps to the protocol, and errs in one thing when a test asks for it."""

import hmac
import json
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

import anyio
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from auth.providers.id_token import half_hash
from auth.providers.oauth import challenge
from tests.support.databases import SqliteDatabases
from tests.support.fake_model_server import running_fake_model_server
from tests.support.gateways import RunningGateway, gateway_settings, running_gateway
from tests.support.identity.serving import served

CLIENT_ID, CLIENT_SECRET = "gateway", "s3cret: %"

RSA_KEY = rsa.generate_private_key(65537, 2048)

Json = dict[str, Any]


@dataclass
class SigningKey:
    """A key of the provider, private, and how it is published."""

    key: Any
    algorithm: str = "RS256"
    kid: str = "one"
    published: Json = field(default_factory=dict)

    def public(self) -> Json:
        """Give the published form, with what the test changes in it."""
        public = get_default_algorithms()[self.algorithm].to_jwk(self.key.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "use": "sig"} | self.published


def key_for(algorithm: str) -> Any:
    """Make a private key for an algorithm."""
    match algorithm[:2]:
        case "ES":
            return ec.generate_private_key({"256": ec.SECP256R1, "384": ec.SECP384R1}[algorithm[2:]]())
        case "Ed":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return RSA_KEY


@dataclass
class FakeOpenIdProvider:
    """The provider. What a test sets here is what the provider does from then on."""

    url: str = ""
    person: Json = field(default_factory=dict)
    """Claims of the ID token about the person."""
    userinfo: Json | None = None
    changes: Json = field(default_factory=dict)
    """Claims of the ID token that are not as they should be; None leaves one out."""
    metadata_changes: Json = field(default_factory=dict)
    answer_changes: Json = field(default_factory=dict)
    """Of the parameters that the browser brings back."""
    signing: SigningKey = field(default_factory=lambda: SigningKey(RSA_KEY))
    published: list[SigningKey] | None = None
    """The keys that are published, if they are not the one that signs."""
    forge: Callable[[Json], str] | None = None
    """Makes the ID token of its claims, in the place of a signature with `signing`."""
    broken: dict[str, Response] = field(default_factory=dict)
    """Path: what is answered there in the place of everything else."""
    hanging: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for, in order."""
    codes: dict[str, Json] = field(default_factory=dict)
    tokens: list[Json] = field(default_factory=list)

    def app(self) -> Starlette:
        """Give the application."""
        endpoints = {
            "/.well-known/openid-configuration": self.discovery,
            "/authorize": self.authorize,
            "/token": self.token,
            "/jwks": self.jwks,
            "/userinfo": self.tell,
        }
        return Starlette(
            routes=[Route(path, self._watched(path, it), methods=["GET", "POST"]) for path, it in endpoints.items()]
        )

    def _watched(self, path: str, endpoint: Any) -> Any:
        async def watched(request: Request) -> Response:
            self.asked.append(path)
            if path in self.hanging:
                await anyio.sleep_forever()
            return self.broken.get(path) or await endpoint(request)

        return watched

    async def discovery(self, request: Request) -> Response:
        metadata = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?tenant=a",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "end_session_endpoint": f"{self.url}/logout",
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse({name: it for name, it in (metadata | self.metadata_changes).items() if it is not None})

    async def authorize(self, request: Request) -> Response:
        """Sign the person in without asking."""
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["tenant"] == "a"
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.url} | self.answer_changes
        query = urlencode({name: it for name, it in answer.items() if it is not None})
        return RedirectResponse(f"{asked['redirect_uri']}?{query}")

    async def token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        asked = self.codes.pop(form.get("code", ""), None)
        if self._client(request, form) != (CLIENT_ID, CLIENT_SECRET):
            return JSONResponse({"error": "invalid_client"}, 401)
        if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if challenge(form["code_verifier"]) != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant", "error_description": "PKCE"}, 400)
        at = int(time.time())
        claims = {
            **{"iss": self.url, "aud": CLIENT_ID, "iat": at, "exp": at + 300, "nonce": asked.get("nonce")},
            **{"sub": "248289761001", "at_hash": half_hash("access", self.signing.algorithm)},
            **self.person,
            **self.changes,
        }
        claims = {name: it for name, it in claims.items() if it is not None}
        self.tokens.append(claims)
        signed = self.forge(claims) if self.forge else self.sign(claims)
        return JSONResponse({"access_token": "access", "token_type": "Bearer", "id_token": signed})

    def sign(self, claims: Json, **header: Any) -> str:
        """Sign claims with the key of the provider."""
        signing = self.signing
        return jwt.encode(claims, signing.key, signing.algorithm, headers={"kid": signing.kid, **header})

    async def jwks(self, request: Request) -> Response:
        keys = [self.signing] if self.published is None else self.published
        return JSONResponse({"keys": [key.public() for key in keys]})

    async def tell(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer access"
        return JSONResponse(self.userinfo if self.userinfo is not None else {"sub": "248289761001"})

    def _client(self, request: Request, form: dict[str, str]) -> tuple[str | None, str | None]:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind != "Basic":
            return form.get("client_id"), form.get("client_secret")
        name, _, secret = b64decode(value).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)


@asynccontextmanager
async def running_openid_provider() -> AsyncIterator[FakeOpenIdProvider]:
    """Serve a provider on a free port."""
    provider = FakeOpenIdProvider()
    async with served(provider.app()) as provider.url:
        yield provider


def unsigned(claims: Json) -> str:
    """Make an ID token that nobody has signed (alg: none)."""
    return jwt.encode(claims, None, "none")


def signed_with_secret(public: Json) -> Callable[[Json], str]:
    """Give a forger who takes the public key, which everybody has, for a shared secret (HS256)."""

    def forge(claims: Json) -> str:
        parts = [_encoded({"alg": "HS256", "kid": public["kid"]}), _encoded(claims)]
        digest = hmac.digest(json.dumps(public).encode(), ".".join(parts).encode(), "sha256")
        return ".".join([*parts, urlsafe_b64encode(digest).decode().rstrip("=")])

    return forge


def _encoded(part: Json) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@asynccontextmanager
async def gateway_with_providers(
    databases: SqliteDatabases, folder: Path, openid: str, github: str, **settings: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway with OpenID Connect and GitHub at these URLs, and further settings."""
    with databases.fresh(folder) as url:
        async with running_fake_model_server() as fake:
            given = gateway_settings(
                folder,
                url,
                fake.url,
                oidc_issuer=openid,
                oidc_client_id=CLIENT_ID,
                oidc_client_secret=CLIENT_SECRET,
                github_client_id="id",
                github_client_secret="secret",
                github_url=github,
                **settings,
            )
            async with running_gateway(given, fake) as gateway:
                yield gateway
