"""What a device that polls is told, in the words of RFC 8628, section 3.5.

GatewayError
├── DeviceSignInPending   nobody has decided yet
├── DeviceSignInTooFast   it polls faster than it may
├── DeviceSignInDenied    the person said no, or may not sign in any more
└── DeviceSignInExpired   the code has expired, was used, or never was one
"""

from gateway.errors import ErrorCode, GatewayError


class DeviceSignInPending(GatewayError):
    """Nobody has approved or denied the device yet."""

    code = ErrorCode.AUTHORIZATION_PENDING

    def __init__(self, retry_after_ms: int) -> None:
        self.retry_after_ms = retry_after_ms
        super().__init__("Nobody has approved this device yet. Enter its code on the page, or wait.")


class DeviceSignInTooFast(GatewayError):
    """The device polls too fast; it has to wait longer from now on."""

    code = ErrorCode.SLOW_DOWN

    def __init__(self, retry_after_ms: int) -> None:
        self.retry_after_ms = retry_after_ms
        super().__init__(f"This device polls too fast. Poll again after {retry_after_ms:,} ms.")


class DeviceSignInDenied(GatewayError):
    """Nobody vouches for the device."""

    code = ErrorCode.ACCESS_DENIED

    def __init__(self) -> None:
        super().__init__("The sign-in of this device was denied.")


class DeviceSignInExpired(GatewayError):
    """The device's code leads to nothing any more."""

    code = ErrorCode.DEVICE_CODE_EXPIRED

    def __init__(self) -> None:
        super().__init__("The device code has expired, or was used before. Start the sign-in again.")
