"""Sign-in at a provider to which the browser goes: what is kept while it is away, and what it comes back with.

    begin ──▶ a row: hashes of `state` and of a cookie ──▶ the browser at the provider ──▶ finish: the row, used up

The row belongs to the browser that began (its cookie), to one provider, and to one use. One of somebody who is signed
in, and links an account, belongs to their session, too, and signs nobody in. Somebody who is sent a link in
which another person's sign-in ended has no such cookie, and is not signed in as that person (login CSRF). An answer of
one provider does not count at another's address (mix-up, RFC 9700 §4.4), and none counts twice.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from hmac import compare_digest
from math import ceil
from uuid import UUID

from auth.client import Client, origin
from auth.opaque_secrets import SecretFormat, hash_secret
from auth.providers import ExternalIdentity, PendingSignIn, ProviderError, Providers, UnknownProvider
from db import queries
from db.clock import now
from db.engine import Database
from db.queries import Pending
from db.tables import LoginFlow, User
from gateway.errors import InvalidCredentials, LimitExceeded, NotFound, Overloaded
from gateway.identity.external.accounts import ExternalAccounts
from gateway.identity.external.links import ExternalLinks
from gateway.identity.external.refusals import ExternalSignInRefused, SignInProblem, problem_of
from gateway.identity.sessions import Sessions, SignedIn
from gateway.tasks import purge_regularly

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
class BrowserAway:
    """A browser that is to be sent away: the answer goes to `redirect_uri`, and the browser to `return_to` then.

    `secret` is the one of a browser that has one, from another tab.
    """

    redirect_uri: str
    return_to: str
    client: Client
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Linker:
    """Who links an account to themselves, and in which session."""

    user_id: UUID
    session_id: UUID


@dataclass(frozen=True, slots=True)
class LinkedBy:
    """The user to whom an account was linked."""

    user: User


@dataclass(frozen=True, slots=True)
class FinishedSignIn:
    """What came of a sign-in at a provider, and where the browser goes now. `links`: nobody was to be signed in."""

    return_to: str
    outcome: SignedIn | LinkedBy | SignInProblem
    links: bool = False


class RedirectSignIns:
    """Begins and finishes sign-ins at providers that the browser is sent to."""

    def __init__(
        self,
        database: Database,
        providers: Providers,
        accounts: ExternalAccounts,
        links: ExternalLinks,
        sessions: Sessions,
        *,
        provider_max_pending: int,
    ) -> None:
        self._database = database
        self._providers = providers
        self._accounts = accounts
        self._links = links
        self._sessions = sessions
        self._provider_max_pending = provider_max_pending

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

    async def begin(self, provider: str, away: BrowserAway, linker: Linker | None = None) -> BegunSignIn:
        """Begin a sign-in, or for a `linker` the linking of an account.

        Raises NotFound, LimitExceeded, Overloaded, and ExternalSignInRefused where the provider cannot be reached.
        """
        self.check(provider)
        address = origin(away.client.host)
        await self._check_pending(address)
        try:
            started = await self._providers.redirect(provider).begin(away.redirect_uri)
        except ProviderError as error:
            raise _refused(provider, error) from error
        known = away.secret is not None and BROWSER.is_well_formed(away.secret)
        secret = away.secret if known and away.secret is not None else BROWSER.generate()
        flow = LoginFlow(
            state_hash=hash_secret(started.pending.state),
            browser_hash=hash_secret(secret),
            provider=provider,
            user_id=None if linker is None else linker.user_id,
            session_id=None if linker is None else linker.session_id,
            address=address,
            data={"pending": asdict(started.pending), "return_to": away.return_to},
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
        return_to, links = str(flow.data["return_to"]), flow.user_id is not None
        try:
            identity = await self._identity(provider, PendingSignIn(**flow.data["pending"]), given)
            return FinishedSignIn(return_to, await self._came_back(flow, identity, client), links)
        except ExternalSignInRefused as refused:
            return FinishedSignIn(return_to, refused.problem, links)
        except InvalidCredentials:  # deactivated between the look-up and the session
            return FinishedSignIn(return_to, SignInProblem.DISABLED, links)

    async def run(self) -> None:
        """Remove what nobody came back for, until cancelled."""
        await purge_regularly("old sign-ins at identity providers", self._purge, PURGE_SECONDS)

    async def _purge(self) -> None:
        async with self._database.transaction() as tx:
            await queries.external.purge_login_flows(tx, now())

    async def _check_pending(self, address: str) -> None:
        """Refuse what strangers could fill the database with.

        Several that begin at once may exceed the limits by their number, which is that of the database's connections.
        """
        at = now()
        async with self._database.reading() as session:
            here = await queries.external.login_flows_pending(session, at, address)
            if here.number >= self._provider_max_pending:
                refusal = LimitExceeded(
                    "Too many sign-ins with identity providers were begun at your address and not finished. Try again "
                    "later.",
                    self._provider_max_pending,
                )
                refusal.retry_after_ms = _until(here, at)
                raise refusal
            everywhere = await queries.external.login_flows_pending(session, at)
        if everywhere.number >= MAX_PENDING:
            full = Overloaded("Too many people sign in at this moment. Try again in a few minutes.")
            full.retry_after_ms = _until(everywhere, at)
            raise full

    async def _came_back(self, flow: LoginFlow, identity: ExternalIdentity, client: Client) -> SignedIn | LinkedBy:
        """Sign a verified person in, or link them to who asked for it. Raises ExternalSignInRefused."""
        if flow.user_id is None:
            user = await self._accounts.user_of(identity)
            return await self._sessions.begin(user, client, flow.provider, identity.provider_session)
        if flow.session_id is None:
            raise ExternalSignInRefused(SignInProblem.SESSION_ENDED)
        user, _ = await self._links.attach(identity, flow.user_id, flow.session_id)
        return LinkedBy(user)

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


def _until(pending: Pending, at: datetime) -> int:
    """Give after how many milliseconds the first of those that wait is over."""
    return 0 if pending.first_ends_at is None else max(0, ceil((pending.first_ends_at - at).total_seconds() * 1000))
