"""Generations from their start to their end: what was asked, who runs it, what it used, and how it is recorded."""

from gateway.generation.generations import Answer, GenerationFilter, Generations, Output
from gateway.generation.ledger import Ledger, is_outage
from gateway.generation.request import (
    NO_OPTIONS,
    GenerationRequest,
    Message,
    OnBackendLoss,
    OnDisconnect,
    Options,
    Tool,
    ToolCall,
)
from gateway.generation.run import State
from gateway.generation.runner import Runner

__all__ = [
    "NO_OPTIONS",
    "Answer",
    "GenerationFilter",
    "GenerationRequest",
    "Generations",
    "Ledger",
    "Message",
    "OnBackendLoss",
    "OnDisconnect",
    "Options",
    "Output",
    "Runner",
    "State",
    "Tool",
    "ToolCall",
    "is_outage",
]
