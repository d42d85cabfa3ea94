"""A tool call, as the API shows it in answers and in what was asked."""

from typing import Self

import orjson
import strawberry
from strawberry.scalars import JSON

from gateway.streams import ToolCall as GatewayToolCall


@strawberry.type(description="A tool call that the model requests. Answer it with a TOOL message.")
class ToolCall:
    call_id: str = strawberry.field(description="The call's id. Pass it as `toolCallId` of the answer.")
    name: str = strawberry.field(description="The tool to call.")
    arguments: JSON | None = strawberry.field(
        description="The arguments, an object; null if the model did not write one, for example because its answer "
        "was cut off."
    )
    arguments_text: str = strawberry.field(description="The arguments as the model wrote them.")

    @classmethod
    def of(cls, call: GatewayToolCall) -> Self:
        """Give the call of a backend."""
        arguments = None if call.arguments is None else JSON(call.arguments)
        text = call.arguments_text or orjson.dumps(call.arguments).decode()
        return cls(call_id=call.id, name=call.name, arguments=arguments, arguments_text=text)
