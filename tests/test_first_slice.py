"""What a newcomer does first."""

from tests.support.gateways import RunningGateway

GENERATE = """
subscription($input: GenerateInput!) { generate(input: $input) {
  __typename ... on GenerationEvent { generationId sequence }
  ... on TextDelta { text offset tokens }
  ... on GenerationCompleted { finishReason usage { promptTokens completionTokens source } generation { state } }
  ... on GenerationRefused { error { __typename code message ... on InvalidInput { issues { path } } } }
  ... on GenerationFailed { error { code message retryable } usage { promptTokens completionTokens source } }
} }
"""


async def test_a_stream_comes_token_by_token_and_is_counted(gateway_on_each_database: RunningGateway):
    gateway = gateway_on_each_database
    events = await gateway.events(GENERATE, {"input": {"model": "fake:count-5", "prompt": {"text": "one two three"}}})
    assert "".join(event["text"] for event in events if event["__typename"] == "TextDelta") == "0 1 2 3 4 "
    assert events[-1]["generation"]["state"] == "COMPLETED"
    assert events[-1]["usage"] == {"promptTokens": 3, "completionTokens": 5, "source": "BACKEND"}
    usage = await gateway.run("{ usage { totals { generations promptTokens completionTokens } } }")
    assert usage["usage"]["totals"] == {"generations": 1, "promptTokens": 3, "completionTokens": 5}
