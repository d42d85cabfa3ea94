"""What no setting tells by itself: numbers that are too large, secrets that are weak, and settings at odds."""

from typing import TYPE_CHECKING

from auth.weak_secrets import is_guessable_secret
from server.settings.environment import PREFIX

if TYPE_CHECKING:
    from server.settings.settings import Settings

MIN_SECRET_BYTES = 32
MIN_AUDIT_RETENTION = 172_800
"""Seconds. The database itself lets nobody remove an event of the last day."""

LARGEST_NUMBER = 1e12
"""More than any setting needs, and less than breaks a clock."""

LEAST_ARGON2_MEMORY = ((5, 7_168), (4, 9_216), (3, 12_288), (2, 19_456), (1, 47_104))
"""Time cost, and KiB of memory that it needs at least: OWASP's five settings of equal strength."""


def check_settings(settings: "Settings") -> None:
    """Raise ValueError with a sentence that says what to set."""
    for name, value in settings:
        if isinstance(value, int | float) and abs(value) > LARGEST_NUMBER:
            raise ValueError(f"{PREFIX}{name.upper()} must be at most {LARGEST_NUMBER:,.0f}")
    if settings.secret_key is not None and len(settings.secret_key.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"{PREFIX}SECRET_KEY must have at least {MIN_SECRET_BYTES} bytes: openssl rand -hex 32")
    if "*" in settings.cors_origins and settings.cors_credentials:
        raise ValueError(f"{PREFIX}CORS_ORIGINS may not be * together with {PREFIX}CORS_CREDENTIALS: name the origins")
    if (settings.webhook_url is None) != (settings.webhook_secret is None):
        raise ValueError(f"set {PREFIX}WEBHOOK_URL and {PREFIX}WEBHOOK_SECRET together, or neither")
    if settings.trusted_documents != "off" and settings.trusted_documents_path is None:
        raise ValueError(f"set {PREFIX}TRUSTED_DOCUMENTS_PATH, or leave {PREFIX}TRUSTED_DOCUMENTS off")
    if 0 < settings.audit_retention < MIN_AUDIT_RETENTION:
        raise ValueError(f"{PREFIX}AUDIT_RETENTION must be 0 or at least {MIN_AUDIT_RETENTION:,}")
    if settings.argon2_memory_kib < 8 * settings.argon2_parallelism:
        raise ValueError(f"{PREFIX}ARGON2_MEMORY_KIB must be at least 8 times {PREFIX}ARGON2_PARALLELISM (RFC 9106)")
    if settings.environment == "production":
        _check_production(settings)


def _check_production(settings: "Settings") -> None:
    if settings.secret_key is None and settings.signing_keys is None:
        raise ValueError(f"set {PREFIX}SECRET_KEY in production: openssl rand -hex 32")
    if settings.secret_key is not None and is_guessable_secret(settings.secret_key.get_secret_value()):
        raise ValueError(f"{PREFIX}SECRET_KEY can be guessed, in production make one with openssl rand -hex 32")
    least = next(kib for passes, kib in LEAST_ARGON2_MEMORY if settings.argon2_time_cost >= passes)
    if settings.argon2_memory_kib < least:
        raise ValueError(
            f"{PREFIX}ARGON2_MEMORY_KIB must be at least {least} in production, "
            f"with {PREFIX}ARGON2_TIME_COST={settings.argon2_time_cost}"
        )
    if settings.debug:
        raise ValueError(f"unset {PREFIX}DEBUG in production: it tells internal errors to clients")
