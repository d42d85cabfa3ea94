"""What tests of model servers' quirks ask, and how the fake server writes what they answer."""

from typing import Any

import orjson

from tests.support.fake_model_server import Raw
from tests.support.gateways import Json, RunningGateway
from tests.support.generations import asking, text_of

EVENT = """
  __typename ... on GenerationEvent { sequence }
  ... on TextDelta { text offset tokens }
  ... on ThinkingDelta { thinking: text }
  ... on ToolCallRequested { call { callId name arguments argumentsText } }
  ... on GenerationCompleted { finishReason usage { promptTokens completionTokens source } }
  ... on GenerationCancelled { cancelReason usage { promptTokens completionTokens source } }
  ... on GenerationFailed {
    error { code message retryable retryAfterMs } usage { promptTokens completionTokens source }
  }
"""
GENERATE = f"subscription($input: GenerateInput!) {{ generate(input: $input) {{ {EVENT} }} }}"

OLLAMA, OPENAI = "/api/chat", "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"


def sse(value: Json | list[Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    return sse({"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]})


def usage(**counts: Any) -> bytes:
    return sse({"choices": [], "usage": counts})


def line(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", **fields}) + b"\n"


def said(text: str) -> bytes:
    return line(message={"role": "assistant", "content": text}, done=False)


def end(**fields: Any) -> bytes:
    return line(message={"role": "assistant", "content": ""}, done=True, done_reason="stop", **fields)


async def ask(gateway: RunningGateway, path: str, *answers: Raw, **fields: Any) -> list[Json]:
    gateway.fake.raw[path] = list(answers)
    model = "fake:echo" if path == OLLAMA else "openai/fake:echo"
    return await gateway.events(GENERATE, asking(model, **fields))


def ended(events: list[Json]) -> tuple[str, str, str]:
    """Kind of the end, its reason or code, and the text."""
    last = events[-1]
    return last["__typename"], last.get("finishReason") or last["error"]["code"], text_of(events)


WHOLE = ("GenerationCompleted", "STOP", "ab")
AB = (delta(content="a"), delta(content="b"))
FINISHED = (*AB, delta("stop"))
TOLD = {"promptTokens": 7, "completionTokens": 2, "source": "BACKEND"}
