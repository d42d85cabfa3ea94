"""GitHub: OAuth without OpenID Connect, so its API is asked who has signed in, with the token that it just gave."""

from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from auth.providers import oauth
from auth.providers.configuration import GitHubConfig
from auth.providers.errors import untrusted
from auth.providers.http import Json, ProviderClient
from auth.providers.protocol import ExternalIdentity, PendingSignIn, Started

SCOPES = ("read:user", "user:email", "read:org")

PAGE = 100
"""Organizations, teams and e-mails that are asked for, as many as GitHub gives at once."""

MAX_PAGES = 10


class GitHubProvider:
    """Signs people in at GitHub, or at a GitHub Enterprise Server."""

    def __init__(self, config: GitHubConfig) -> None:
        self.name, self.label = config.name, config.label
        self._config = config
        self._url = config.url.rstrip("/")
        public = urlsplit(self._url).hostname == "github.com"
        self._api = "https://api.github.com" if public else f"{self._url}/api/v3"
        self._client = ProviderClient(config.name, timeout=config.timeout, ca_file=config.ca_file)

    async def begin(self, redirect_uri: str) -> Started:
        """Start a sign-in."""
        return oauth.begin(
            self.name,
            f"{self._url}/login/oauth/authorize",
            client_id=self._config.client_id,
            redirect_uri=redirect_uri,
            scopes=SCOPES,
            openid=False,
        )

    async def finish(self, pending: PendingSignIn, params: Mapping[str, str]) -> ExternalIdentity:
        """Tell who has signed in. Raises SignInRefused and ProviderUnavailable."""
        # GitHub names https://github.com/login/oauth as its issuer where it names one.
        code = oauth.code_of(pending, params, issuer=f"{self._url}/login/oauth", issuer_required=False)
        form = {
            "client_id": self._config.client_id,
            "client_secret": self._config.client_secret,
            "code": code,
            "redirect_uri": pending.redirect_uri,
            "code_verifier": pending.code_verifier,
        }
        answer = await self._client.post(f"{self._url}/login/oauth/access_token", form)
        token, _ = oauth.token_of(*answer, "access_token")
        return await self._identity(token)

    async def logout_url(self, return_to: str, username: str | None = None) -> str | None:
        """Give None: GitHub ends no session for others."""
        return None

    async def aclose(self) -> None:
        """Close the connections to GitHub."""
        await self._client.aclose()

    async def _identity(self, token: str) -> ExternalIdentity:
        user = await self._client.get_object(f"{self._api}/user", token=token)
        number, login = user.get("id"), user.get("login")
        if type(number) is not int or not isinstance(login, str):
            raise untrusted("GitHub's answer has no id or no login")
        emails = await self._all("user/emails", token)
        email = next((entry for entry in emails if entry.get("primary") is True), Json())
        groups = await self._groups(token)
        name = user.get("name")
        return ExternalIdentity(
            provider=self.name,
            subject=str(number),
            username=login,
            email=address if isinstance(address := email.get("email"), str) else None,
            email_verified=email.get("verified") is True,
            display_name=name if isinstance(name, str) and name else None,
            groups=groups,
            role=self._config.roles.role_of(groups, str.casefold),
        )

    async def _groups(self, token: str) -> frozenset[str]:
        """Give organizations, and teams as `organization/team`."""
        organizations = [entry.get("login") for entry in await self._all("user/orgs", token)]
        teams = [
            f"{cast('Json', organization).get('login')}/{entry.get('slug')}"
            for entry in await self._all("user/teams", token)
            if isinstance(organization := entry.get("organization"), dict)
        ]
        return frozenset([*(login for login in organizations if isinstance(login, str)), *teams])

    async def _all(self, path: str, token: str) -> list[Json]:
        """Give a list, page by page; an empty one if the person has not granted it."""
        found: list[Json] = []
        for page in range(1, MAX_PAGES + 1):
            url = f"{self._api}/{path}?per_page={PAGE}&page={page}"
            status, body = await self._client.get(url, token=token)
            if status in {403, 404}:
                return []
            if status != 200 or not isinstance(body, list):
                raise self._client.unavailable(f"GET {path} answered {status} and no list")
            entries = [cast("Json", entry) for entry in cast("list[object]", body) if isinstance(entry, dict)]
            found += entries
            if len(entries) < PAGE:
                return found
        return found
