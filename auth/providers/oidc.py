"""OpenID Connect: the authorization code flow with PKCE, against any provider that publishes its metadata.

    begin    the browser goes to the provider, with a state, a nonce and a code challenge that exist once
    finish   state and issuer of the answer (RFC 9207)  →  code for tokens  →  ID token  →  claims, of the userinfo
             endpoint, too, where the ID token leaves some out  →  ExternalIdentity

No token is kept: who somebody is, is all that is wanted. PyJWT verifies signatures and times; what is left of the
protocol are three HTTP requests and the checks that stand here by name.
"""

from collections.abc import Mapping
from typing import cast

from auth.providers import oauth
from auth.providers.configuration import OidcConfig
from auth.providers.errors import RefusalReason, SignInRefused, untrusted
from auth.providers.http import Json, ProviderClient
from auth.providers.id_token import verified_claims
from auth.providers.issuer import Issuer, Metadata
from auth.providers.logout_token import verified_logout
from auth.providers.protocol import EndedElsewhere, ExternalIdentity, PendingSignIn, Started

MAX_SUBJECT = 255
"""Characters of a `sub` (OpenID Connect Core §2)."""

MAX_GROUPS = 2000


class OidcProvider:
    """Signs people in at one OpenID provider."""

    def __init__(self, config: OidcConfig) -> None:
        self.name, self.label = config.name, config.label
        self._config = config
        self._client = ProviderClient(config.name, timeout=config.timeout, ca_file=config.ca_file)
        self._issuer = Issuer(config.issuer, self._client)

    async def begin(self, redirect_uri: str) -> Started:
        """Start a sign-in. Raises ProviderUnavailable."""
        metadata = await self._issuer.metadata()
        return oauth.begin(
            self.name,
            metadata.authorization_endpoint,
            client_id=self._config.client_id,
            redirect_uri=redirect_uri,
            scopes=self._config.scopes,
            openid=True,
        )

    async def finish(self, pending: PendingSignIn, params: Mapping[str, str]) -> ExternalIdentity:
        """Tell who has signed in. Raises SignInRefused and ProviderUnavailable."""
        metadata = await self._issuer.metadata()
        code = oauth.code_of(pending, params, issuer=self._config.issuer, issuer_required=metadata.sends_issuer)
        access_token, tokens = oauth.token_of(*await self._exchange(metadata, code, pending), "access_token")
        if not isinstance(id_token := tokens.get("id_token"), str):
            raise untrusted("the token endpoint gave no ID token")
        claims = await verified_claims(
            id_token,
            self._issuer,
            client_id=self._config.client_id,
            nonce=pending.nonce,
            algorithms=self._config.algorithms,
            access_token=access_token,
        )
        return self._identity(await self._completed(metadata, claims, access_token))

    async def logout_url(self, return_to: str, username: str | None = None) -> str | None:
        """Give where the session at the provider ends (OpenID Connect RP-Initiated Logout). Raises ProviderUnavailable.

        No ID token goes along, for none is kept: so most providers ask the person whether they mean it.
        """
        endpoint = (await self._issuer.metadata()).end_session_endpoint if self._config.logout else None
        if endpoint is None:
            return None
        query = {"client_id": self._config.client_id, "post_logout_redirect_uri": return_to}
        return oauth.with_query(endpoint, query | ({"logout_hint": username} if username else {}))

    async def ended_elsewhere(self, logout_token: str) -> EndedElsewhere:
        """Tell which sessions ended there (OpenID Connect Back-Channel Logout). Raises as `finish`."""
        told = await verified_logout(
            logout_token, self._issuer, client_id=self._config.client_id, algorithms=self._config.algorithms
        )
        return EndedElsewhere(None if told.sub is None else self._subject(told.sub), told.sid, told.at)

    async def aclose(self) -> None:
        """Close the connections to the provider."""
        await self._client.aclose()

    async def _exchange(self, metadata: Metadata, code: str, pending: PendingSignIn) -> tuple[int, object]:
        """Ask for the tokens of a code, authenticated in the way that the provider names; basic is the default."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": pending.redirect_uri,
            "code_verifier": pending.code_verifier,
        }
        client_id, secret = self._config.client_id, self._config.client_secret
        if secret is None:
            return await self._client.post(metadata.token_endpoint, form | {"client_id": client_id})
        methods = metadata.token_auth_methods
        if methods and "client_secret_basic" not in methods and "client_secret_post" in methods:
            form |= {"client_id": client_id, "client_secret": secret}
            return await self._client.post(metadata.token_endpoint, form)
        return await self._client.post(metadata.token_endpoint, form, basic=(client_id, secret))

    async def _completed(self, metadata: Metadata, claims: Json, access_token: str) -> Json:
        """Add the claims of the userinfo endpoint where the ID token lacks some. Its own claims always win."""
        wanted = (self._config.username_claim, self._config.groups_claim, "email", "name")
        if metadata.userinfo_endpoint is None or all(claim_at(claims, name) is not None for name in wanted):
            return claims
        told = await self._client.get_object(metadata.userinfo_endpoint, token=access_token)
        if told.get("sub") != claims["sub"]:  # OpenID Connect Core §5.3.2: it may be of somebody else
            raise untrusted("the userinfo endpoint tells of another subject than the ID token")
        return told | claims

    def _identity(self, claims: Json) -> ExternalIdentity:
        subject = claims["sub"]
        if not isinstance(subject, str) or not subject or len(subject) > MAX_SUBJECT:
            raise untrusted("the subject of the ID token is empty or too long")
        username = _text(claim_at(claims, self._config.username_claim))
        if username is None:
            message = (
                f"The identity provider did not send the claim '{self._config.username_claim}'. Ask an administrator."
            )
            raise SignInRefused(RefusalReason.INCOMPLETE, message, detail="choose another username_claim, or a scope")
        groups = groups_of(claim_at(claims, self._config.groups_claim))
        return ExternalIdentity(
            provider=self.name,
            subject=self._subject(subject),
            username=username,
            email=_text(claims.get("email")),
            email_verified=claims.get("email_verified") is True and _text(claims.get("email")) is not None,
            display_name=_text(claims.get("name")),
            groups=groups,
            role=self._config.roles.role_of(groups),
            provider_session=_text(claims.get("sid")),
        )

    def _subject(self, sub: str) -> str:
        return f"{self._config.issuer}#{sub}"  # no issuer has a fragment, so this has one reading


def claim_at(claims: Json, path: str) -> object:
    """Give a claim by its name, or else by a path of names with dots between; None if there is none.

    The name goes first: a claim may be a URL, which has dots.
    """
    if path in claims:
        return claims[path]
    first, _, rest = path.partition(".")
    inner = claims.get(first)
    return claim_at(cast("Json", inner), rest) if rest and isinstance(inner, dict) else None


def groups_of(value: object) -> frozenset[str]:
    """Give the groups of a claim, which is a list or a single text."""
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return frozenset([item for item in items if isinstance(item, str) and item][:MAX_GROUPS])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
