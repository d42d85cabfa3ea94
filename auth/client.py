"""Where a request comes from, as far as the connection and its headers tell."""

from dataclasses import dataclass

MAX_USER_AGENT = 200


@dataclass(frozen=True, slots=True)
class Client:
    """A client. `host` is its address, `origin` the page that sent the request (RFC 6454), of browsers alone."""

    host: str | None = None
    origin: str | None = None
    user_agent: str = ""


UNKNOWN_CLIENT = Client()


def shown_user_agent(value: str | None) -> str:
    """Give the User-Agent header as it is kept and shown: printable, and not longer than `MAX_USER_AGENT`."""
    return "".join(character for character in value or "" if character.isprintable())[:MAX_USER_AGENT]
