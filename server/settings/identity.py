"""The settings of sign-in, sessions and API keys."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from auth.password_policy import MIN_LENGTH, CharacterClass
from server.settings.types import Classes, FilePath


class IdentitySettings(BaseSettings):
    """Who asks."""

    secret_key: SecretStr | None = Field(
        default=None,
        description="The key that signs access tokens; 32 bytes or more. Default: generated, kept in the data folder. "
        "Not needed with key pairs.",
    )
    signing_keys: FilePath | None = Field(
        default=None,
        description="A folder of private keys (`*.pem`, Ed25519 or RSA) that sign access tokens instead of the secret. "
        "The last by name signs, all verify.",
    )
    signing_key_delay: float = Field(
        default=600, ge=0, description="Seconds that a new key pair is published before it signs."
    )
    access_token_lifetime: int = Field(
        default=900,
        ge=60,
        le=43_200,
        description="Seconds that an access token is valid; a new one comes from `refreshSession`.",
    )
    refresh_token_lifetime: int = Field(
        default=2_592_000, ge=60, description="Seconds after which a session ends that is not refreshed."
    )
    session_lifetime: int = Field(
        default=7_776_000, ge=60, description="Seconds after which a session ends, however often it is refreshed."
    )
    max_sessions_per_user: int = Field(
        default=100,
        ge=1,
        le=100,
        description="Sessions that one user may have at a time; a further sign-in ends the one used longest ago.",
    )
    identity_max_age: float = Field(
        default=2,
        ge=0,
        description="Seconds after which changes to users, keys and prices by another process are noticed at the "
        "latest.",
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
    password_min_length: int | None = Field(
        default=None,
        ge=MIN_LENGTH,
        le=64,
        description="Minimum number of characters in a new password. Default: 8, in production 15.",
    )
    password_required_classes: Classes = Field(
        default_factory=list[CharacterClass],
        description='Kinds of characters that a new password must contain, as JSON: `["lower", "upper", "digit", '
        '"symbol"]`.',
    )
    argon2_time_cost: int = Field(default=3, ge=1, le=100, description="Passes over the memory to hash a password.")
    argon2_memory_kib: int = Field(
        default=65_536, ge=8, le=4_194_304, description="Memory to hash a password, in KiB; two are hashed at a time."
    )
    argon2_parallelism: int = Field(default=4, ge=1, le=64, description="Lanes (threads) to hash a password.")
    link_lifetime: int = Field(
        default=259_200, ge=60, description="Seconds that an invitation, or a link to reset a password, can be used."
    )
    self_registration: bool = Field(
        default=False, description="Let anybody create an account for themselves, with the role `user`."
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
