"""What was said in the last generations of the sample data."""

from random import Random
from typing import Any

from gateway.generation import GenerationRequest, pack_input
from gateway.streams import Completed, Event, FinishReason, Started, TextDelta, TokenUsage, encode_transcript

_TALKS = (
    ("How do I undo my last commit in git?", "Use `git reset --soft HEAD~1`. Your changes stay staged."),
    ("Summarize: the meeting moved to Thursday.", "The meeting is on Thursday now."),
    ("Translate to German: good morning.", "Guten Morgen."),
    ("What is the capital of Australia?", "Canberra."),
    (
        "Write a haiku about queues.",
        "First come, first served.\nTokens drip like autumn rain.\nPatience is a slot.",
    ),
    ("Explain a mutex to a child.", "It is a key to the only bathroom: whoever has it goes in, and the others wait."),
    ("Name three prime numbers above 100.", "101, 103 and 107."),
    ("Is this review positive? 'It broke at once.'", "No, it is negative."),
)


def made_up_talk(random: Random, row: dict[str, Any]) -> dict[str, Any]:
    """Give what is kept of a completed generation of the ledger: what was asked, and the events of the answer."""
    question, answer = random.choice(_TALKS)
    used = TokenUsage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"])
    events: list[Event] = [
        Started(1, row["queued_ms"], row["backend"]),
        TextDelta(2, answer, 0, row["completion_tokens"]),
        Completed(3, FinishReason(row["finish_reason"]), used),
    ]
    packed = pack_input(GenerationRequest(row["model"], question))
    return {
        "generation_id": row["generation_id"],
        "events": encode_transcript(events),
        "request": None if packed is None else packed.request,
    }
