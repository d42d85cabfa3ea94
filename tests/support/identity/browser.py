"""A browser that walks to an identity provider and back, with cookies of its own."""

from typing import Any

import httpx

from tests.support.gateways import RunningGateway

LINK = """mutation($input: LinkProviderInput!) { linkProvider(input: $input) {
  ... on LinkProviderSuccess { url user { username } } ... on UserError { __typename message code }
} }"""

LOGIN = """mutation($input: LoginInput!) { login(input: $input) {
  ... on LoginSuccess { accessToken } ... on UserError { code }
} }"""


class Browser:
    """A browser: it keeps cookies, and follows where it is sent. `token` is the access token of its page."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.client = httpx.AsyncClient(base_url=gateway.url, trust_env=False)
        self.token: str | None = None

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def start(self, return_to: str = "/", provider: str = "oidc") -> httpx.Response:
        """Ask the gateway for the way to the provider."""
        return await self.client.get(f"/auth/{provider}/start", params={"returnTo": return_to})

    async def at_provider(self, return_to: str = "/", **form: str) -> str:
        """Go as far as the provider, and give the address that it sends back to."""
        return await self.back_from((await self.start(return_to)).headers["location"], **form)

    async def back_from(self, asked: str, **form: str) -> str:
        """Be at the provider, and give the address that it sends back to."""
        answer = await (self.client.post(asked, data=form) if form else self.client.get(asked))
        return answer.headers["location"]

    async def sign_in(self, return_to: str = "/", **form: str) -> httpx.Response:
        """Sign in at the provider from the first step to the last."""
        return await self.client.get(await self.at_provider(return_to, **form))

    async def run(self, query: str, variables: dict[str, Any] | None = None, **headers: str) -> Any:
        """Ask the gateway as the page does, and give the one field of its answer."""
        if self.token is not None:
            headers["authorization"] = f"Bearer {self.token}"
        body = {"query": query, "variables": variables or {}}
        answer = (await self.client.post("/graphql", json=body, headers=headers)).json()
        assert "errors" not in answer, answer["errors"]
        [field] = answer["data"].values()
        return field

    async def log_in(self, username: str, password: str) -> None:
        """Sign in with a password."""
        given = {"username": username, "password": password}
        self.token = (await self.run(LOGIN, {"input": given}))["accessToken"]

    async def link(self, provider: str = "oidc", **more: str) -> Any:
        """Ask for the linking of a provider."""
        return await self.run(LINK, {"input": {"provider": provider, **more}})

    async def linked(self) -> httpx.Response:
        """Link the provider from the first step to the last."""
        return await self.client.get(await self.back_from((await self.link())["url"]))
