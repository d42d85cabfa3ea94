"""A model server over real HTTP whose models do what their names say, faults included: for tests, and for developers.

`server.py` has the table of the models.
"""

from server.fake_model_server.faults import Faults
from server.fake_model_server.raw import Raw
from server.fake_model_server.scripts import FAILURE, NOT_FOUND, Ending, Prompt, Script, count, script_for
from server.fake_model_server.server import FakeModelServer, FakeRequest
from server.fake_model_server.serving import read_models, running_fake_model_server, serve_fake_models

__all__ = [
    "FAILURE",
    "NOT_FOUND",
    "Ending",
    "FakeModelServer",
    "FakeRequest",
    "Faults",
    "Prompt",
    "Raw",
    "Script",
    "count",
    "read_models",
    "running_fake_model_server",
    "script_for",
    "serve_fake_models",
]
