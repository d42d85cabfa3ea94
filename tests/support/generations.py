"""What tests of generations ask, and how they read the answers."""

from typing import Any
from uuid import UUID

import anyio

from db.clock import new_id
from db.engine import Database
from db.tables import Limit, LimitException
from gateway.limits import ExceptionKind, LimitDimension, LimitWindow, Measure
from tests.support.fake_model_server import FakeRequest
from tests.support.gateways import Json, RunningGateway, Socket
from tests.support.polling import pause

EVENT = """
  __typename ... on GenerationEvent { generationId sequence }
  ... on GenerationQueued { position reason }
  ... on TextDelta { text offset tokens }
  ... on ThinkingDelta { thinking: text offset tokens }
  ... on ToolCallRequested { call { callId name arguments } }
  ... on GenerationCompleted { finishReason usage { promptTokens completionTokens source } generation { state } }
  ... on GenerationCancelled { cancelReason usage { promptTokens completionTokens source } generation { state } }
  ... on GenerationFailed {
    error { code message retryable retryAfterMs }
    usage { promptTokens completionTokens source } generation { state error { code } }
  }
"""
REFUSED = "... on GenerationRefused { error { __typename code message } }"
GENERATE = f"subscription($input: GenerateInput!) {{ generate(input: $input) {{ {EVENT} {REFUSED} }} }}"
WATCH = f"subscription($id: ID!, $after: Int! = 0) {{ generation(id: $id, after: $after) {{ {EVENT} }} }}"

COMPLETE = """
mutation($input: GenerateInput!) { generate(input: $input) {
  __typename
  ... on GenerateSuccess {
    text thinking toolCalls { name arguments }
    generation { id state finishReason cancelReason usage { completionTokens source } }
  }
  ... on GenerateFailure {
    error { retryable } text generation { state error { code } usage { completionTokens source } }
  }
  ... on UserError { code message }
} }
"""
START = """
mutation($input: GenerateInput!) { startGeneration(input: $input) {
  __typename ... on StartGenerationSuccess { generation { id state } } ... on UserError { code message }
  ... on ModelNotFound { modelName suggestions } ... on Unsupported { capability }
  ... on Overloaded { retryAfterMs } ... on ShuttingDown { retryAfterMs }
} }
"""
CANCEL = """
mutation($id: ID!) { cancelGeneration(input: {id: $id}) {
  __typename
  ... on CancelGenerationSuccess {
    generation { state finishReason cancelReason usage { promptTokens completionTokens source } }
  }
  ... on UserError { code message }
} }
"""
GENERATION = """
query($id: ID!) { generation(id: $id) {
  state finishReason cancelReason text error { code retryable retryAfterMs }
  usage { promptTokens completionTokens source }
} }
"""
TOTAL = "{ usage { totals { generations promptTokens completionTokens } } }"

UNFINISHED = "{ generations(first: 100, filter: {states: [QUEUED, RUNNING]}) { nodes { id } } }"

TERMINAL = {"GenerationCompleted", "GenerationCancelled", "GenerationFailed"}


def asking(model: str, prompt: str = "one two three", **fields: Any) -> Json:
    """The variables of a request; its prompt has three words unless another is given."""
    return {"input": {"model": model, "prompt": {"text": prompt}, **fields}}


def text_of(events: list[Json]) -> str:
    """The answer's text."""
    return "".join(event["text"] for event in events if event["__typename"] == "TextDelta")


def ends(events: list[Json]) -> list[Json]:
    """The terminal events: there must be one, and it must be the last."""
    return [event for event in events if event["__typename"] in TERMINAL]


async def next_event(socket: Socket, id: str = "1") -> Json:
    """The next event of an operation."""
    return await anext(aiter(socket.events(id)))


async def until(socket: Socket, typename: str, id: str = "1") -> list[Json]:
    """The events of an operation up to the first one of that type."""
    events: list[Json] = []
    while not events or events[-1]["__typename"] != typename:
        events.append(await next_event(socket, id))
    return events


async def start(gateway: RunningGateway, model: str, **fields: Any) -> str:
    """Start a generation and give its id."""
    return (await gateway.run(START, asking(model, **fields)))["startGeneration"]["generation"]["id"]


async def cancel(gateway: RunningGateway, id: str) -> Json:
    """Cancel a generation, or wait for its end if that is already on its way; give it as it ended."""
    return (await gateway.run(CANCEL, {"id": id}))["cancelGeneration"]["generation"]


async def look(gateway: RunningGateway, id: str) -> Json:
    """A generation as it is now."""
    return (await gateway.run(GENERATION, {"id": id}))["generation"]


async def total(gateway: RunningGateway) -> Json:
    """What the ledger says altogether."""
    return (await gateway.run(TOTAL))["usage"]["totals"]


async def none_runs(gateway: RunningGateway) -> None:
    """Return when no generation is under way."""
    with anyio.fail_after(20):
        while (await gateway.run(UNFINISHED))["generations"]["nodes"]:
            await pause()


async def asked(gateway: RunningGateway) -> FakeRequest:
    """The first request of a backend, once its generation has a row, too: the backend may be asked before that."""
    request = await gateway.fake.request()
    with anyio.fail_after(20):
        while not (await gateway.run("{ generations(first: 1) { nodes { id } } }"))["generations"]["nodes"]:
            await pause()
    return request


async def until_tokens(socket: Socket, count: int) -> list[dict[str, Any]]:
    """The next events, until they hold so many tokens."""
    seen: list[dict[str, Any]] = []
    while sum(event.get("tokens", 0) for event in seen) < count:
        seen.append(await next_event(socket))
    return seen


async def set_limit(
    database: Database,
    amount: int,
    measure: Measure = Measure.TOKENS,
    window: LimitWindow | None = LimitWindow.DAY,
    *each: LimitDimension,
    name: str = "limit",
    exceptions: dict[tuple[ExceptionKind, str], int | None] | None = None,
    **columns: object,
) -> UUID:
    """Set a limit, and give its id."""
    row = Limit(id=new_id(), name=name, measure=measure, window=window, amount=amount, each=list(each), **columns)
    async with database.transaction() as tx:
        tx.add(row)
        await tx.flush()
        for (kind, subject), other in (exceptions or {}).items():
            tx.add(LimitException(limit_id=row.id, kind=kind, subject=subject, amount=other))
    return row.id
