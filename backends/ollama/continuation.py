"""Going on in the middle of an assistant's turn with Ollama, most of whose templates close that turn.

Where a conversation ends with the assistant's own message, nearly every template that Ollama brings marks it as ended
and opens a new turn: the model begins anew in mid-sentence, and nobody is told. So the server is asked first what it
would give the model (`_debug_render_only`, server/routes.go). If that ends with what was said, it goes on by itself. If
not, the prompt up to the assistant's turn is rendered, what was said is put behind it, and the model gets that as it is
(`/api/generate` with `raw`).
"""

from backends.errors import BackendUnsupported
from backends.protocol import ChatRequest, Json
from backends.wire import Client, as_object, as_text, fetch_json

_OPENINGS = ("<think>", "<thinking>", "<|channel>thought")
"""With what a template that makes the model think first ends: what was said does not belong behind it."""


async def raw_prompt(client: Client, request: ChatRequest, body: dict[str, Json]) -> str | None:
    """Give the prompt with which the model goes on where `request` ends; None where `/api/chat` does so by itself.

    `body` is that of `/api/chat`. Raises BackendError; BackendUnsupported where nobody could tell whether it goes on.
    """
    said = request.messages[-1].text
    rendered = await _rendered(client, body)
    if rendered.rstrip().endswith(said.rstrip()):
        return None
    if request.messages[-1].thinking or any(message.media for message in request.messages):
        raise BackendUnsupported("This model cannot continue an answer after images or thoughts.")
    opened = await _rendered(client, {**body, "messages": body["messages"][:-1]})
    if opened.rstrip().endswith(_OPENINGS):
        raise BackendUnsupported("This model thinks before it answers, and cannot continue an answer.")
    return opened + said


def raw_body(body: dict[str, Json], prompt: str) -> dict[str, Json]:
    """Build the body of `/api/generate` for a prompt that the model gets as it is."""
    names = ("model", "options", "stream", "keep_alive", "truncate", "logprobs")
    kept = {name: body[name] for name in names if name in body}
    return {**kept, "prompt": prompt, "raw": True}


async def _rendered(client: Client, body: dict[str, Json]) -> str:
    """Ask what the model would be given. A server that does not know the question answers: one token at most."""
    options = {**as_object(body.get("options")), "num_predict": 1}
    asked = {**body, "options": options, "stream": False, "_debug_render_only": True}
    answer = await fetch_json(client, "POST", "/api/chat", asked)
    rendered = as_text(as_object(answer.get("_debug_info")).get("rendered_template"))
    if not rendered:
        raise BackendUnsupported(
            "This Ollama does not tell how it would go on with an answer. Update it to 0.12 or newer."
        )
    return rendered
