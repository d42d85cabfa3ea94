"""What one generation used, and where the numbers are from."""

from typing import Self

import strawberry

from gateway.streams import TokenUsage as GatewayTokenUsage
from gateway.streams import UsageSource

LARGEST_INT = 2**31 - 1
"""The largest Int of GraphQL: each count fits, and a sum of two may not."""


@strawberry.type(description="Token counts.")
class TokenUsage:
    prompt_tokens: int = strawberry.field(description="Tokens that the model read, including cached ones.")
    completion_tokens: int = strawberry.field(description="Tokens that the model wrote, including its thinking.")
    total_tokens: int = strawberry.field(description="Prompt and completion tokens together.")
    thinking_tokens: int | None = strawberry.field(
        description=(
            "Completion tokens that the model spent on thinking; null if the backend does not report them. Ollama "
            "does not."
        )
    )
    cached_tokens: int | None = strawberry.field(
        description="Prompt tokens that the model had in its cache; null if the backend does not report them."
    )
    source: UsageSource = strawberry.field(
        description="Where the prompt and completion tokens come from: the weaker source of the two."
    )
    prompt_source: UsageSource = strawberry.field(description="Where `promptTokens` comes from.")
    completion_source: UsageSource = strawberry.field(description="Where `completionTokens` comes from.")
    cached_source: UsageSource | None = strawberry.field(
        description="Where `cachedTokens` comes from; null if that is null."
    )
    thinking_source: UsageSource | None = strawberry.field(
        description="Where `thinkingTokens` comes from; null if that is null."
    )

    @classmethod
    def of(cls, usage: GatewayTokenUsage) -> Self:
        """Give the counts of a meter."""
        return cls(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=min(usage.prompt_tokens + usage.completion_tokens, LARGEST_INT),
            thinking_tokens=usage.thinking_tokens,
            cached_tokens=usage.cached_tokens,
            source=usage.source,
            prompt_source=usage.sources.prompt,
            completion_source=usage.sources.completion,
            cached_source=usage.sources.cached,
            thinking_source=usage.sources.thinking,
        )
