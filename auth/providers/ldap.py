"""LDAP: finds a person's entry in a directory and binds as them, which is how a directory checks a password.

    user_dn is set       bind as the person  →  read their entry  →  groups, with the same connection
    otherwise            find their entry with a connection of the service  →  bind as the person  →  groups, as the
                         service

A bind with an empty password succeeds at many servers, as nobody (RFC 4513 §5.1.2), and C ends a text at U+0000: such
passwords are refused before anything is sent. Referrals are not followed, for they would carry passwords elsewhere.
libldap waits in threads, of a limit of their own. python-ldap lets go of the interpreter while it waits; bonsai, which
has connections for asyncio, does not during a TLS handshake, and a silent server would stop the whole gateway.
"""

import logging
import secrets
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from threading import Lock
from typing import Any

import anyio

from auth.passwords import MAX_PASSWORD_LENGTH
from auth.providers.configuration import LdapConfig
from auth.providers.errors import InvalidProviderConfig, ProviderUnavailable, RefusalReason, SignInRefused
from auth.providers.ldap_text import escaped, filled, normal_group, subject_text
from auth.providers.protocol import ExternalIdentity
from auth.providers.threads import DaemonThreads

logger = logging.getLogger(__name__)

MAX_USERNAME = 256
MAX_GROUPS = 2000

IDLE_SECONDS = 60.0
"""For how long a connection of the service is used again. Firewalls forget idle ones, and tell nobody."""

STEPS = 3
"""Of a sign-in, each with a time-out: find, bind, groups. Together they bound the wait for a thread, too."""


@dataclass(frozen=True, slots=True)
class Person:
    """An entry of the directory. Names of attributes are in lower case, as they are compared without regard to it."""

    dn: str
    attributes: Mapping[str, list[bytes]]

    def first(self, attribute: str) -> str | None:
        """Give the first value of an attribute that is a text."""
        return next((value for value in self.all(attribute) if value.strip()), None)

    def all(self, attribute: str) -> list[str]:
        """Give all values of an attribute that are texts."""
        texts: list[str] = []
        for value in self.attributes.get(attribute.lower(), []):
            with suppress(UnicodeDecodeError):
                texts.append(value.decode("utf-8"))
        return texts


class LdapProvider:
    """Signs people in at one directory."""

    def __init__(self, config: LdapConfig) -> None:
        self.name, self.label = config.name, config.label
        self._config = config
        self._ldap = _library(config.name)
        self._threads = DaemonThreads(config.max_connections)
        self._idle: list[tuple[float, Any]] = []
        self._lock = Lock()

    async def verify(self, username: str, password: str) -> ExternalIdentity | None:
        """Tell who signs in; None if name or password are wrong. Raises ProviderUnavailable and SignInRefused."""
        username = username.strip()
        if not _usable(username, MAX_USERNAME) or not _usable(password, MAX_PASSWORD_LENGTH):
            return None
        try:
            with anyio.fail_after(STEPS * self._config.timeout):
                return await self._threads.run(partial(self._verify, username, password))
        except TimeoutError:
            raise ProviderUnavailable(self.name, f"{self._config.url} did not answer in time") from None

    async def aclose(self) -> None:
        """Close the connections that wait to be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            _close(connection)

    def _verify(self, username: str, password: str) -> ExternalIdentity | None:
        """Do the work of `verify`, in a thread."""
        try:
            if self._config.user_dn is not None:
                return self._bind_as_user(filled(self._config.user_dn, username=username), username, password)
            return self._search_and_bind(username, password)
        except self._ldap.LDAPError as error:
            logger.warning("the directory %s of %r failed: %s", self._config.url, self.name, error)
            raise ProviderUnavailable(self.name, f"{type(error).__name__}: {error}") from error

    def _bind_as_user(self, dn: str, username: str, password: str) -> ExternalIdentity | None:
        connection = self._bound(dn, password)
        if connection is None:
            return None
        try:
            found = self._people(connection, dn, self._ldap.SCOPE_BASE, "(objectClass=*)")
            return self._identity(found[0], username, connection) if len(found) == 1 else None
        finally:
            _close(connection)

    def _search_and_bind(self, username: str, password: str) -> ExternalIdentity | None:
        person = self._find(username)
        # An unknown name is bound, too: nobody shall learn from the time that it takes which names there are.
        dn = person.dn if person is not None else f"cn={escaped(secrets.token_hex(8))},{self._config.base}"
        connection = self._bound(dn, password)
        if connection is None:
            return None
        _close(connection)
        if person is None:
            return None
        with self._service() as service:
            return self._identity(person, username, service)

    def _find(self, username: str) -> Person | None:
        """Find the one entry of a user name. Two are none: who of them signs in must not depend on the server."""
        expression = filled(self._config.user_filter, username=username)
        with self._service() as service:
            found = self._people(service, self._config.base, self._ldap.SCOPE_SUBTREE, expression)
        if len(found) > 1:
            logger.warning("the directory of %r has several entries for one user name: %s", self.name, expression)
        return found[0] if len(found) == 1 else None

    def _identity(self, person: Person, username: str, connection: Any) -> ExternalIdentity:
        config = self._config
        raw = person.attributes.get(config.subject_attribute.lower(), [])
        if len(raw) != 1:
            message = f"Your entry in the directory has no '{config.subject_attribute}'. Ask an administrator."
            raise SignInRefused(RefusalReason.INCOMPLETE, message, detail="choose another subject_attribute")
        groups = frozenset([*person.all(config.member_of_attribute), *self._groups(person, username, connection)])
        email = person.first(config.email_attribute)
        return ExternalIdentity(
            provider=self.name,
            subject=subject_text(config.subject_attribute, raw[0]),
            username=person.first(config.username_attribute) or username,
            email=email,
            email_verified=config.email_is_verified and email is not None,
            display_name=person.first(config.display_name_attribute),
            groups=groups,
            role=config.roles.role_of(groups, normal_group),
        )

    def _groups(self, person: Person, username: str, connection: Any) -> list[str]:
        """Give names and distinguished names of the groups that are found below `group_base`."""
        config = self._config
        if config.group_base is None:
            return []
        expression = filled(
            config.group_filter, dn=person.dn, username=person.first(config.username_attribute) or username
        )
        entries = self._search(
            connection,
            config.group_base,
            self._ldap.SCOPE_SUBTREE,
            expression,
            [config.group_name_attribute],
            MAX_GROUPS,
        )
        return [name for entry in entries for name in (entry.dn, *entry.all(config.group_name_attribute))]

    def _people(self, connection: Any, base: str, scope: int, expression: str) -> list[Person]:
        """Search for people, for two at most."""
        config = self._config
        wanted = [
            config.subject_attribute,
            config.username_attribute,
            config.email_attribute,
            config.display_name_attribute,
            config.member_of_attribute,
        ]
        try:
            return self._search(connection, base, scope, expression, wanted, 2)
        except self._ldap.SIZELIMIT_EXCEEDED:
            logger.warning("the directory of %r has several entries for one user name: %s", self.name, expression)
        except self._ldap.NO_SUCH_OBJECT:
            logger.warning("the directory of %r has no entry %s, or does not show it", self.name, base)
        return []

    def _search(
        self, connection: Any, base: str, scope: int, expression: str, attributes: list[str], most: int
    ) -> list[Person]:
        """Search, and leave out what refers to other directories."""
        found = connection.search_ext_s(
            base, scope, expression, attributes, timeout=self._config.timeout, sizelimit=most
        )
        return [
            Person(dn, {name.lower(): values for name, values in attributes.items()})
            for dn, attributes in found
            if dn is not None
        ]

    def _bound(self, dn: str, password: str) -> Any:
        """Give a connection bound as this person; None if the directory says no to them."""
        ldap = self._ldap
        if not dn.strip():
            return None  # a bind without a name is one as nobody, whatever the password
        try:
            return self._connect(dn, password)
        except (
            *(ldap.INVALID_CREDENTIALS, ldap.NO_SUCH_OBJECT, ldap.INVALID_DN_SYNTAX, ldap.INAPPROPRIATE_AUTH),
            *(ldap.INSUFFICIENT_ACCESS, ldap.UNWILLING_TO_PERFORM, ldap.CONSTRAINT_VIOLATION),
        ):
            return None

    @contextmanager
    def _service(self) -> Generator[Any]:
        """Lend a connection of the service, for one search; one that failed is closed."""
        connection = self._take() or self._connect(self._config.bind_dn, self._config.bind_password)
        try:
            yield connection
        except BaseException:
            _close(connection)
            raise
        with self._lock:
            self._idle.append((time.monotonic(), connection))

    def _take(self) -> Any:
        """Give a connection of the service that still answers; None if there is none."""
        while True:
            with self._lock:
                since, connection = self._idle.pop() if self._idle else (0.0, None)
            if connection is None:
                return None
            try:
                if time.monotonic() - since < IDLE_SECONDS:
                    self._search(connection, "", self._ldap.SCOPE_BASE, "(objectClass=*)", ["1.1"], 1)
                    return connection
            except self._ldap.LDAPError:
                pass  # the directory was restarted, or hung up: a new connection will tell
            _close(connection)

    def _connect(self, dn: str | None, password: str | None) -> Any:
        """Open a connection, and bind; anonymously without a name. Raises LDAPError."""
        if dn is not None and not password:
            raise AssertionError("a bind with a name and no password is a bind as nobody")
        config, ldap = self._config, self._ldap
        connection = ldap.initialize(config.url)
        try:
            connection.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
            connection.set_option(ldap.OPT_REFERRALS, 0)
            connection.set_option(ldap.OPT_NETWORK_TIMEOUT, config.timeout)
            connection.set_option(ldap.OPT_TIMEOUT, config.timeout)
            # libldap 2.5 waits without end for a handshake of ldaps://. Where the host is gone, this ends it.
            for option, value in ((ldap.OPT_X_KEEPALIVE_IDLE, 10), (ldap.OPT_X_KEEPALIVE_PROBES, 3)):
                connection.set_option(option, value)
            connection.set_option(ldap.OPT_X_KEEPALIVE_INTERVAL, 5)
            connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
            if config.ca_file is not None:
                connection.set_option(ldap.OPT_X_TLS_CACERTFILE, str(config.ca_file))
            connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)  # the last one: it makes the others count
            if config.starttls:
                connection.start_tls_s()
            connection.simple_bind_s(dn or "", password or "")
        except BaseException:
            _close(connection)
            raise
        return connection


def _library(name: str) -> Any:
    """Import python-ldap, which is compiled against libldap."""
    try:
        return import_module("ldap")
    except ImportError as error:
        raise InvalidProviderConfig(
            f"{name}: LDAP needs the package python-ldap. Install it with: pip install 'ollagraph[ldap]'"
            " (it is compiled, and needs a C compiler and the headers of libldap and libsasl2)."
        ) from error


def _close(connection: Any) -> None:
    """Close a connection, also one that has failed."""
    with suppress(Exception):
        connection.unbind_s()


def _usable(text: str, longest: int) -> bool:
    """Tell whether a text may be sent: not empty, bounded, and without what C or UTF-8 would cut or refuse."""
    return 0 < len(text) <= longest and not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)
