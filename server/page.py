"""The web page, from the files that its build made."""

import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BESIDE = Path(__file__).resolve().parent.parent
PLACES = (_BESIDE / "web" / "dist", _BESIDE / "ollagraph_data" / "web")
"""Where the built page may be: in a checkout, and in an installed copy (setup.py)."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Only what the page itself needs; the editor in it makes style elements as it goes."""


class _Files(StaticFiles):
    """Files, and in place of each the compressed one that its build put beside it, for who takes that.

    To compress the editor for each visitor took 0.1 s of the processor, and whoever is no user may ask for it, too.
    """

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        packed = f"{os.fspath(full_path)}.gz"
        try:
            found = os.stat(packed)
        except FileNotFoundError:
            return super().file_response(full_path, stat_result, scope, status_code)
        if not _takes_gzip(Headers(scope=scope).get("accept-encoding", "")):
            response = super().file_response(full_path, stat_result, scope, status_code)
        else:
            response = super().file_response(packed, found, scope, status_code)
            response.headers["content-encoding"] = "gzip"
        response.headers["vary"] = "Accept-Encoding"
        return response


def _takes_gzip(accepted: str) -> bool:
    """Read the header Accept-Encoding, of which a weight of zero forbids (RFC 9110, section 12.5.3)."""
    for part in accepted.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() == "gzip":
            weight = weight.strip()
            return not weight or weight.removeprefix("q=").strip("0.") != ""
    return False


def page_folder() -> Path | None:
    """Give the folder with the built page; None where it has not been built."""
    return next((place for place in PLACES if (place / "index.html").is_file()), None)


def page() -> ASGIApp:
    """Give the page, or a line that says how to build it."""
    folder = page_folder()
    if folder is None:
        return PlainTextResponse("The page has not been built. Run `make page`, or use /graphql.", 404)
    files = _Files(directory=folder, html=True)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                hashed = "/assets/" in scope["path"]
                caching = b"public, max-age=31536000, immutable" if hashed else b"no-cache"
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
                    (b"cache-control", caching),
                ]
            await send(message)

        await files(scope, receive, send_with_policy)

    return serve
