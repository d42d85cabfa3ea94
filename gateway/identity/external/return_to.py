"""Where a browser goes after it was at an identity provider: a page of the gateway's own, and nowhere else."""

import re

from gateway.errors import InvalidInput

_LOCAL_PATH = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?")
"""A path and more of the gateway's own: printable ASCII without backslashes, the second character no slash. A browser
takes `//host` and `/\\host` for another site, and leaves out tabs and line breaks before it looks."""

MAX_RETURN_TO = 2000


def local_path(text: str) -> str:
    """Give a path of the gateway's own, to which a browser may be sent. Raises InvalidInput for any other address."""
    if len(text) > MAX_RETURN_TO or not _LOCAL_PATH.fullmatch(text):
        raise InvalidInput("returnTo", "must be a path of this gateway, such as /#try-it.")
    return text


def callback_uri(origin: str, provider: str) -> str:
    """Give where a provider sends the browser back, as it is registered there."""
    return f"{origin}/auth/{provider}/callback"
