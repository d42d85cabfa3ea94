"""The web page, from the files that its build made."""

from pathlib import Path

from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
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


def page_folder() -> Path | None:
    """Give the folder with the built page; None where it has not been built."""
    return next((place for place in PLACES if (place / "index.html").is_file()), None)


def page() -> ASGIApp:
    """Give the page, or a line that says how to build it."""
    folder = page_folder()
    if folder is None:
        return PlainTextResponse("The page has not been built. Run `make page`, or use /graphql.", 404)
    files = GZipMiddleware(StaticFiles(directory=folder, html=True))

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
