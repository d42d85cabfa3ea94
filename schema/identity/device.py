"""Sign-in of a device that shows a code, which a person approves elsewhere (RFC 8628)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self

import strawberry

from auth.device_codes import read_user_code, shown_user_code
from db import tables
from gateway.identity import StartedDeviceSignIn
from schema.errors import (
    AccountLocked,
    DeviceSignInDenied,
    DeviceSignInExpired,
    DeviceSignInPending,
    DeviceSignInTooFast,
    InvalidInput,
    Overloaded,
)
from schema.identity.sign_in import LoginSuccess


@strawberry.input(description="A program that wants to sign in.")
class StartDeviceSignInInput:
    client_name: str | None = strawberry.field(
        default=None,
        description="What to call the program, for the person who approves it and in their list of sessions. "
        "Null: its `User-Agent`.",
    )


@strawberry.type(
    description="Show the person `userCode` and `verificationUri`, and call `deviceSignIn` every `intervalMs`."
)
class StartDeviceSignInSuccess:
    device_code: str = strawberry.field(description="What `deviceSignIn` takes. Keep it secret.")
    user_code: str = strawberry.field(description="What the person types or compares, such as WDJB-MJHT.")
    verification_uri: str = strawberry.field(description="The page on which the person types it.")
    verification_uri_complete: str = strawberry.field(
        description="The same page with the code already in it, to open in a browser or to show as a QR code."
    )
    expires_at: datetime = strawberry.field(description="When the codes expire.")
    interval_ms: int = strawberry.field(description="How many milliseconds to wait between two calls, at least.")

    @classmethod
    def of(cls, started: StartedDeviceSignIn) -> Self:
        """Give what the device is told."""
        return cls(
            device_code=started.device_code,
            user_code=started.user_code,
            verification_uri=started.verification_uri,
            verification_uri_complete=started.verification_uri_complete,
            expires_at=started.expires_at,
            interval_ms=started.interval_ms,
        )


StartDeviceSignInResult = Annotated[
    StartDeviceSignInSuccess | AccountLocked | InvalidInput | Overloaded,
    strawberry.union("StartDeviceSignInResult", description="The result of `startDeviceSignIn`."),
]


@strawberry.input(description="The device whose sign-in to finish.")
class DeviceSignInInput:
    device_code: str = strawberry.field(description="The `deviceCode` that `startDeviceSignIn` gave.")


@strawberry.type(description="A person approved the device: the tokens of a new session of theirs.")
class DeviceSignInSuccess(LoginSuccess):
    pass


DeviceSignInResult = Annotated[
    DeviceSignInSuccess | DeviceSignInPending | DeviceSignInTooFast | DeviceSignInDenied | DeviceSignInExpired,
    strawberry.union("DeviceSignInResult", description="The result of `deviceSignIn`."),
]


@strawberry.type(description="A device that waits for a person to approve it.")
class DeviceSignInRequest:
    user_code: str = strawberry.field(description="The code that the device shows.")
    client_name: str = strawberry.field(description="What the device calls itself. Nobody has verified it.")
    address: str = strawberry.field(description="The network address from which the device asked.")
    requested_at: datetime = strawberry.field(description="When the device asked.")
    expires_at: datetime = strawberry.field(description="Until when it can be approved.")

    @classmethod
    def of(cls, row: tables.DeviceCode, typed: str) -> Self:
        """Give the device of a row, for whoever typed its code."""
        return cls(
            user_code=shown_user_code(read_user_code(typed) or ""),
            client_name=row.client,
            address=row.address,
            requested_at=row.created_at,
            expires_at=row.expires_at,
        )

    @property
    def told(self) -> Mapping[str, str]:
        """What the audit log keeps of it."""
        return {"clientName": self.client_name, "address": self.address}


@strawberry.type(description="A device waits with this code.")
class DeviceSignInRequestSuccess:
    request: DeviceSignInRequest = strawberry.field(description="Who asks, to compare before approving.")


DeviceSignInRequestResult = Annotated[
    DeviceSignInRequestSuccess | AccountLocked | InvalidInput,
    strawberry.union("DeviceSignInRequestResult", description="The result of `deviceSignInRequest`."),
]


@strawberry.input(description="The device to approve.")
class ApproveDeviceInput:
    user_code: str = strawberry.field(description="The code that the device shows.")


@strawberry.type(description="The device gets a session of the caller's when it polls next.")
class ApproveDeviceSuccess:
    request: DeviceSignInRequest = strawberry.field(description="The device that was approved.")


ApproveDeviceResult = Annotated[
    ApproveDeviceSuccess | AccountLocked | InvalidInput,
    strawberry.union("ApproveDeviceResult", description="The result of `approveDevice`."),
]


@strawberry.input(description="The device to deny.")
class DenyDeviceInput:
    user_code: str = strawberry.field(description="The code that the device shows.")


@strawberry.type(description="The device was denied, and nobody can approve it any more.")
class DenyDeviceSuccess:
    request: DeviceSignInRequest = strawberry.field(description="The device that was denied.")


DenyDeviceResult = Annotated[
    DenyDeviceSuccess | AccountLocked | InvalidInput,
    strawberry.union("DenyDeviceResult", description="The result of `denyDevice`."),
]
