"""What an answer costs, as its server tells it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the backend tells them; None is "not told".

    `cached_tokens` are part of `prompt_tokens`, and `thinking_tokens` of `completion_tokens`.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    thinking_tokens: int | None = None

    def updated(self, new: "Usage") -> "Usage":
        """Give what is known after `new` was told: neither None nor zero takes back how many tokens there were."""
        return Usage(
            new.prompt_tokens or (new.prompt_tokens if self.prompt_tokens is None else self.prompt_tokens),
            new.completion_tokens
            or (new.completion_tokens if self.completion_tokens is None else self.completion_tokens),
            self.cached_tokens if new.cached_tokens is None else new.cached_tokens,
            self.thinking_tokens if new.thinking_tokens is None else new.thinking_tokens,
        )


NOT_TOLD = Usage()
"""Nothing is known."""
