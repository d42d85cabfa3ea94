"""The root fields of users, roles, groups, sign-in and API keys."""

import strawberry

from resolvers.identity.api_keys import ApiKeyMutation, ApiKeyQuery
from resolvers.identity.audit import AuditQuery
from resolvers.identity.devices import DeviceMutation, DeviceQuery
from resolvers.identity.external_accounts import ExternalAccountMutation
from resolvers.identity.groups import GroupMutation, GroupQuery
from resolvers.identity.passwords import PasswordMutation
from resolvers.identity.roles import RoleMutation, RoleQuery
from resolvers.identity.service_accounts import ServiceAccountMutation
from resolvers.identity.sessions import SessionMutation
from resolvers.identity.sign_in import SignInMutation, SignInQuery
from resolvers.identity.users import UserMutation, UserQuery


@strawberry.type
class IdentityQuery(SignInQuery, DeviceQuery, UserQuery, GroupQuery, RoleQuery, ApiKeyQuery, AuditQuery):
    pass


@strawberry.type
class IdentityMutation(
    SignInMutation,
    DeviceMutation,
    SessionMutation,
    PasswordMutation,
    ExternalAccountMutation,
    UserMutation,
    GroupMutation,
    RoleMutation,
    ApiKeyMutation,
    ServiceAccountMutation,
):
    pass
