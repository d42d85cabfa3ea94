"""What a gateway needs before it can serve: a data folder, a secret, tables and a first administrator."""

import os
import secrets
from pathlib import Path

from auth.passwords import generate_password
from gateway.identity import Identity
from server.settings import Settings, SettingsError

SECRET_FILE = "secret.key"  # noqa: S105 - the name of the file, not what is in it


def prepare_data_dir(settings: Settings) -> None:
    """Make the data folder, for its owner only. Raises SettingsError."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"The data folder {settings.data_dir} cannot be made ({error.strerror}). Set OLLAGRAPH_DATA_DIR to another."
        ) from error


def signing_secret(settings: Settings) -> str:
    """The setting, or a secret made once and kept in the data folder, readable by its owner only."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value()
    path = settings.data_dir / SECRET_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_secret(path)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return _read_secret(path)


def _read_secret(path: Path) -> str:
    secret = path.read_text().strip()
    if len(secret) < 64:
        raise SettingsError(f"{path} is damaged. Delete it (everyone must sign in again), or set OLLAGRAPH_SECRET_KEY.")
    return secret


async def ensure_admin(settings: Settings, identity: Identity) -> str | None:
    """Make the first administrator where there is no user yet. Returns the password if it had to be made up."""
    if await identity.any_user_exists():
        return None
    if settings.admin_password is not None:
        await identity.create_user(settings.admin_username, settings.admin_password.get_secret_value(), is_admin=True)
        return None
    password = generate_password()
    await identity.create_user(settings.admin_username, password, is_admin=True)
    return password
