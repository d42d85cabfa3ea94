"""What plugins end."""

from gateway.errors import ErrorCode, GatewayError


class RequestRefused(GatewayError):
    """A plugin refuses the request, and says why."""

    code = ErrorCode.REQUEST_REFUSED


class GuardFailed(GatewayError):
    """A plugin that must have its say could not: nothing goes on without it. The log has the reason."""

    code = ErrorCode.GUARD_FAILED
    retryable = True

    def __init__(self, plugin: str) -> None:
        super().__init__(f"The plugin {plugin!r}, which has to check this, failed. The gateway's log says why.")
