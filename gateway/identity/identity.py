"""Everything about who asks, put together."""

from dataclasses import dataclass

import anyio

from gateway.audit import AuditLog
from gateway.identity.accounts import Accounts
from gateway.identity.api_keys import ApiKeys
from gateway.identity.authentication import Authentication
from gateway.identity.devices import DeviceApprovals, DeviceSignIns
from gateway.identity.external import ExternalLinks, Linking, RedirectSignIns, SignInOptions, SignOuts
from gateway.identity.groups import Groups
from gateway.identity.known import KnownCallers
from gateway.identity.passwords import Passwords
from gateway.identity.registration import Registration
from gateway.identity.roles import Roles
from gateway.identity.rotations import Rotations
from gateway.identity.sessions import Sessions
from gateway.identity.sign_in import SignIns
from gateway.identity.uses import KeyUses, SessionUses


@dataclass(frozen=True, slots=True)
class Identity:
    """The use cases of identity, one object for each noun."""

    known: KnownCallers
    authentication: Authentication
    sign_ins: SignIns
    accounts: Accounts
    passwords: Passwords
    registration: Registration
    roles: Roles
    groups: Groups
    api_keys: ApiKeys
    key_uses: KeyUses
    audit: AuditLog
    rotations: Rotations
    sessions: Sessions
    session_uses: SessionUses
    redirects: RedirectSignIns
    links: ExternalLinks
    linking: Linking
    sign_outs: SignOuts
    sign_in_options: SignInOptions
    device_sign_ins: DeviceSignIns
    device_approvals: DeviceApprovals

    async def run(self) -> None:
        """Look up and write what no request waits for, until cancelled. Belongs into the application's task group."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.known.run)
            tasks.start_soon(self.key_uses.run)
            tasks.start_soon(self.sign_ins.run)
            tasks.start_soon(self.audit.run)
            tasks.start_soon(self.session_uses.run)
            tasks.start_soon(self.sessions.run)
            tasks.start_soon(self.redirects.run)
            tasks.start_soon(self.device_sign_ins.run)
