"""The log of every stream: its events, where they are kept, and how viewers read them."""

from backends.logprobs import TokenLogprob
from gateway.streams.buffer import StreamBuffer
from gateway.streams.codec import decode_transcript, encode_transcript
from gateway.streams.events import (
    NO_USAGE,
    TERMINAL,
    Cancelled,
    CancelReason,
    Completed,
    End,
    Event,
    Failed,
    FinishReason,
    LossReason,
    Queued,
    QueueReason,
    Resumed,
    Started,
    TextDelta,
    ThinkingDelta,
    TokenUsage,
    ToolCall,
    ToolCallRequested,
    UsageSource,
    utf16_length,
)
from gateway.streams.kept_usage import KeptUsage
from gateway.streams.log import SavedStream, StreamLog, StreamMoved, StreamOwner, StreamOwnership, StreamWithoutEnd
from gateway.streams.memory import MemoryStreamLog
from gateway.streams.records import StreamRecords
from gateway.streams.shared import Handlers, SharedStreamLog
from gateway.streams.valkey import (
    OpenCounts,
    UnusableValkey,
    Valkey,
    ValkeyCondition,
    ValkeyUnavailable,
    check_valkey,
    probe_valkey,
)
from gateway.streams.viewer import Viewer

__all__ = [
    "NO_USAGE",
    "TERMINAL",
    "CancelReason",
    "Cancelled",
    "Completed",
    "End",
    "Event",
    "Failed",
    "FinishReason",
    "Handlers",
    "KeptUsage",
    "LossReason",
    "MemoryStreamLog",
    "OpenCounts",
    "QueueReason",
    "Queued",
    "Resumed",
    "SavedStream",
    "SharedStreamLog",
    "Started",
    "StreamBuffer",
    "StreamLog",
    "StreamMoved",
    "StreamOwner",
    "StreamOwnership",
    "StreamRecords",
    "StreamWithoutEnd",
    "TextDelta",
    "ThinkingDelta",
    "TokenLogprob",
    "TokenUsage",
    "ToolCall",
    "ToolCallRequested",
    "UnusableValkey",
    "UsageSource",
    "Valkey",
    "ValkeyCondition",
    "ValkeyUnavailable",
    "Viewer",
    "check_valkey",
    "decode_transcript",
    "encode_transcript",
    "probe_valkey",
    "utf16_length",
]
