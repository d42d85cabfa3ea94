"""Serves fake models as a process of its own."""

import argparse
import os
import sys

import anyio

from tests.support.fake_model_server import running_fake_model_server


async def _serve(port: int, journal: str | None, models: list[str]) -> None:
    async with running_fake_model_server(port) as fake:
        fake.models += models
        if journal is not None:
            fake.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        sys.stdout.write(f"{fake.url}\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


parser = argparse.ArgumentParser(description="Serve fake models that speak Ollama and OpenAI.")
parser.add_argument("--port", type=int, default=0, help="the port to listen on; 0 takes a free one")
parser.add_argument("--journal", help="a file that gets the prompt's first word for each token sent")
parser.add_argument("--model", action="append", default=[], help="a model to list beside the usual ones")
options = parser.parse_args()
anyio.run(_serve, options.port, options.journal, options.model, backend_options={"use_uvloop": True})
