"""The machine's store of certificates, which is read once for all clients of HTTP: few of them speak TLS at all."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import certifi
import pytest

_make = ssl.create_default_context


@contextmanager
def certificates_read_once() -> Iterator[None]:
    """Let all who trust what the machine trusts share one context within the block. To make one takes 10 ms."""
    made: dict[object, ssl.SSLContext] = {}

    def context(*arguments: Any, cafile: Any = None, **others: Any) -> ssl.SSLContext:
        own = arguments or others or any(name in os.environ for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
        if own or cafile not in (None, certifi.where()):
            return _make(*arguments, cafile=cafile, **others)
        if cafile not in made:
            made[cafile] = _make(cafile=cafile)
        return made[cafile]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", context)
        yield
