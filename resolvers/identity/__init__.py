"""The root fields of users, sign-in and API keys."""

import strawberry

from resolvers.identity.api_keys import ApiKeyMutation
from resolvers.identity.audit import AuditQuery
from resolvers.identity.sign_in import SignInMutation
from resolvers.identity.users import UserQuery


@strawberry.type
class IdentityQuery(UserQuery, AuditQuery):
    pass


@strawberry.type
class IdentityMutation(SignInMutation, ApiKeyMutation):
    pass
