"""The row of a generation that begins, and what is kept beside it."""

from uuid import UUID

from auth.principal import ContentPolicy, Principal, strictest
from db.clock import new_id, now
from db.tables import Generation
from gateway.catalog import Model
from gateway.generation.request import GenerationRequest


def new_row(
    principal: Principal, request: GenerationRequest, model: Model, replica_id: UUID, content_policy: ContentPolicy
) -> Generation:
    """Make the row of a generation that this replica is about to run."""
    return Generation(
        id=new_id(),
        user_id=principal.user_id,
        api_key_id=principal.api_key_id,
        model=model.name,
        backend=model.backend.name,
        replica_id=replica_id,
        fence=1,
        tags={tag.name: tag.value for tag in request.tags} or None,
        end_user=request.end_user,
        group_ids=[str(group_id) for group_id in principal.group_ids] or None,
        on_disconnect=request.on_disconnect,
        content_policy=content_policy,
        on_backend_loss=request.on_backend_loss,
        created_at=now(),
    )


def policy_of(principal: Principal, request: GenerationRequest, content_policy: ContentPolicy) -> ContentPolicy:
    """Give what may be kept of a request: the least of what the setting, the API key and the request itself allow."""
    return strictest((content_policy, principal.content_policy, request.content_policy))
