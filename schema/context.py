"""What every resolver gets: made anew for each operation, also for each one on a shared WebSocket."""

from dataclasses import dataclass, field
from typing import TypeAlias

import strawberry

from auth.client import UNKNOWN_CLIENT, Client
from auth.errors import AuthenticationError, MissingCredentials
from auth.principal import Principal
from auth.scopes import Scope
from gateway import Gateway
from gateway.audit import AuditOutcome, Deed, Target
from gateway.errors import Forbidden, GatewayError, TooMuchText
from gateway.limits import LimitsTold
from schema.loaders import Loaders
from schema.session_cookie import SessionCookie, SignInCookie


@dataclass(slots=True)
class Context:
    """One operation: who asks, and what it has loaded. It holds no database session: sibling fields run at once.

    `refused` is why the credentials that were given did not hold, or could not be checked. `max_text` is how many
    characters of generations' text the answer may hold, `client` where the request comes from. `cookie` is the session
    cookie, where the answer can set one: in one response over HTTP; there is a `sign_in_cookie`, too, then.

    `last_event_id` is the sequence number after which a client that was cut off wants its stream to go on; `sequence`
    is that of the event that is being sent, for transports that number their messages.
    """

    gateway: Gateway
    request_id: str
    principal: Principal | None = None
    refused: AuthenticationError | GatewayError | None = None
    max_text: int = 16_000_000
    client: Client = UNKNOWN_CLIENT
    cookie: SessionCookie | None = None
    sign_in_cookie: SignInCookie | None = None
    last_event_id: int | None = None
    sequence: int | None = None
    _most_text: int = field(init=False)
    _loaders: Loaders | None = field(default=None, init=False)
    _limits_told: LimitsTold | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._most_text = self.max_text

    @property
    def loaders(self) -> Loaders:
        """The loaders of the operation, made when one is first used: most subscriptions, open for long, use none."""
        if self._loaders is None:
            self._loaders = Loaders(self.gateway, self.principal, self._most_text)
        return self._loaders

    @property
    def limits_told(self) -> LimitsTold:
        """What the operation tells of limits, made when it first starts a generation."""
        if self._limits_told is None:
            self._limits_told = LimitsTold()
        return self._limits_told

    def take_limits_told(self) -> LimitsTold | None:
        """Give what there is to tell of limits, once; None where that is nothing."""
        told, self._limits_told = self._limits_told, None
        return told if told is not None and told.statuses else None

    @property
    def nobody(self) -> AuthenticationError | GatewayError | None:
        """Why the caller is nobody known; None for those who are."""
        return None if self.principal is not None else self.refused or MissingCredentials()

    @property
    def is_nobody(self) -> bool:
        """Tell whether the caller sent no credentials at all."""
        return self.principal is None and self.refused is None

    @property
    def caller(self) -> Principal:
        """Who asks. Raises AuthenticationError when nobody is signed in, or why that is not known."""
        if self.principal is None:
            raise self.refused or MissingCredentials()
        return self.principal

    def require(self, *scopes: Scope) -> Principal:
        """Give the caller, who has one of these scopes. Raises AuthenticationError or Forbidden."""
        caller = self.caller
        if not any(map(caller.has, scopes)):
            wanted = " or ".join(scope.name for scope in scopes)
            refusal = Forbidden(f"This needs the scope {wanted}, which these credentials do not have.")
            if caller.must_change_password:
                refusal = Forbidden("Choose a password of your own first, with the mutation `changePassword`.")
            self._note_refusal(caller, wanted)
            refusal.recorded = True
            raise refusal
        return caller

    def _note_refusal(self, caller: Principal, wanted: str) -> None:
        self.gateway.identity.audit.note(
            Deed(
                "use",
                AuditOutcome.REFUSED,
                "FORBIDDEN",
                principal=caller,
                client=self.client,
                request_id=self.request_id,
                target=Target("Scope", wanted),
            )
        )

    def answered(self, text: str) -> str:
        """Give a text that goes into the answer, counted. Raises TooMuchText where the answer has no room for it."""
        self.count(len(text))
        return text

    def count(self, characters: int) -> None:
        """Count so many characters that go into the answer. Raises TooMuchText where it has no room for them."""
        self.max_text -= characters
        if self.max_text < 0:
            raise TooMuchText


Info: TypeAlias = strawberry.Info[Context, None]
