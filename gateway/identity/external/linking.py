"""Linking an account at an identity provider to who is signed in.

    link ──┬─ a directory: its password, here and now ───────────────▶ linked
           └─ elsewhere: the browser goes there (`redirects.py`) ────▶ linked when it comes back

A way to sign in that stays is worth more to a thief than a token of some minutes. So whoever links has signed in a
short time ago, or gives their password once more, which is counted as in any other sign-in. Taking a way to sign in
away needs no such proof: it can be put back, and the last one stays.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from auth.client import Client
from auth.principal import Principal
from auth.providers import ExternalIdentity
from db import queries
from db.clock import now
from db.engine import Database
from db.tables import User
from gateway.codes import ErrorCode
from gateway.errors import InvalidCredentials, InvalidInput, SessionEnded, Unsupported
from gateway.identity.external.links import ExternalLinks
from gateway.identity.external.passwords import ExternalPasswords
from gateway.identity.external.redirects import BegunSignIn, BrowserAway, LinkedBy, Linker, RedirectSignIns
from gateway.identity.external.return_to import callback_uri, local_path
from gateway.identity.refusals import Conflict

if TYPE_CHECKING:
    from gateway.identity.sign_in import SignIns  # which imports this package

RECENT_TIME = timedelta(minutes=10)
"""How old a sign-in may be to count as a proof."""


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """What to link. `username` and `password` are those at a directory; with `own_password` the caller signs in.

    `return_to` is where the browser goes after it was at the provider.
    """

    provider: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    own_password: str | None = field(default=None, repr=False)
    return_to: str = "/#account"


@dataclass(frozen=True, slots=True)
class BrowserHere:
    """The browser that asks: the origin at which it reaches the gateway, and its secret from another tab."""

    origin: str
    secret: str | None = field(default=None, repr=False)


class RecentSignInRequired(Conflict):
    """The sign-in is too long ago to let somebody change how they sign in."""

    code = ErrorCode.RECENT_SIGN_IN_REQUIRED

    def __init__(self) -> None:
        minutes = int(RECENT_TIME.total_seconds() // 60)
        super().__init__(
            f"You signed in more than {minutes} minutes ago. Give the password that you sign in with, or sign in again."
        )


class Linking:
    """Links accounts at providers to those who are signed in."""

    def __init__(
        self,
        database: Database,
        sign_ins: "SignIns",
        passwords: ExternalPasswords,
        redirects: RedirectSignIns,
        links: ExternalLinks,
    ) -> None:
        self._database = database
        self._sign_ins = sign_ins
        self._passwords = passwords
        self._redirects = redirects
        self._links = links

    async def link(
        self, principal: Principal, wanted: LinkRequest, browser: BrowserHere | None, client: Client
    ) -> LinkedBy | BegunSignIn:
        """Link an account: give its user, or where the browser has to go for it.

        Raises NotFound, InvalidInput; Unsupported for an API key; RecentSignInRequired and SessionEnded; for passwords
        InvalidCredentials, AccountLocked, Overloaded; ExternalSignInRefused.
        """
        if principal.session_id is None:
            raise Unsupported("An API key cannot link an identity provider. Sign in.")
        linker = Linker(principal.user_id, principal.session_id)

        async def attach(identity: ExternalIdentity) -> User:
            user, _ = await self._links.attach(identity, linker.user_id, linker.session_id)
            return user

        directory = self._passwords.at(wanted.provider, attach)
        if directory is not None:
            if not wanted.password:
                raise InvalidInput("password", "give the password of your account at this identity provider.")
            await self._prove(principal, linker.session_id, wanted.own_password, client)
            username = principal.username if wanted.username is None else wanted.username
            return LinkedBy(await self._sign_ins.check_with(username, wanted.password, client, directory))
        self._redirects.check(wanted.provider)
        away = _away(wanted, browser, client)
        await self._prove(principal, linker.session_id, wanted.own_password, client)
        return await self._redirects.begin(wanted.provider, away, linker)

    async def _prove(self, principal: Principal, session_id: UUID, password: str | None, client: Client) -> None:
        """Check that the caller is who signed in, and not only who has their token."""
        if password is not None:
            user = await self._sign_ins.check_with(principal.username, password, client, self._passwords.for_known)
            if user.id != principal.user_id:
                raise InvalidCredentials
            return
        async with self._database.reading() as session:
            found = await queries.session.session_to_go_on(session, session_id, now())
        if found is None:
            raise SessionEnded
        if now() - found[0].created_at > RECENT_TIME:
            raise RecentSignInRequired


def _away(wanted: LinkRequest, browser: BrowserHere | None, client: Client) -> BrowserAway:
    if browser is None:
        raise InvalidInput("provider", "linking this identity provider needs HTTP and one JSON response.")
    uri = callback_uri(browser.origin, wanted.provider)
    return BrowserAway(uri, local_path(wanted.return_to), client, browser.secret)
