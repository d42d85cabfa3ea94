"""Of generations: what is asked, how they go and how they end."""

from auth.principal import ContentPolicy
from gateway.generation import OnBackendLoss, OnDisconnect, OnLimit, State, ThinkingLevel, ToolChoiceMode
from gateway.streams import CancelReason, FinishReason, LossReason, QueueReason
from schema.enums.describing import describe

describe(
    State,
    "GenerationState",
    "The state of a generation.",
    {
        "QUEUED": "It waits for a slot at its backend.",
        "RUNNING": "The backend started to work on it.",
        "COMPLETED": "It ended with a whole answer.",
        "CANCELLED": "It was cancelled; `cancelReason` says why.",
        "FAILED": "It failed; `error` says why.",
    },
)
describe(
    FinishReason,
    "FinishReason",
    "Why a generation completed.",
    {
        "STOP": "The model finished, or produced a stop sequence.",
        "LENGTH": "It reached maxTokens or the end of the context.",
        "TOOL_CALLS": "The model requests tool calls.",
        "CONTENT_FILTER": "The model server withheld the rest.",
        "REPETITION": "The model repeated itself, and the model server stopped it.",
    },
)
describe(
    CancelReason,
    "CancelReason",
    "Why a generation was cancelled.",
    {
        "REQUESTED": "`cancelGeneration` was called.",
        "VIEWERS_LEFT": "Its last viewer disconnected, and `onDisconnect` was CANCEL.",
        "DEADLINE": "Its deadline passed. Reserved; not used yet.",
        "LIMIT": "A limit of its user was reached. Reserved; not used yet.",
        "SHUTDOWN": "The gateway was stopped. Reserved; today such generations fail with SHUTTING_DOWN.",
    },
)
describe(
    ToolChoiceMode,
    "ToolChoiceMode",
    "Whether the model calls tools.",
    {
        "AUTO": "The model decides. The same as no `toolChoice`.",
        "NONE": "It calls no tool.",
        "REQUIRED": "It calls at least one tool. Not supported by Ollama (UNSUPPORTED).",
    },
)
describe(
    ThinkingLevel,
    "ThinkingLevel",
    "How much a model thinks before it answers. For models without levels, every level except OFF turns thinking "
    "on. Models that always think ignore OFF.",
    {
        "OFF": "No thinking. Ollama: `false`. OpenAI-compatible servers: `enable_thinking: false` for the chat "
        "template, and `reasoning_effort: none` if the server is neither llama.cpp nor vLLM.",
        "ON": "The model's usual amount. Ollama: `true`. OpenAI-compatible servers: `enable_thinking: true`, and "
        "`reasoning_effort: medium` if the server is neither llama.cpp nor vLLM.",
        "MINIMAL": "The least possible. Ollama, llama.cpp and vLLM: same as LOW. Others: `reasoning_effort: minimal`.",
        "LOW": "A little: `low`.",
        "MEDIUM": "Some: `medium`.",
        "HIGH": "A lot: `high`.",
        "MAX": "The most possible. Ollama: `max`, or `high` if it is too old for that. OpenAI-compatible servers: "
        "`high`.",
    },
)
describe(
    OnDisconnect,
    "OnDisconnect",
    "What happens to a generation when its last viewer disconnects.",
    {
        "CONTINUE": "It keeps running, and can be watched again.",
        "CANCEL": "It is cancelled, and the model server stops working on it.",
    },
)
describe(
    OnBackendLoss,
    "OnBackendLoss",
    "What happens to a generation when its model server, or the gateway that runs it, is lost.",
    {
        "FAIL": "It fails. What the model wrote remains and is counted.",
        "CONTINUE": "Another one continues where it stopped, in the same stream. Within a tool call, a structured "
        "format or a thought the model cannot continue, and the generation fails.",
    },
)
describe(
    ContentPolicy,
    "ContentPolicy",
    "What the database keeps of a generation beside its numbers, tags and end user, for as long as the operator has "
    "set. The setting, the API key and the request each allow something: the least counts.",
    {
        "NOTHING": "Neither the prompt nor the answer, nor the message of a failure. The stream can be watched and "
        "resumed for as long as the stream log keeps it.",
        "ANSWERS": "The answer, and not the prompt.",
        "ALL": "Prompt and answer.",
    },
)
describe(
    LossReason,
    "LossReason",
    "What a generation lost before its end.",
    {
        "BACKEND_LOST": "Its model server failed or stopped sending.",
        "GATEWAY_LOST": "The gateway that ran it failed or was stopped.",
    },
)
describe(
    QueueReason,
    "QueueReason",
    "What a generation waits for.",
    {
        "BUSY": "All slots at its backend are in use, or all that one user may have there.",
        "LOADING": "It has a slot, and the model server is loading the model. This may take minutes.",
        "LIMIT": "A limit has no room for it now. It waits until there is.",
    },
)
describe(
    OnLimit,
    "OnLimit",
    "What happens to a generation when a limit has no room for it now.",
    {
        "REFUSE": "It is refused with RATE_LIMITED or QUOTA_EXCEEDED.",
        "WAIT": "It waits in the queue until the limit has room. It is refused if that would take longer than the "
        "gateway lets generations wait, or if it never fits.",
    },
)
