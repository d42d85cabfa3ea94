"""What can go wrong at a model server.

BackendError                  anything below; `retryable` tells whether asking again may help
├── BackendUnavailable        no connection, or it broke before the end (retryable)
│   └── BackendResting        the gateway did not ask it: it has failed again and again (retryable)
├── BackendTimeout            connect, first byte, between tokens or total (retryable)
├── BackendOverloaded         429 or 503: ask later (retryable)
├── BackendModelNotFound      the server does not know the model
├── BackendContextTooLong     prompt and answer do not fit into the model's context
├── BackendRejected           the server refused the request (4xx); asking again gives the same
├── BackendUnsupported        this kind of server cannot do what was asked; found before asking it
├── BackendFailed             the server said that it failed (5xx, or an error in the stream)
├── MalformedToolCall         the model called a tool with arguments that are no JSON object
└── BackendProtocolError      what came is not what the protocol allows: malformed, or cut off early
"""

from enum import StrEnum
from typing import ClassVar


class TimeoutPhase(StrEnum):
    """Which of the time-outs ran out."""

    CONNECT = "connect"
    LOADING = "loading the model"
    FIRST_BYTE = "first byte"
    BETWEEN_TOKENS = "between tokens"
    TOTAL = "total"


class BackendError(Exception):
    """The root of the tree. The message is fit for a user: it holds no URL, no key and no prompt.

    `servers_fault` is whether the server failed, and not the request: another server may answer it.
    """

    retryable: ClassVar[bool] = False
    servers_fault: bool = False
    retry_after: float | None = None
    """After how many seconds to ask again, where that is known."""


class BackendUnavailable(BackendError):
    """The server cannot be reached, or the connection broke."""

    retryable = True
    servers_fault = True


class BackendResting(BackendUnavailable):
    """The server was not asked: it has failed so often in a row that it is left alone for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"The model server has failed several times in a row. The gateway asks it again in {retry_after:.0f} s."
        )


class BackendTimeout(BackendError):
    """The server took too long."""

    retryable = True
    servers_fault = True

    def __init__(self, phase: TimeoutPhase, seconds: float) -> None:
        self.phase = phase
        super().__init__(f"The model server took longer than {seconds:g} s ({phase}).")


class BackendOverloaded(BackendError):
    """The server has no room now.

    `retry_after` is how many seconds it asks to wait, where it does. `refused` is whether it turned the request down
    because of who asks (429), and not because it cannot answer anybody now (503).
    """

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, refused: bool = False) -> None:
        self.retry_after = retry_after
        self.refused = refused
        self.servers_fault = not refused
        super().__init__(message)


class BackendContextTooLong(BackendError):
    """The prompt, or the prompt with the answer asked for, is longer than the model's context."""


class BackendModelNotFound(BackendError):
    """The server does not have the model."""


class BackendRejected(BackendError):
    """The server refused the request as it is."""


class BackendUnsupported(BackendError):
    """This kind of server cannot do what was asked."""


class BackendFailed(BackendError):
    """The server failed at its work."""

    retryable = True
    servers_fault = True


class MalformedToolCall(BackendError):
    """The model called a tool, and what it wrote as arguments is no JSON object. Another try may do better."""

    retryable = True

    def __init__(self, tool: str) -> None:
        super().__init__(f"The model called the tool {tool!r} with arguments that are not a JSON object.")


class BackendProtocolError(BackendError):
    """The server broke its own protocol."""

    retryable = True
    servers_fault = True
