"""A model server over real HTTP whose models do what their names say, faults included."""

from tests.support.fake_model_server.raw import Raw
from tests.support.fake_model_server.scripts import FAILURE, NOT_FOUND, Ending, Prompt, Script, count, script_for
from tests.support.fake_model_server.server import FakeModelServer, FakeRequest, running_fake_model_server

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
