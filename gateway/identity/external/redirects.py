"""Sign-in at a provider to which the browser goes: what is kept while it is away, and what it comes back with.

    begin ──▶ a row: hashes of `state` and of a cookie ──▶ the browser at the provider ──▶ finish: the row, used up

The row belongs to the browser that began (its cookie), to one provider, and to one use. Somebody who is sent a link in
which another person's sign-in ended has no such cookie, and is not signed in as that person (login CSRF). An answer of
one provider does not count at another's address (mix-up, RFC 9700 §4.4), and none counts twice.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from hmac import compare_digest

import anyio

from auth.client import Client
from auth.opaque_secrets import SecretFormat, hash_secret
from auth.providers import ExternalIdentity, PendingSignIn, ProviderError, Providers, UnknownProvider
from db import queries
from db.clock import now
from db.engine import Database, DatabaseUnavailable
from db.tables import LoginFlow
from gateway.errors import NotFound, Overloaded
from gateway.identity.external.accounts import ExternalAccounts
from gateway.identity.external.refusals import ExternalSignInRefused, SignInProblem, problem_of
from gateway.identity.sessions import Sessions, SignedIn

logger = logging.getLogger(__name__)

PENDING_TIME = timedelta(minutes=10)
"""How long somebody may take at the provider."""

MAX_PENDING = 100_000
"""Sign-ins that wait at once: strangers begin them, and nobody's right is to fill the database."""

PURGE_SECONDS = 60

BROWSER = SecretFormat("olb_")


@dataclass(frozen=True, slots=True)
class BegunSignIn:
    """Where the browser goes, and the secret by which it is known when it comes back."""

    url: str
    browser: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FinishedSignIn:
    """A sign-in at a provider that came to an end: `signed_in`, or the problem; and where the browser goes now."""

    return_to: str
    outcome: SignedIn | SignInProblem


class RedirectSignIns:
    """Begins and finishes sign-ins at providers that the browser is sent to."""

    def __init__(
        self, database: Database, providers: Providers, accounts: ExternalAccounts, sessions: Sessions
    ) -> None:
        self._database = database
        self._providers = providers
        self._accounts = accounts
        self._sessions = sessions

    def check(self, provider: str) -> None:
        """Raise NotFound where the browser can be sent to no provider of this name."""
        try:
            self._providers.redirect(provider)
        except UnknownProvider:
            raise NotFound(
                f"There is no identity provider {provider[:32]!r}. The query `signInOptions` lists those there are.",
                "SignInOption",
                provider,
            ) from None

    async def begin(self, provider: str, redirect_uri: str, return_to: str, browser: str | None = None) -> BegunSignIn:
        """Begin a sign-in whose answer goes to `redirect_uri`, and after which the browser goes to `return_to`.

        `browser` is the secret of a browser that has one, from another tab. Raises NotFound, Overloaded, and
        ExternalSignInRefused where the provider cannot be reached.
        """
        self.check(provider)
        at = now()
        async with self._database.reading() as session:
            pending = await queries.external.login_flows_pending(session, at)
        if pending >= MAX_PENDING:
            raise Overloaded("Too many people sign in at this moment. Try again in a few minutes.")
        try:
            started = await self._providers.redirect(provider).begin(redirect_uri)
        except ProviderError as error:
            raise _refused(provider, error) from error
        secret = browser if browser is not None and BROWSER.is_well_formed(browser) else BROWSER.generate()
        flow = LoginFlow(
            state_hash=hash_secret(started.pending.state),
            browser_hash=hash_secret(secret),
            provider=provider,
            data={"pending": asdict(started.pending), "return_to": return_to},
            expires_at=now() + PENDING_TIME,
        )
        async with self._database.transaction() as tx:
            tx.add(flow)
        return BegunSignIn(started.url, secret)

    async def finish(
        self, provider: str, params: Sequence[tuple[str, str]], browser: str | None, client: Client
    ) -> FinishedSignIn:
        """Finish a sign-in by the query parameters that the browser came back with. Raises NotFound."""
        self.check(provider)
        given = dict(params)
        flow = await self._taken(given.get("state", ""))
        if flow is None or flow.expires_at <= now():
            return FinishedSignIn("/", SignInProblem.EXPIRED)
        own = browser is not None and compare_digest(flow.browser_hash, hash_secret(browser))
        if not own or flow.provider != provider or len(given) != len(params):
            logger.warning("a sign-in begun at %s came back to %s, not as it went", flow.provider, provider)
            return FinishedSignIn("/", SignInProblem.UNTRUSTED)
        return_to = str(flow.data["return_to"])
        try:
            identity = await self._identity(provider, PendingSignIn(**flow.data["pending"]), given)
            user = await self._accounts.user_of(identity)
            return FinishedSignIn(return_to, await self._sessions.begin(user, client, provider))
        except ExternalSignInRefused as refused:
            return FinishedSignIn(return_to, refused.problem)

    async def run(self) -> None:
        """Remove what nobody came back for, until cancelled."""
        while True:
            try:
                async with self._database.transaction() as tx:
                    await queries.external.purge_login_flows(tx, now())
            except DatabaseUnavailable:
                pass  # which has told the log; there is time
            except Exception:
                logger.exception("old sign-ins at identity providers could not be removed")
            await anyio.sleep(PURGE_SECONDS)

    async def _taken(self, state: str) -> LoginFlow | None:
        """Take a sign-in out of the database. A made-up state must not keep the one writer of SQLite busy."""
        state_hash = hash_secret(state)
        async with self._database.reading() as session:
            if await session.get(LoginFlow, state_hash) is None:
                return None
        async with self._database.transaction() as tx:
            return await queries.external.take_login_flow(tx, state_hash)

    async def _identity(self, provider: str, pending: PendingSignIn, params: Mapping[str, str]) -> ExternalIdentity:
        try:
            return await self._providers.redirect(provider).finish(pending, params)
        except ProviderError as error:
            raise _refused(provider, error) from error


def _refused(provider: str, error: ProviderError) -> ExternalSignInRefused:
    """Give the refusal in the gateway's words; the log learns what the provider said."""
    detail = str(getattr(error, "detail", ""))
    logger.warning("a sign-in with %s came to nothing: %s %s", provider, type(error).__name__, ascii(detail[:300]))
    return ExternalSignInRefused(problem_of(error))
