"""The settings of sign-in, sessions and API keys."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class IdentitySettings(BaseSettings):
    """Who asks."""

    secret_key: SecretStr | None = Field(
        default=None,
        description="The key that signs access tokens; 32 bytes or more. Default: generated, kept in the data folder.",
    )
    access_token_lifetime: int = Field(default=28_800, ge=60, description="Seconds that a sign-in is valid.")
    identity_max_age: float = Field(
        default=2,
        ge=0,
        description="Seconds after which changes to users and keys by another process are noticed at the latest.",
    )
    login_max_failures: int = Field(
        default=10,
        ge=1,
        description="Wrong passwords after which a user name is locked for an address. Three times as many lock the "
        "address, ten times as many the name.",
    )
    login_lock_time: int = Field(
        default=900, ge=1, description="Seconds that a lock lasts, and within which failures add up."
    )
    max_api_keys_per_user: int = Field(
        default=100,
        ge=1,
        description="Valid API keys that one user may have at a time; more than 100 raise the cost of `apiKeys`.",
    )
    admin_username: str = Field(
        default="admin", description="The first administrator's name, used when there is no user yet."
    )
    admin_password: SecretStr | None = Field(
        default=None,
        description="The first administrator's password. Default: generated at the first start and shown once.",
    )
    audit_retention: float = Field(
        default=0,
        ge=0,
        description="Seconds that the audit log keeps an event, at least 172,800 (two days); 0: for ever.",
    )
