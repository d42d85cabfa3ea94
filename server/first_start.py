"""What a gateway needs before it can serve: a secret, the use cases of identity and a first administrator."""

import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from auth.derived_keys import derive_key
from auth.password_policy import PasswordPolicy
from auth.passwords import Argon2Cost, PasswordHasher, generate_password
from auth.providers import Providers
from auth.roles import BuiltInRole
from auth.signing_keys import TokenKeys
from auth.tokens import TokenSigner
from db.engine import Database
from gateway.audit import AuditLog
from gateway.errors import InvalidInput
from gateway.identity import (
    Accounts,
    ApiKeys,
    Attempts,
    Authentication,
    DeviceApprovals,
    DeviceSignIns,
    EndGenerations,
    ExternalAccounts,
    ExternalLinks,
    ExternalPasswords,
    Groups,
    Identity,
    KeyUses,
    KnownCallers,
    Linking,
    LoginPolicy,
    Passwords,
    RedirectSignIns,
    Registration,
    Roles,
    Rotations,
    SessionPolicy,
    Sessions,
    SessionUses,
    SignInOptions,
    SignIns,
    SignOuts,
    nothing_runs,
)
from server.settings import SECRET_FILE, Settings, SettingsError
from server.sign_in import sign_up

ISSUER = "ollagraph"
AUDIENCE = "ollagraph"

ROTATION_LABEL = "ollagraph: rotated API keys"

NO_PROVIDERS = Providers()

SECRET_BYTES = 32

FORMER_SECRET_FILE = f"{SECRET_FILE}.former"


def signing_secret(settings: Settings) -> str:
    """Give the setting, or a secret made once and kept in the data folder, for its owner only. Raises SettingsError."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value()
    path = settings.data_dir / SECRET_FILE
    try:
        return kept_secret(path)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be made or read ({error.strerror}). Fix that, or set OLLAGRAPH_SECRET_KEY."
        ) from error


def former_secret(settings: Settings) -> tuple[str, datetime] | None:
    """Give the secret that `rotate-secret` has replaced, and until when its tokens are taken; None where it is over."""
    path = settings.data_dir / FORMER_SECRET_FILE
    if settings.secret_key is not None or not path.exists():
        return None
    until = datetime.fromtimestamp(path.stat().st_mtime, UTC) + timedelta(seconds=settings.access_token_lifetime)
    return (kept_secret(path), until) if datetime.now(UTC) < until else None


def replace_secret(settings: Settings, *, keep_former: bool) -> Path:
    """Make a new secret in the data folder, and give its file. Raises SettingsError.

    Where the former one is kept, it goes on verifying until the last token that it signed has expired.
    """
    path, former = settings.data_dir / SECRET_FILE, settings.data_dir / FORMER_SECRET_FILE
    old = signing_secret(settings)
    try:
        if keep_former:
            _write_secret(former, old)
        else:
            former.unlink(missing_ok=True)
        _write_secret(path, secrets.token_hex(SECRET_BYTES))
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}).") from error
    return path


def _write_secret(path: Path, secret: str) -> None:
    """Write a file for its owner only, which appears whole."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def kept_secret(path: Path) -> str:
    """Give the secret in a file, which is made if it is not there. Raises SettingsError for a damaged one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(SECRET_BYTES))
        except OSError:  # half of one would be taken for a damaged one
            path.unlink()
            raise
    secret = path.read_bytes().strip()
    if len(secret) < 2 * SECRET_BYTES or not secret.isascii() or not secret.decode().isprintable():
        raise SettingsError(f"{path} is damaged. Delete it (everyone must sign in again), or set OLLAGRAPH_SECRET_KEY.")
    return secret.decode()


def password_policy(settings: Settings) -> PasswordPolicy:
    """Give the rules for new passwords that the settings ask for."""
    return PasswordPolicy(settings.least_password_length, frozenset(settings.password_required_classes))


def password_hasher(settings: Settings) -> PasswordHasher:
    """Give what hashes passwords, at the cost and by the rules that the settings ask for."""
    cost = Argon2Cost(settings.argon2_time_cost, settings.argon2_memory_kib, settings.argon2_parallelism)
    return PasswordHasher(cost, password_policy(settings))


def make_identity(
    settings: Settings,
    database: Database,
    keys: TokenKeys,
    providers: Providers = NO_PROVIDERS,
    *,
    end_generations: EndGenerations = nothing_runs,
) -> Identity:
    """Give the identity use cases, for the gateway and for the command line, which asks no providers.

    `end_generations` ends what runs for a user who is deleted.
    """
    lifetime = timedelta(seconds=settings.access_token_lifetime)
    tokens = TokenSigner(keys, issuer=ISSUER, audience=AUDIENCE, lifetime=lifetime)
    policy = LoginPolicy(settings.login_max_failures, timedelta(seconds=settings.login_lock_time))
    attempts = Attempts(database, policy)
    known, key_uses = KnownCallers(database, settings.identity_max_age), KeyUses(database)
    passwords = password_hasher(settings)
    session_uses = SessionUses(database)
    sessions = Sessions(database, known, tokens, session_uses, session_policy(settings))
    external = ExternalAccounts(database, known, sign_up(settings))
    external_passwords = ExternalPasswords(database, providers.passwords, external)
    sign_ins = SignIns(database, passwords, external_passwords, sessions, attempts)
    accounts = Accounts(database, known, passwords, end_generations)
    links = ExternalLinks(database, known, providers)
    most = settings.provider_max_pending
    redirects = RedirectSignIns(database, providers, external, links, sessions, provider_max_pending=most)
    return Identity(
        known=known,
        authentication=Authentication(known, tokens, key_uses, session_uses),
        sign_ins=sign_ins,
        accounts=accounts,
        passwords=Passwords(database, known, passwords, sign_ins, accounts, link_lifetime=_link_lifetime(settings)),
        registration=Registration(database, passwords, sign_ins, self_registration=settings.self_registration),
        roles=Roles(database, known),
        groups=Groups(database, known),
        api_keys=ApiKeys(database, known, key_uses, max_api_keys_per_user=settings.max_api_keys_per_user),
        key_uses=key_uses,
        audit=AuditLog(database, settings.audit_retention),
        rotations=Rotations(database, known, key_uses, derive_key(signing_secret(settings), ROTATION_LABEL)),
        sessions=sessions,
        session_uses=session_uses,
        redirects=redirects,
        links=links,
        linking=Linking(database, sign_ins, external_passwords, redirects, links),
        sign_outs=SignOuts(database, known, providers, sessions),
        sign_in_options=SignInOptions(providers, settings.path_prefix),
        device_sign_ins=DeviceSignIns(database, sessions, attempts, settings.public_address),
        device_approvals=DeviceApprovals(database, attempts),
    )


def _link_lifetime(settings: Settings) -> timedelta:
    return timedelta(seconds=settings.link_lifetime)


def session_policy(settings: Settings) -> SessionPolicy:
    """Give how long sessions last, and how many a user may have."""
    return SessionPolicy(
        timedelta(seconds=settings.refresh_token_lifetime),
        timedelta(seconds=settings.session_lifetime),
        settings.max_sessions_per_user,
    )


async def ensure_admin(settings: Settings, identity: Identity) -> str | None:
    """Make the first administrator where there is no user yet; give the password if it had to be made up.

    Raises SettingsError for a name or a password that may not be used.
    """
    if await identity.accounts.any_exists():
        return None
    given = settings.admin_password
    password = generate_password(password_policy(settings)) if given is None else given.get_secret_value()
    try:
        await identity.accounts.create(settings.admin_username, password, role=BuiltInRole.ADMIN)
    except InvalidInput as error:
        if await identity.accounts.any_exists():
            return None  # another gateway that was started at the same time was quicker
        told = [f"OLLAGRAPH_ADMIN_{issue.field.upper()}: {issue.message}" for issue in error.issues]
        raise SettingsError("\n".join(told)) from error
    return password if given is None else None
