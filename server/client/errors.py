"""What goes wrong between the command line and a gateway, told in a sentence; the exit status is 1."""

import click


class ClientError(click.ClickException):
    """Anything that a person can do something about."""


class GatewayUnreachable(ClientError):
    """Nothing was learnt of the gateway: asking again later may help."""


class GatewayRefused(ClientError):
    """The gateway refused; `code` is its reason, where it gave one. `retry_after_ms` is when to ask again."""

    def __init__(self, message: str, code: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_ms = retry_after_ms
