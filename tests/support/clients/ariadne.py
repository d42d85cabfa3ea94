"""Use the client that ariadne-codegen made of `ariadne.graphql`: argv holds the gateway's address and a key.

Runs in an environment of its own (`tests.support.codegen`), and prints in JSON what the typed client gave.
"""

import asyncio
import json
import sys

from graphql_client import (
    AskGenerateGenerateSuccess,
    Client,
    GenerateInput,
    PromptInput,
    WatchGenerateGenerationCompleted,
    WatchGenerateTextDelta,
)


def asking(model: str) -> GenerateInput:
    return GenerateInput(model=model, prompt=PromptInput(text="Count"))


async def main(url: str, key: str) -> dict[str, object]:
    authorization = f"Bearer {key}"
    client = Client(
        url=f"{url}/graphql",
        headers={"Authorization": authorization},
        ws_url=f"{url.replace('http', 'ws', 1)}/graphql",
        ws_connection_init_payload={"authorization": authorization},
    )
    async with client:
        asked = (await client.ask(asking("fake:count-3"))).generate
        refused = (await client.ask(asking("no-such-model"))).generate
        events = [event.generate async for event in client.watch(asking("fake:count-5"))]
        page = (await client.list_generations(first=1)).generations
        rest = (await client.list_generations(first=5, after=page.page_info.end_cursor)).generations
        models = (await client.list_models()).models
    ends = [event for event in events if isinstance(event, WatchGenerateGenerationCompleted)]
    return {
        "text": asked.text if isinstance(asked, AskGenerateGenerateSuccess) else None,
        "refusal": [refused.typename__, refused.code.value],
        "streamed": "".join(event.text for event in events if isinstance(event, WatchGenerateTextDelta)),
        "ends": [[end.finish_reason.value, end.usage.completion_tokens] for end in ends],
        "pages": [[edge.node.model_name for edge in found.edges] for found in (page, rest)],
        "listed": "fake:count-3" in [model.name for model in models],
    }


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:])), sys.stdout)
