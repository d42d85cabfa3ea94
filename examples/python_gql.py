"""Stream a generation with Python's gql: python python_gql.py "Tell me a story" smollm2:135m

Needs `pip install "gql[websockets]"`.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport

URL = os.environ.get("OLLAGRAPH_URL", "http://127.0.0.1:8000/graphql")
ATTEMPTS = 8

LOGIN = """
  mutation ($input: LoginInput!) {
    login(input: $input) {
      ... on LoginSuccess { accessToken }
      ... on UserError { message }
    }
  }
"""

# A generation that is started lives by itself, and any number of subscriptions may watch it, one after the other.
START = """
  mutation ($input: GenerateInput!) {
    startGeneration(input: $input) {
      ... on StartGenerationSuccess { generation { id } }
      ... on UserError { message }
    }
  }
"""

CANCEL = """
  mutation ($input: CancelGenerationInput!) {
    cancelGeneration(input: $input) {
      ... on UserError { message }
    }
  }
"""

WATCH = """
  subscription ($id: ID!, $after: Int!) {
    generation(id: $id, after: $after) {
      __typename
      sequence
      ... on TextDelta { text offset }
      ... on GenerationCompleted { finishReason usage { promptTokens completionTokens source } }
      ... on GenerationCancelled { cancelReason usage { promptTokens completionTokens source } }
      ... on GenerationFailed { error { message } usage { promptTokens completionTokens source } }
    }
  }
"""

Json = dict[str, Any]


def client(authorization: str | None = None) -> Client:
    """Give a client for one connection, signed in if there is something to sign in with."""
    payload = {"authorization": authorization} if authorization else {}
    url = URL.replace("http", "ws", 1)
    return Client(transport=WebsocketsTransport(url, init_payload=payload, subprotocols=["graphql-transport-ws"]))


async def run(mutation: str, input: Json, authorization: str | None = None) -> Json:
    """Give the result of a mutation, the value of its only field. Ends the program when it was refused."""
    async with client(authorization) as session:
        data = await session.execute(GraphQLRequest(mutation, variable_values={"input": input}))
    (result,) = data.values()
    return sys.exit(result["message"]) if "message" in result else result


async def sign_in() -> str:
    """Give what to send as `Authorization`: an API key, or the token of a sign-in by name and password."""
    if key := os.environ.get("OLLAGRAPH_API_KEY"):
        return f"Bearer {key}"
    if not (password := os.environ.get("OLLAGRAPH_PASSWORD")):
        sys.exit("Set OLLAGRAPH_API_KEY, or OLLAGRAPH_USERNAME and OLLAGRAPH_PASSWORD")
    login = await run(LOGIN, {"username": os.environ.get("OLLAGRAPH_USERNAME", "admin"), "password": password})
    return f"Bearer {login['accessToken']}"


class Answer:
    """A generation's text, printed as it comes."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.text = ""
        self.last: Json = {"sequence": 0}

    @property
    def ended(self) -> bool:
        """Whether the last event has come: it tells the usage."""
        return "usage" in self.last

    def see(self, event: Json) -> None:
        """Take an event."""
        self.last = event
        if event["__typename"] == "TextDelta":
            longer = apply(self.text, event)
            sys.stdout.write(longer[len(self.text) :])
            sys.stdout.flush()
            self.text = longer

    async def watch(self, authorization: str) -> None:
        """Go on behind the last event seen, to the end. Raises TransportError when the connection is lost."""
        variables = {"id": self.id, "after": self.last["sequence"]}
        async with client(authorization) as session:
            async for data in session.subscribe(GraphQLRequest(WATCH, variable_values=variables)):
                self.see(data["generation"])
        if not self.ended:
            raise TransportError("The stream ended before the generation did")


def apply(text: str, delta: Json) -> str:
    """Give the text with a piece put in its place: what comes twice changes nothing. Offsets count UTF-16 units."""
    units, piece = text.encode("utf-16-le"), delta["text"].encode("utf-16-le")
    begin = 2 * delta["offset"]
    return (units[:begin] + piece + units[begin + len(piece) :]).decode("utf-16-le")


async def follow(answer: Answer, authorization: str) -> None:
    """Watch to the end, with a new connection whenever one is lost, until ATTEMPTS in a row brought nothing."""
    failures = 0
    while not answer.ended:
        seen = answer.last
        try:
            await answer.watch(authorization)
        except TransportQueryError as error:
            sys.exit(str(error))  # the gateway answered: asking again is of no use
        except TransportError:
            failures = 1 if answer.last is not seen else failures + 1
            if failures > ATTEMPTS:
                raise
            await asyncio.sleep(0.05 * 2**failures)  # 0.1 seconds, 0.2 ... 12.8


async def main(prompt: str = "Tell me a story", model: str = "smollm2:135m") -> None:
    """Start a generation, print its text as it comes, and tell how it ended."""
    authorization = await sign_in()
    # Without CONTINUE, the model stops as soon as a connection is lost.
    input = {"model": model, "prompt": {"text": prompt}, "onDisconnect": "CONTINUE"}
    started = await run(START, input, authorization)
    answer = Answer(started["generation"]["id"])
    async with asyncio.TaskGroup() as tasks:

        def interrupted() -> None:
            """End the generation on Ctrl-C: its stream then tells what it used."""
            tasks.create_task(run(CANCEL, {"id": answer.id}, authorization))

        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted)
        await follow(answer, authorization)
    last = answer.last
    tokens = f"{last['usage']['promptTokens']} + {last['usage']['completionTokens']} tokens"
    failure = last.get("error")
    cancelled = f"CANCELLED ({last['cancelReason']})" if "cancelReason" in last else None
    end = cancelled or (failure["message"] if failure else last["finishReason"])
    sys.stderr.write(f"\n[{end}: {tokens}]\n")
    sys.exit(1 if failure else 0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
