"""Addresses of gateways as people write them, in the one form in which their tokens are kept."""

from urllib.parse import urlsplit

from auth.addresses import NotAnAddress, is_loopback, parse_host_name
from server.client.errors import ClientError

DEFAULT_URL = "http://127.0.0.1:8000"


def gateway_url(text: str) -> str:
    """Give the address without a slash at its end, and without `/graphql`. Raises ClientError for what is none."""
    text = text.strip()
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme not in {"http", "https"} or "@" in parts.netloc or parts.query or parts.fragment:
        raise ClientError(f"{text!r} is not the address of a gateway. Write it as in https://llm.example.")
    try:
        host = parse_host_name(parts.netloc)
    except NotAnAddress as error:
        raise ClientError(f"{text!r} is not the address of a gateway ({error}).") from error
    return f"{parts.scheme}://{host}{parts.path.rstrip('/').removesuffix('/graphql')}"


def check_encrypted(url: str, *, allow_http: bool) -> None:
    """Raise ClientError where tokens would go to another machine without encryption."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        raise ClientError(
            f"Others on the network can read what is sent to {url}. Use https, or --allow-http if you trust the "
            "network."
        )
