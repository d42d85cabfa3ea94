"""Plugins: what others add to the gateway, each in a thread of its own. docs/plugins.md is for who writes one."""

from backends.protocol import TextChunk, ThinkingChunk, ToolCallChunk
from gateway.catalog import BreakerState
from gateway.plugins.errors import GuardFailed, RequestRefused
from gateway.plugins.plugin import (
    BackendChange,
    GenerationEnd,
    GenerationInfo,
    OutputFilter,
    Piece,
    Plugin,
    PluginRequest,
    PluginResponse,
    PluginRoute,
    Refused,
    SignIn,
    UsageRecord,
    hooks_of,
    is_guard,
)
from gateway.plugins.plugins import Plugins, UnusablePlugin
from gateway.plugins.thread import PluginFailed, PluginThread

__all__ = [
    "BackendChange",
    "BreakerState",
    "GenerationEnd",
    "GenerationInfo",
    "GuardFailed",
    "OutputFilter",
    "Piece",
    "Plugin",
    "PluginFailed",
    "PluginRequest",
    "PluginResponse",
    "PluginRoute",
    "PluginThread",
    "Plugins",
    "Refused",
    "RequestRefused",
    "SignIn",
    "TextChunk",
    "ThinkingChunk",
    "ToolCallChunk",
    "UnusablePlugin",
    "UsageRecord",
    "hooks_of",
    "is_guard",
]
