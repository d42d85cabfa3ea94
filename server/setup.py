"""What a gateway needs before it can serve: a data folder, a secret, tables and a first administrator."""

import os
import secrets
from datetime import timedelta
from pathlib import Path

from auth.passwords import Argon2Cost, PasswordHasher, generate_password
from auth.tokens import TokenSigner
from db.engine import Database
from gateway.errors import InvalidInput
from gateway.identity import Identity
from gateway.sign_in import LoginPolicy
from server.settings import Settings, SettingsError

ISSUER = "ollagraph"
AUDIENCE = "ollagraph"

SECRET_FILE = "secret.key"  # noqa: S105 - the name of the file, not what is in it
SECRET_BYTES = 32


def prepare_data_dir(settings: Settings) -> None:
    """Make the data folder, for its owner only. Raises SettingsError."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"The data folder {settings.data_dir} cannot be made ({error.strerror}). Set OLLAGRAPH_DATA_DIR to another."
        ) from error


def signing_secret(settings: Settings) -> str:
    """The setting, or a secret made once and kept in the data folder, for its owner only. Raises SettingsError."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value()
    path = settings.data_dir / SECRET_FILE
    try:
        return _kept_secret(path)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be made or read ({error.strerror}). Mend that, or set OLLAGRAPH_SECRET_KEY."
        ) from error


def _kept_secret(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
    secret = path.read_text().strip()
    if len(secret) < 2 * SECRET_BYTES:
        raise SettingsError(f"{path} is damaged. Delete it (everyone must sign in again), or set OLLAGRAPH_SECRET_KEY.")
    return secret


def make_identity(settings: Settings, database: Database, password_cost: Argon2Cost | None = None) -> Identity:
    """The identity use cases, for the gateway and for the command line. Raises SettingsError."""
    lifetime = timedelta(seconds=settings.access_token_lifetime)
    tokens = TokenSigner(signing_secret(settings), issuer=ISSUER, audience=AUDIENCE, lifetime=lifetime)
    policy = LoginPolicy(settings.login_max_failures, timedelta(seconds=settings.login_lock_time))
    passwords = PasswordHasher(password_cost)
    return Identity(database, passwords, tokens, policy, settings.identity_max_age, settings.max_api_keys_per_user)


async def ensure_admin(settings: Settings, identity: Identity) -> str | None:
    """Make the first administrator where there is no user yet; give the password if it had to be made up.

    Raises SettingsError for a name or a password that may not be used.
    """
    if await identity.any_user_exists():
        return None
    given = settings.admin_password
    password = generate_password() if given is None else given.get_secret_value()
    try:
        await identity.create_user(settings.admin_username, password, is_admin=True)
    except InvalidInput as error:
        raise SettingsError(f"OLLAGRAPH_ADMIN_{error.field.upper()}: {str(error).partition(': ')[2]}") from error
    return password if given is None else None
