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
from tests.support.fake_model_server.asked import note_prompt

FakeModelServer.watchers.append(note_prompt)

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
