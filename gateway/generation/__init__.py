"""Generations from their start to their end: what was asked, who runs it, what it used, and how it is recorded."""

from gateway.generation.attempts import Attempt, attempts_until, first_attempt
from gateway.generation.continuation import continuable
from gateway.generation.generations import Answer, GenerationFilter, Generations
from gateway.generation.ledger import Ledger, LedgerEntry, is_outage
from gateway.generation.outcome import (
    Outcome,
    State,
    cancel_recorded,
    error_recorded,
    finish_recorded,
    outcome_recorded,
    outcome_told,
    terminal_event,
    timings_so_far,
    usage_recorded,
)
from gateway.generation.output import Output
from gateway.generation.request import (
    NO_OPTIONS,
    GenerationRequest,
    ImagePart,
    NamedTool,
    OnBackendLoss,
    OnDisconnect,
    Options,
    OutputFormat,
    Part,
    Role,
    Tag,
    TextPart,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    Turn,
)
from gateway.generation.routing import Router
from gateway.generation.run import Job, Run
from gateway.generation.runner import Phase, Runner

__all__ = [
    "NO_OPTIONS",
    "Answer",
    "Attempt",
    "GenerationFilter",
    "GenerationRequest",
    "Generations",
    "ImagePart",
    "Job",
    "Ledger",
    "LedgerEntry",
    "NamedTool",
    "OnBackendLoss",
    "OnDisconnect",
    "Options",
    "Outcome",
    "Output",
    "OutputFormat",
    "Part",
    "Phase",
    "Role",
    "Router",
    "Run",
    "Runner",
    "State",
    "Tag",
    "TextPart",
    "ThinkingLevel",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolChoiceMode",
    "Turn",
    "attempts_until",
    "cancel_recorded",
    "continuable",
    "error_recorded",
    "finish_recorded",
    "first_attempt",
    "is_outage",
    "outcome_recorded",
    "outcome_told",
    "terminal_event",
    "timings_so_far",
    "usage_recorded",
]
