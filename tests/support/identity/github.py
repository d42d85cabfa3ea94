"""GitHub as OAuth clients see it, over real HTTP: authorization, token, and three lists of its API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from auth.providers.oauth import challenge
from tests.support.identity.serving import served


@dataclass
class FakeGitHub:
    """A GitHub Enterprise Server with one person, Ada."""

    url: str = ""
    user: Any = field(default_factory=lambda: {"id": 583231, "login": "ada", "name": "Ada Lovelace", "email": None})
    lists: dict[str, Any] = field(
        default_factory=lambda: {
            "user/emails": [
                {"email": "old@example.org", "primary": False, "verified": True},
                {"email": "ada@example.org", "primary": True, "verified": True},
            ],
            "user/orgs": [{"login": "Acme"}],
            "user/teams": [{"slug": "ops", "organization": {"login": "Acme"}}],
        }
    )
    forbidden: set[str] = field(default_factory=set)
    code: dict[str, str] = field(default_factory=dict)

    def app(self) -> Starlette:
        """Give the application."""
        return Starlette(
            routes=[
                Route("/login/oauth/authorize", self.authorize),
                Route("/login/oauth/access_token", self.token, methods=["POST"]),
                Route("/api/v3/{path:path}", self.api),
            ]
        )

    async def authorize(self, request: Request) -> Response:
        self.code = dict(request.query_params)
        query = urlencode({"code": "the-code", "state": self.code["state"]})
        return RedirectResponse(f"{self.code['redirect_uri']}?{query}")

    async def token(self, request: Request) -> Response:
        """Give a token; GitHub answers with 200 and an error where it gives none."""
        form = dict(parse_qsl((await request.body()).decode()))
        asked, self.code = self.code, {}
        good = asked and form["code"] == "the-code" and challenge(form["code_verifier"]) == asked["code_challenge"]
        if not good or form["client_secret"] != "secret" or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "bad_verification_code", "error_description": "expired"})
        return JSONResponse({"access_token": "gho_x", "token_type": "bearer", "scope": asked["scope"]})

    async def api(self, request: Request) -> Response:
        path = request.path_params["path"]
        if request.headers.get("authorization") != "Bearer gho_x":
            return JSONResponse({"message": "Bad credentials"}, 401)
        if path in self.forbidden:
            return JSONResponse({"message": "Forbidden"}, 403)
        if path == "user":
            return JSONResponse(self.user)
        size, page = int(request.query_params["per_page"]), int(request.query_params["page"])
        return JSONResponse(self.lists[path][(page - 1) * size : page * size])


@asynccontextmanager
async def running_github() -> AsyncIterator[FakeGitHub]:
    """Serve it on a free port."""
    github = FakeGitHub()
    async with served(github.app()) as github.url:
        yield github
