"""Why a caller is not who they say they are.

AuthenticationError           anything below; answered with 401, or by refusing the WebSocket connection
├── MissingCredentials        none were given
├── MalformedCredentials      they cannot be read: wrong scheme, empty, or two different ones at once
├── InvalidToken              a session token that this gateway did not issue, or for somewhere else
├── ExpiredToken              a session token that held once
├── RevokedSession            a session token whose session was ended: signed out, revoked, or its refresh token stolen
├── InvalidApiKey             no such key
├── ExpiredApiKey             a key past its end
├── RevokedApiKey             a key that its user took back
├── RotatedApiKey             the secret that a key had before it was rotated
├── AddressNotAllowed         a key for other networks than the client's
└── OriginNotAllowed          a key for the pages of other sites

The messages are fit for a user. None tells whether a user exists, and none holds the credentials.
"""

from typing import ClassVar


class AuthenticationError(Exception):
    """The root of the tree.

    `code` is stable and for programs: clients find it as `extensions.reason`.
    """

    code: ClassVar[str] = "UNAUTHENTICATED"
    default_message: ClassVar[str] = "You are not signed in."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.default_message)


class MissingCredentials(AuthenticationError):
    """No credentials were given."""

    code = "MISSING_CREDENTIALS"
    default_message = "Sign in, or send an API key as 'Authorization: Bearer <key>'."


class MalformedCredentials(AuthenticationError):
    """The credentials cannot be read."""

    code = "MALFORMED_CREDENTIALS"
    default_message = "The credentials cannot be read. Send 'Authorization: Bearer <token or API key>'."


class InvalidToken(AuthenticationError):
    """The token was not issued by this gateway, or not for this use."""

    code = "INVALID_TOKEN"
    default_message = "The session token is not valid. Sign in again."


class ExpiredToken(AuthenticationError):
    """The token held once."""

    code = "EXPIRED_TOKEN"
    default_message = (
        "The access token has expired. Get a new one with the mutation `refreshSession`, or sign in again."
    )


class RevokedSession(AuthenticationError):
    """The session that the token belongs to was ended."""

    code = "REVOKED_SESSION"
    default_message = "This session was ended. Sign in again."


class InvalidApiKey(AuthenticationError):
    """No such key."""

    code = "INVALID_API_KEY"
    default_message = "The API key is not valid. Check that it was copied whole."


class ExpiredApiKey(AuthenticationError):
    """The key is past its end."""

    code = "EXPIRED_API_KEY"
    default_message = "The API key has expired. Create a new one."


class RevokedApiKey(AuthenticationError):
    """The key was taken back."""

    code = "REVOKED_API_KEY"
    default_message = "The API key was revoked. Create a new one."


class RotatedApiKey(AuthenticationError):
    """The key has another secret by now."""

    code = "ROTATED_API_KEY"
    default_message = "The API key was rotated. Use its new secret."


class AddressNotAllowed(AuthenticationError):
    """The key is limited to networks, and the client is in none of them. Which they are is not told."""

    code = "ADDRESS_NOT_ALLOWED"
    default_message = "The API key may not be used from this address. Ask its owner."


class OriginNotAllowed(AuthenticationError):
    """The key is limited to pages of some sites, and the request came from none of them. Which ones is not told."""

    code = "ORIGIN_NOT_ALLOWED"
    default_message = "The API key may only be used by pages of certain sites. Ask its owner."
