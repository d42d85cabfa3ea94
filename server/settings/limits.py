"""The settings of limits on what is used."""

from pydantic import Field
from pydantic_settings import BaseSettings


class LimitSettings(BaseSettings):
    """How limits hold. The limits themselves are in the database; administrators set them."""

    rate_limit_enabled: bool = Field(
        default=True, description="Hold the limits that administrators set. Turn this off for development only."
    )
    limit_answer_tokens: int = Field(
        default=8_192,
        ge=1,
        le=1_000_000,
        description="The longest answer in tokens to a request without `maxTokens`, where a limit on tokens or cost "
        "applies: as much is reserved for it.",
    )
    limit_wait_time: float = Field(
        default=3_600,
        gt=0,
        description="Seconds that a generation with `onLimit: WAIT` may wait for a limit.",
    )
