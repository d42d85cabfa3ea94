"""A gateway asked over HTTP: each of its errors, and each way not to reach it, becomes one sentence."""

import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, cast

import httpx

from server.client.errors import ClientError, GatewayRefused, GatewayUnreachable

TIMEOUT_SECONDS = 30

Json = dict[str, Any]

LOGIN_FIELDS = "accessToken expiresAt refreshToken refreshExpiresAt"
ERROR = "... on UserError { code message }"
START = f"""mutation($name: String!) {{ answer: startDeviceSignIn(input: {{clientName: $name}}) {{
  ... on StartDeviceSignInSuccess {{
    deviceCode userCode verificationUri verificationUriComplete expiresAt intervalMs
  }} {ERROR}
}} }}"""
FINISH = f"""mutation($code: String!) {{ answer: deviceSignIn(input: {{deviceCode: $code}}) {{
  ... on DeviceSignInSuccess {{ {LOGIN_FIELDS} user {{ username }} }} {ERROR}
  ... on DeviceSignInPending {{ retryAfterMs }} ... on DeviceSignInTooFast {{ retryAfterMs }}
}} }}"""
REFRESH = f"""mutation($token: String!) {{ answer: refreshSession(input: {{refreshToken: $token}}) {{
  ... on RefreshSessionSuccess {{ {LOGIN_FIELDS} }} {ERROR}
}} }}"""
LOGOUT = f"mutation {{ answer: logout(input: {{}}) {{ ... on LogoutSuccess {{ signedOut }} {ERROR} }} }}"
ME = "{ answer: me { username role } }"


class RemoteGateway:
    """A gateway at an address. Closed at the end of its block."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, headers={"User-Agent": "ollagraph"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, query: str, variables: Json | None = None, *, token: str | None = None) -> Json:
        """Send an operation and give its field `answer`. Raises GatewayUnreachable, GatewayRefused, ClientError."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            response = self._client.post(
                f"{self.url}/graphql", json={"query": query, "variables": variables or {}}, headers=headers
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_redirect:
            raise ClientError(f"{self.url} sends elsewhere, to {response.headers.get('location')!r}. Use that address.")
        body = self._read(response)
        if errors := body.get("errors"):
            raise self._refused(cast("list[Json]", errors)[0])
        answer = cast("Json", body["data"]["answer"])
        if "code" in answer:
            raise GatewayRefused(answer["message"], answer["code"], answer.get("retryAfterMs"))
        return answer

    def _read(self, response: httpx.Response) -> Json:
        """Give the body of an answer as GraphQL over HTTP makes it."""
        try:
            told = response.json()
        except ValueError:
            told = None
        body = cast("Json", told) if isinstance(told, dict) else {}
        data: object = body.get("data")
        if body.get("errors") or (isinstance(data, dict) and data.get("answer")):  # pyright: ignore[reportUnknownMemberType]
            return body
        if response.status_code in {502, 503, 504}:
            raise GatewayUnreachable(f"{self.url} is not available now (HTTP {response.status_code}). Try again later.")
        raise ClientError(f"{self.url} is no Ollagraph gateway (HTTP {response.status_code}). Check the address.")

    def _refused(self, error: Json) -> ClientError:
        extensions = cast("Json", error.get("extensions") or {})
        if extensions.get("code") == "GRAPHQL_VALIDATION_FAILED" or "requestId" not in extensions:
            return ClientError(f"{self.url} is no Ollagraph gateway that this program can sign in at.")
        if extensions.get("retryable"):
            return GatewayUnreachable(str(error["message"]))
        return GatewayRefused(str(error["message"]), extensions.get("code"))

    def _unreachable(self, error: httpx.HTTPError) -> ClientError:
        """Say why nothing came: the certificate, the address, or the time."""
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ClientError(
                    f"The certificate of {self.url} cannot be verified ({cause.verify_message}). For an authority of "
                    "your own, name its certificate in SSL_CERT_FILE."
                )
            if isinstance(cause, ssl.SSLError):
                return ClientError(f"{self.url} does not speak TLS as expected. Is it http instead of https?")
        if isinstance(error, httpx.TimeoutException):
            return GatewayUnreachable(f"{self.url} does not answer in time. Try again later.")
        return GatewayUnreachable(f"{self.url} cannot be reached ({error or type(error).__name__}). Check the address.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
