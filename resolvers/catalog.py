"""The root fields of models."""

from typing import Annotated

import strawberry

from auth.scopes import Scope
from gateway.errors import ModelNotFound
from schema.access import requires
from schema.catalog import ASSUMED_MODELS, MODEL_NAME, Backend, Model, ModelFilter
from schema.context import Info
from schema.cost import FEW, list_of


@strawberry.type
class CatalogQuery:
    @strawberry.field(
        description="The models that the caller may use. Models whose backend does not answer now stay in the list, "
        "with `available: false`.",
        directives=[list_of(ASSUMED_MODELS)],
    )
    @requires(Scope.MODELS_READ)
    async def models(
        self,
        info: Info,
        filter: Annotated[
            ModelFilter | None, strawberry.argument(description="Which models to list; null for all.")
        ] = None,
    ) -> list[Model] | None:
        wanted = (filter or ModelFilter()).to_filter()
        return [
            Model.of(model) for model in await info.context.gateway.catalog.models(wanted, info.context.caller.models)
        ]

    @strawberry.field(description="One model; null if there is none with this name.")
    @requires(Scope.MODELS_READ)
    async def model(
        self, info: Info, name: Annotated[str, strawberry.argument(description=MODEL_NAME)]
    ) -> Model | None:
        try:
            return Model.of(await info.context.gateway.catalog.find(name, info.context.caller.models))
        except ModelNotFound:
            return None

    @strawberry.field(
        description="The model servers and whether they answer. Shows why a model is missing.",
        directives=[list_of(FEW)],
    )
    @requires(Scope.MODELS_READ)
    async def backends(self, info: Info) -> list[Backend] | None:
        return [Backend.of(state) for state in await info.context.gateway.catalog.backends()]
