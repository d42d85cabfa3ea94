"""The tests' fake model server as a process of the bench, with the models that the bench asks for on its list."""

import sys

import anyio

from tests.support.fake_model_server import running_fake_model_server

COUNT = "fake:count-256"
"""256 tokens, each a chunk of its own, as fast as it can."""

PACED = "fake:paced-64-20"
"""64 tokens, 20 milliseconds before each."""

PACED_LONG = "fake:paced-256-20"
"""The same with 256 tokens: about as long as people's answers are."""

SHORT = "fake:count-1"
"""One token."""

SLOW = "fake:paced-60-50"
"""60 tokens, 50 milliseconds before each: a large model."""

HOLD = "fake:hold-1"
"""Nothing at all, until the bench ends."""


FAULTY = ("fake:error-5", "fake:cut-5", "fake:stall-5")
"""They end with an error, a reset, and never."""


async def _serve() -> None:
    async with running_fake_model_server() as fake:
        fake.models = [COUNT, PACED, PACED_LONG, SHORT, SLOW, HOLD, *FAULTY]
        sys.stdout.write(f"{fake.url}\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_serve, backend_options={"use_uvloop": True})
