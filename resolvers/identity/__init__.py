"""The root fields of users, sign-in and API keys."""

import strawberry

from resolvers.identity.api_keys import ApiKeyMutation, ApiKeyQuery
from resolvers.identity.audit import AuditQuery
from resolvers.identity.service_accounts import ServiceAccountMutation
from resolvers.identity.sessions import SessionMutation
from resolvers.identity.sign_in import SignInMutation
from resolvers.identity.users import UserQuery


@strawberry.type
class IdentityQuery(UserQuery, ApiKeyQuery, AuditQuery):
    pass


@strawberry.type
class IdentityMutation(SignInMutation, SessionMutation, ApiKeyMutation, ServiceAccountMutation):
    pass
