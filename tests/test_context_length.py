"""Nothing of a prompt is left out silently: it fits into the context, or it is refused."""

from typing import Any

import pytest

from tests.support.gateways import Json, RunningGateway
from tests.support.generations import GENERATE, asking
from tests.support.quirks import ended


def words(count: int) -> str:
    return " ".join(map(str, range(count)))


async def ask(
    gateway: RunningGateway, model: str, prompt: str, context: int | None = None, **fields: Any
) -> list[Json]:
    options = {"contextLength": context}
    return await gateway.events(GENERATE, asking(model, prompt=prompt, options=options, **fields))


async def test_a_prompt_that_does_not_fit_is_refused(double: RunningGateway):
    events = await ask(double, "fake:echo", context=512, prompt=words(600))
    assert ended(events) == ("GenerationFailed", "CONTEXT_TOO_LONG", "")
    assert (events[-1]["error"]["retryable"], events[-1]["usage"]["promptTokens"]) == (False, 0)
    assert events[-1]["error"]["message"] == (
        "the input length exceeds the context length. Shorten the prompt, or give the model a longer context."
    )


async def test_a_prompt_that_does_not_fit_into_what_the_server_has_loaded_is_refused(double: RunningGateway):
    double.fake.num_ctx = 512
    assert ended(await ask(double, "fake:echo", words(600)))[1] == "CONTEXT_TOO_LONG"
    assert ended(await ask(double, "fake:echo", words(600), context=2048))[2] == words(600)


async def test_a_prompt_that_fits_reaches_the_model_whole(double: RunningGateway):
    events = await ask(double, "fake:count-3", words(508), context=512)
    assert ended(events) == ("GenerationCompleted", "STOP", "0 1 2 ")
    assert events[-1]["usage"]["promptTokens"] == 508


async def test_a_long_conversation_keeps_its_beginning_or_is_refused(double: RunningGateway):
    messages = [{"role": "USER", "text": words(300)}, {"role": "ASSISTANT", "text": words(300)}]
    messages.append({"role": "USER", "text": "and?"})
    variables = {"input": {"model": "fake:echo", "prompt": {"messages": messages}, "options": {"contextLength": 512}}}
    assert ended(await double.events(GENERATE, variables))[1] == "CONTEXT_TOO_LONG"


@pytest.mark.parametrize(
    ("context", "end"),
    [(7, ("GenerationCompleted", "STOP", "0 1 2 3 4 5 6 ")), (6, ("GenerationFailed", "CONTEXT_TOO_LONG", "0 1 2 "))],
)
async def test_the_rest_of_an_answer_fits_too(gateway: RunningGateway, context: int, end: tuple[str, str, str]):
    gateway.fake.closes_turns = True
    gateway.fake.models.append("fake:loses-3-4")
    events = await ask(gateway, "fake:loses-3-4", "one two three", context=context, onBackendLoss="CONTINUE")
    assert ended(events) == end
    assert gateway.fake.requests[-1].path == "/api/generate"
