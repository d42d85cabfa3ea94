"""The typed Python client that ariadne-codegen makes of the schema, against a running gateway."""

import json
import os
from pathlib import Path

import anyio

from tests.support.codegen import codegen_python, generate_client
from tests.support.gateways import RunningGateway
from tests.support.node import ROOT


async def test_a_generated_client_asks_streams_and_pages(gateway: RunningGateway, tmp_path: Path):
    python = await anyio.to_thread.run_sync(codegen_python)
    await anyio.to_thread.run_sync(generate_client, python, tmp_path)
    key = (await gateway.make_key())["secret"]
    script = ROOT / "tests" / "support" / "clients" / "ariadne.py"
    done = await anyio.run_process(
        [str(python), str(script), gateway.url, key], env={**os.environ, "PYTHONPATH": str(tmp_path)}, stderr=None
    )
    assert json.loads(done.stdout) == {
        "text": "0 1 2 ",
        "refusal": ["ModelNotFound", "MODEL_NOT_FOUND"],
        "streamed": "0 1 2 3 4 ",
        "ends": [["STOP", 5]],
        "pages": [["fake:count-5"], ["fake:count-3"]],
        "listed": True,
    }
