"""Sign-in at an identity provider, and linking one, as a browser walks it.

    GET /auth/{provider}/start?returnTo=/…   302 to the provider, with a cookie by which the browser is known again
    POST /auth/{provider}/backchannel-logout  of the provider itself, when somebody has signed out there
    linkProvider (GraphQL)                   the same, for who is signed in
    GET /auth/{provider}/callback?…          302 to returnTo, with the session cookie; or with #sign-in-error=…, and
                                             where an account was to be linked #link-error=…

The cookie is `SameSite=Lax`, for it has to come along when the provider sends the browser back; that of the session
stays `Strict`. What goes wrong is told by a short code alone: nothing that a provider wrote gets into a page.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from math import ceil
from urllib.parse import parse_qs

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from db.engine import DatabaseUnavailable
from gateway.audit import AuditOutcome, Deed, Target
from gateway.errors import (
    DatabaseDown,
    GatewayError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Overloaded,
    TransportErrorCode,
)
from gateway.identity import (
    BrowserAway,
    ExternalSignInRefused,
    FinishedSignIn,
    Identity,
    LinkedBy,
    SignedIn,
    SignInProblem,
    callback_uri,
    local_path,
)
from gateway.request_limits import RequestBucket, RequestLimits, TooManyRequests
from schema.session_cookie import SessionCookie
from server.transports import SessionCookies, client_of, too_many_headers

MAX_BODY = 128 * 1024
"""Bytes of a form with a logout token, of which all characters may be escaped."""

BODY_SECONDS = 10

_STATUS: Mapping[type[GatewayError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    InvalidInput: HTTPStatus.BAD_REQUEST,
    LimitExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseDown: HTTPStatus.SERVICE_UNAVAILABLE,
}


_Answer = Callable[[Request], Awaitable[Response]]


class RedirectsOverHttp:
    """Answers at the two addresses."""

    def __init__(self, identity: Identity, cookies: SessionCookies, requests: RequestLimits) -> None:
        self._identity = identity
        self._cookies = cookies
        self._requests = requests

    def routes(self) -> list[Route]:
        """Give the routes."""
        return [
            Route("/auth/{provider}/start", self._counted(RequestBucket.SIGN_IN, self.start), methods=["GET"]),
            Route("/auth/{provider}/callback", self._counted(RequestBucket.SIGN_IN, self.callback), methods=["GET"]),
            Route(
                "/auth/{provider}/backchannel-logout",
                self._counted(RequestBucket.ANONYMOUS, self.signed_out_there),
                methods=["POST"],
            ),
        ]

    def _counted(self, bucket: RequestBucket, answer: _Answer) -> _Answer:
        """Answer where the client's address may send one more of these."""

        async def counted(request: Request) -> Response:
            try:
                await self._requests.count(bucket, client_of(request))
            except TooManyRequests as error:
                response = _refused(request, error)
                response.headers.update(too_many_headers(error))
                return response
            return await answer(request)

        return counted

    async def start(self, request: Request) -> Response:
        """Send the browser to the provider."""
        provider, cookie = request.path_params["provider"], self._cookies.read_sign_in(request)
        try:
            return_to = local_path(request.query_params.get("returnTo", "/"))
        except InvalidInput as error:
            return _refused(request, error)
        away = BrowserAway(callback_uri(cookie.origin, provider), return_to, client_of(request), cookie.sent)
        try:
            begun = await self._identity.redirects.begin(provider, away)
        except ExternalSignInRefused as refused:
            await self._record(request, provider, FinishedSignIn(return_to, refused.problem))
            return _sent_to(_with_problem(return_to, refused.problem))
        except (GatewayError, DatabaseUnavailable) as error:
            return _refused(request, error)
        response = _sent_to(begun.url)
        cookie.keep(begun.browser)
        self._cookies.write_sign_in(request, cookie, response.headers)
        return response

    async def callback(self, request: Request) -> Response:
        """Finish the sign-in, and send the browser where it wanted to go."""
        provider, browser = request.path_params["provider"], self._cookies.read_sign_in(request).sent
        params = request.query_params.multi_items()
        try:
            finished = await self._identity.redirects.finish(provider, params, browser, client_of(request))
        except (GatewayError, DatabaseUnavailable) as error:
            return _refused(request, error)
        await self._record(request, provider, finished)
        return self._answer(request, finished)

    async def signed_out_there(self, request: Request) -> Response:
        """End the sessions of which a provider tells. The token alone proves who tells it."""
        provider = request.path_params["provider"]
        try:
            token = await _logout_token(request)
            ended = await self._identity.sign_outs.end_elsewhere(provider, token)
        except (GatewayError, DatabaseUnavailable) as error:
            return _refused(request, error)
        deed = Deed(
            "logout",
            AuditOutcome.SUCCESS,
            client=client_of(request),
            request_id=request.state.request_id,
            target=Target("Provider", provider),
            details={"provider": provider, "sessions": ended},
        )
        await self._identity.audit.record(deed)
        return Response(status_code=HTTPStatus.OK, headers={"Cache-Control": "no-store"})

    def _answer(self, request: Request, finished: FinishedSignIn) -> Response:
        if isinstance(finished.outcome, SignInProblem):
            return _sent_to(_with_problem(finished.return_to, finished.outcome, links=finished.links))
        response = _sent_to(finished.return_to)
        if isinstance(finished.outcome, SignedIn):
            kept = SessionCookie(sent=None, is_foreign=False)
            kept.keep(finished.outcome.refresh_token)
            self._cookies.write(request, kept, response.headers)
        used = self._cookies.read_sign_in(request)
        used.keep("")
        self._cookies.write_sign_in(request, used, response.headers)
        return response

    async def _record(self, request: Request, provider: str, finished: FinishedSignIn) -> None:
        outcome = finished.outcome
        user = outcome.user if isinstance(outcome, SignedIn | LinkedBy) else None
        deed = Deed(
            "linkProvider" if finished.links else "login",
            AuditOutcome.REFUSED if user is None else AuditOutcome.SUCCESS,
            code=outcome.name if isinstance(outcome, SignInProblem) else None,
            client=client_of(request),
            request_id=request.state.request_id,
            target=Target("Provider", provider) if user is None else Target("User", str(user.id)),
            name=None if user is None else user.username,
            user_id=None if user is None else user.id,
            details={"provider": provider},
        )
        if user is None:  # strangers can make as many as they like, so that they are counted
            self._identity.audit.note(deed)
        else:
            await self._identity.audit.record(deed)


async def _logout_token(request: Request) -> str:
    """Read the one field of a form, of which a stranger may send as little as fits. Raises InvalidInput."""
    body = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise InvalidInput("logout_token", f"the body may have at most {MAX_BODY:,} bytes.")
    except TimeoutError:
        raise InvalidInput("logout_token", "the body did not come in time.") from None
    try:
        form = parse_qs(body.decode("ascii"), max_num_fields=10)
    except ValueError:  # not ASCII, or too many fields
        form = {}
    if len(form.get("logout_token", [])) != 1:
        raise InvalidInput("logout_token", "must be sent once, in a form (application/x-www-form-urlencoded).")
    return form["logout_token"][0]


def _with_problem(return_to: str, problem: SignInProblem, *, links: bool = False) -> str:
    return f"{return_to.partition('#')[0]}#{'link' if links else 'sign-in'}-error={problem.value}"


def _sent_to(url: str) -> Response:
    return RedirectResponse(url, HTTPStatus.FOUND, headers={"Cache-Control": "no-store"})


def _refused(request: Request, error: GatewayError | DatabaseUnavailable) -> Response:
    told = DatabaseDown() if isinstance(error, DatabaseUnavailable) else error
    status = next((code for kind, code in _STATUS.items() if isinstance(told, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    code: TransportErrorCode = told.told_as
    extensions = {"code": code, "requestId": request.state.request_id}
    body = orjson.dumps({"errors": [{"message": told.message, "extensions": extensions}]})
    headers = {"Cache-Control": "no-store"}
    if told.retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, ceil(told.retry_after_ms / 1000)))
    return Response(body, status, headers, "application/json; charset=utf-8")
