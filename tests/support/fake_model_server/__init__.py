"""The fake model server of the product, under the name by which tests know it."""

from server.fake_model_server import (
    FAILURE,
    NOT_FOUND,
    Ending,
    FakeModelServer,
    FakeRequest,
    Prompt,
    Raw,
    Script,
    count,
    running_fake_model_server,
    script_for,
)

__all__ = [
    "FAILURE",
    "NOT_FOUND",
    "Ending",
    "FakeModelServer",
    "FakeRequest",
    "Prompt",
    "Raw",
    "Script",
    "count",
    "running_fake_model_server",
    "script_for",
]
