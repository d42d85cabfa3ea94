"""Sign-in of a device without a browser of its own: a person approves it in theirs (RFC 8628).

device ─ start ─▶ two codes ─ shows one ─▶ person ─ signed in, compares, approves or denies
   └──── polls with the other, again and again ────▶ a session of that person, once
"""

from gateway.identity.devices.approvals import DeviceApprovals
from gateway.identity.devices.refusals import (
    DeviceSignInDenied,
    DeviceSignInExpired,
    DeviceSignInPending,
    DeviceSignInTooFast,
)
from gateway.identity.devices.sign_ins import DeviceSignIns, StartedDeviceSignIn

__all__ = [
    "DeviceApprovals",
    "DeviceSignInDenied",
    "DeviceSignInExpired",
    "DeviceSignInPending",
    "DeviceSignInTooFast",
    "DeviceSignIns",
    "StartedDeviceSignIn",
]
