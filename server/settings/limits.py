"""The settings of limits on what is used."""

from pydantic import Field
from pydantic_settings import BaseSettings

from server.settings.types import LimitThresholds, RequestRates, WebhookSecret, WebhookUrl


class LimitSettings(BaseSettings):
    """How limits hold. The limits themselves are in the database; administrators set them."""

    rate_limit_enabled: bool = Field(
        default=True,
        description="Hold the limits that administrators set, and those on requests by address. Turn this off for "
        "development only.",
    )
    rate_limit_anonymous: RequestRates = Field(
        default="1200/minute",
        description="Requests without valid credentials that one address may send (of IPv6, its first 64 bits): "
        "`60/minute`, or several as `5/second; 60/minute`.",
    )
    rate_limit_sign_in: RequestRates = Field(
        default="120/minute",
        description="The same for what signs somebody in or leads there: `login`, `refreshSession`, devices, new "
        "passwords, and returns from identity providers.",
    )
    limit_thresholds: LimitThresholds = Field(
        default="80,100",
        description="Percentages of a limit: when what is used comes to one, the audit log, `limitReached` and the "
        "webhook tell it, once in a window; `off`: never.",
    )
    webhook_url: WebhookUrl | None = Field(
        default=None, description="Where webhooks are sent, signed by Standard Webhooks: `https://a.example/hook`."
    )
    webhook_secret: WebhookSecret | None = Field(
        default=None,
        description="The secret that signs webhooks: `whsec_` and 24 to 64 bytes in Base64. Several, parted by spaces, "
        "all sign.",
    )
    webhook_timeout: float = Field(
        default=10, gt=0, le=300, description="Seconds that the receiver of a webhook has to answer."
    )
    webhook_retry_time: float = Field(
        default=259_200,
        ge=0,
        le=2_500_000,
        description="Seconds after which a webhook that nobody takes is given up; until then it is tried again.",
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
