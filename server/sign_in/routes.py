"""Sign-in at an identity provider, as a browser walks it.

    GET /auth/{provider}/start?returnTo=/…   302 to the provider, with a cookie by which the browser is known again
    GET /auth/{provider}/callback?…          302 to returnTo, with the session cookie; or with #sign-in-error=…

The cookie is `SameSite=Lax`, for it has to come along when the provider sends the browser back; that of the session
stays `Strict`. What goes wrong is told by a short code alone: nothing that a provider wrote gets into a page.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from db.engine import DatabaseUnavailable
from gateway.audit import AuditOutcome, Deed, Target
from gateway.errors import DatabaseDown, GatewayError, InvalidInput, NotFound, Overloaded, TransportErrorCode
from gateway.identity import (
    PENDING_TIME,
    ExternalSignInRefused,
    FinishedSignIn,
    Identity,
    SignedIn,
    SignInProblem,
)
from schema.session_cookie import SessionCookie
from server.transports import SessionCookies, client_of

_SECURE_NAME = "__Host-ollagraph_sign_in"
_PLAIN_NAME = "ollagraph_sign_in"

_LOCAL_PATH = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?")
"""A path and more of the gateway's own: printable ASCII without backslashes, the second character no slash. A browser
takes `//host` and `/\\host` for another site, and leaves out tabs and line breaks before it looks."""

MAX_RETURN_TO = 2000

_STATUS: Mapping[type[GatewayError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    InvalidInput: HTTPStatus.BAD_REQUEST,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseDown: HTTPStatus.SERVICE_UNAVAILABLE,
}


class RedirectsOverHttp:
    """Answers at the two addresses. `public_url` is the origin that providers send browsers back to, if it is set."""

    def __init__(self, identity: Identity, cookies: SessionCookies, public_url: str | None) -> None:
        self._identity = identity
        self._cookies = cookies
        self._public_url = public_url

    def routes(self) -> list[Route]:
        """Give the routes."""
        return [
            Route("/auth/{provider}/start", self.start, methods=["GET"]),
            Route("/auth/{provider}/callback", self.callback, methods=["GET"]),
        ]

    async def start(self, request: Request) -> Response:
        """Send the browser to the provider."""
        provider = request.path_params["provider"]
        try:
            return_to = local_path(request.query_params.get("returnTo", "/"))
        except InvalidInput as error:
            return _refused(request, error)
        try:
            begun = await self._identity.redirects.begin(
                provider, self._redirect_uri(request, provider), return_to, request.cookies.get(_name(request))
            )
        except ExternalSignInRefused as refused:
            await self._record(request, provider, refused.problem)
            return _sent_to(_with_problem(return_to, refused.problem))
        except (GatewayError, DatabaseUnavailable) as error:
            return _refused(request, error)
        response = _sent_to(begun.url)
        seconds = int(PENDING_TIME.total_seconds())
        response.headers.append("set-cookie", _cookie(request, begun.browser, seconds))
        return response

    async def callback(self, request: Request) -> Response:
        """Finish the sign-in, and send the browser where it wanted to go."""
        provider, browser = request.path_params["provider"], request.cookies.get(_name(request))
        params = request.query_params.multi_items()
        try:
            finished = await self._identity.redirects.finish(provider, params, browser, client_of(request))
        except (GatewayError, DatabaseUnavailable) as error:
            return _refused(request, error)
        await self._record(request, provider, finished.outcome)
        return self._answer(request, finished)

    def _answer(self, request: Request, finished: FinishedSignIn) -> Response:
        if isinstance(finished.outcome, SignInProblem):
            return _sent_to(_with_problem(finished.return_to, finished.outcome))
        response = _sent_to(finished.return_to)
        kept = SessionCookie(sent=None, is_foreign=False)
        kept.keep(finished.outcome.refresh_token)
        self._cookies.write(request, kept, response.headers)
        response.headers.append("set-cookie", _cookie(request, "", 0))
        return response

    def _redirect_uri(self, request: Request, provider: str) -> str:
        """Give where the provider sends the browser back. The host was checked before, and the provider checks all."""
        origin = self._public_url or f"{request.scope['scheme']}://{request.headers['host']}"
        return f"{origin}/auth/{provider}/callback"

    async def _record(self, request: Request, provider: str, outcome: SignedIn | SignInProblem) -> None:
        succeeded = isinstance(outcome, SignedIn)
        deed = Deed(
            "login",
            AuditOutcome.SUCCESS if succeeded else AuditOutcome.REFUSED,
            code=None if succeeded else outcome.name,
            client=client_of(request),
            request_id=request.state.request_id,
            target=Target("User", str(outcome.user.id)) if succeeded else Target("Provider", provider),
            name=outcome.user.username if succeeded else None,
            user_id=outcome.user.id if succeeded else None,
            details={"provider": provider},
        )
        if succeeded:
            await self._identity.audit.record(deed)
        else:  # strangers can make as many as they like, so that they are counted
            self._identity.audit.note(deed)


def local_path(text: str) -> str:
    """Give a path of the gateway's own, to which a browser may be sent. Raises InvalidInput for any other address."""
    if len(text) > MAX_RETURN_TO or not _LOCAL_PATH.fullmatch(text):
        raise InvalidInput("returnTo", "must be a path of this gateway, such as /#try-it.")
    return text


def _with_problem(return_to: str, problem: SignInProblem) -> str:
    return f"{return_to.partition('#')[0]}#sign-in-error={problem.value}"


def _sent_to(url: str) -> Response:
    return RedirectResponse(url, HTTPStatus.FOUND, headers={"Cache-Control": "no-store"})


def _refused(request: Request, error: GatewayError | DatabaseUnavailable) -> Response:
    told = DatabaseDown() if isinstance(error, DatabaseUnavailable) else error
    status = next((code for kind, code in _STATUS.items() if isinstance(told, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    code: TransportErrorCode = told.told_as
    extensions = {"code": code, "requestId": request.state.request_id}
    body = orjson.dumps({"errors": [{"message": told.message, "extensions": extensions}]})
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json; charset=utf-8")


def _is_secure(request: Request) -> bool:
    return request.scope["scheme"] == "https"


def _name(request: Request) -> str:
    return _SECURE_NAME if _is_secure(request) else _PLAIN_NAME


def _cookie(request: Request, value: str, seconds: int) -> str:
    secure = "; Secure" if _is_secure(request) else ""
    return f"{_name(request)}={value}; Max-Age={seconds}; Path=/; HttpOnly{secure}; SameSite=Lax"
