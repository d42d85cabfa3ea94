"""What the fake model servers of this process were asked, for who looks whether a log tells it."""

from typing import Any

SHORTEST = 12
"""Characters of a prompt by which it can be known."""

ASKED: set[str] = set()


def note_prompt(body: dict[str, Any]) -> None:
    """Remember the texts of one request."""
    texts = [body.get("prompt"), *(message.get("content") for message in body.get("messages") or ())]
    ASKED.update(text for text in texts if isinstance(text, str) and len(text) >= SHORTEST)
