"""What is sent to a server that speaks OpenAI's chat API."""

from collections.abc import Sequence
from enum import StrEnum

import orjson

from backends.errors import BackendUnsupported
from backends.protocol import (
    AudioPart,
    BlobPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Json,
    MediaKind,
    Message,
    NamedTool,
    Options,
    OutputFormat,
    Part,
    TextPart,
    ThinkingLevel,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)


class ServerKind(StrEnum):
    """Which server it is, as far as it is known: each has words of its own beside OpenAI's."""

    UNKNOWN = "unknown"
    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"


_OPTION_NAMES: dict[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "max_tokens": ("max_tokens",),
    "seed": ("seed",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    # The rest is not OpenAI's. vLLM and llama.cpp take them as they stand here, and each ignores the name that
    # is the other's; OpenAI itself refuses them with a 400, which is the honest answer there.
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),
}

EFFORT, TEMPLATE = "reasoning_effort", "chat_template_kwargs"
"""The two fields that say how much to think. Where a server refuses one of them, the other may say it alone."""

LOGPROBS, TOP_LOGPROBS = "logprobs", "top_logprobs"

_KNOWN_EFFORTS = {
    ThinkingLevel.MINIMAL: "low",
    ThinkingLevel.LOW: "low",
    ThinkingLevel.MEDIUM: "medium",
    ThinkingLevel.HIGH: "high",
    ThinkingLevel.MAX: "high",
}
_EFFORTS = {
    **_KNOWN_EFFORTS,
    ThinkingLevel.OFF: "none",
    ThinkingLevel.ON: "medium",
    ThinkingLevel.MINIMAL: "minimal",
}
"""`xhigh` and `max` stay out: each is taken by some servers only, and `high` by all."""

_SWITCHES = {ThinkingLevel.OFF, ThinkingLevel.ON}

_IMAGE_TYPES = {
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "Qk": "image/bmp",
    "SUkq": "image/tiff",
    "TU0A": "image/tiff",
    "AAAA": "image/avif",
}
"""How the base64 of each kind of image begins; a PNG is assumed for everything else."""


_AUDIO_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3", "audio/ogg": "ogg", "audio/flac": "flac"}
"""OpenAI's and llama.cpp's API takes the first two; vLLM reads what its libraries do."""

_LLAMA_AUDIO = {"wav", "mp3"}

_FILE_NAMES = {"application/pdf": "file.pdf", "text/plain": "file.txt"}


def media_taken(server: ServerKind) -> frozenset[MediaKind]:
    """Tell which parts of messages a server has words for. Files are OpenAI's own."""
    files = {MediaKind.FILE} if server is ServerKind.UNKNOWN else set[MediaKind]()
    return frozenset({MediaKind.IMAGE, MediaKind.AUDIO} | files)


def chat_body(request: ChatRequest, server: ServerKind = ServerKind.UNKNOWN) -> dict[str, Json]:
    """Build the body of `/v1/chat/completions`. Raises BackendUnsupported for what the server cannot be told."""
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [_message(message, server) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **_options(request.options),
    }
    if request.format is not None:
        body |= _format(request.format, server)
    if request.tools:
        body |= _tools(request.tools, request.tool_choice, server)
    if request.thinking is not None:
        body |= _thinking(request.thinking, server)
    if request.logprobs:
        body[LOGPROBS] = True
        if server is ServerKind.LLAMA_CPP:
            body[TOP_LOGPROBS] = 1  # else it tells the 20 likeliest tokens for each one; with 0 it tells nothing
    if request.continues:
        # For vLLM; llama.cpp goes on with an assistant's last message by itself and ignores both.
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def _format(wanted: OutputFormat, server: ServerKind) -> dict[str, Json]:
    if wanted.json_object:
        return {"response_format": {"type": "json_object"}}
    if wanted.json_schema is not None:
        schema = {"name": "answer", "schema": wanted.json_schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if server is ServerKind.VLLM:
        asked = {"regex": wanted.regex, "grammar": wanted.grammar, "choice": wanted.choice}
        [(form, value)] = [(form, value) for form, value in asked.items() if value is not None]
        # The second is the name that versions before 0.12 know; each ignores the one that it does not know.
        return {"structured_outputs": {form: value}, f"guided_{form}": value}
    if server is ServerKind.LLAMA_CPP and wanted.regex is None:
        return {"grammar": wanted.grammar or _alternatives(wanted.choice or ())}
    raise BackendUnsupported(
        "llama.cpp does not support regex. Use the format jsonObject, jsonSchema, grammar or choice."
        if server is ServerKind.LLAMA_CPP
        else "This model server is not known to support regex, grammar and choice. "
        "Use the format jsonObject or jsonSchema."
    )


def _alternatives(texts: Sequence[str]) -> str:
    """Write the grammar of exactly one of these texts in llama.cpp's notation (GBNF)."""
    return "root ::= " + " | ".join(f'"{"".join(map(_literal, text))}"' for text in texts)


def _literal(character: str) -> str:
    return character if character.isprintable() and character not in '"\\' else f"\\U{ord(character):08x}"


def _tools(tools: Sequence[Tool], choice: ToolChoice | None, server: ServerKind) -> dict[str, Json]:
    if isinstance(choice, NamedTool) and server is ServerKind.LLAMA_CPP:
        # It reads a name as "auto": the same is said with that tool alone.
        tools, choice = [tool for tool in tools if tool.name == choice.name], ToolChoiceMode.REQUIRED
    wire: dict[str, Json] = {"tools": [_tool(tool) for tool in tools]}
    if isinstance(choice, NamedTool):
        wire["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice is not None:
        wire["tool_choice"] = choice.value
    return wire


def _thinking(level: ThinkingLevel, server: ServerKind) -> dict[str, Json]:
    """Say it to the chat template, which vLLM and llama.cpp hand it to, and in OpenAI's words.

    A template ignores what it does not know. Of OpenAI's words the known servers take the three oldest in all versions,
    and do not need the others; OpenAI's own models can be told in no other way.
    """
    switch: dict[str, Json] = {"enable_thinking": level is not ThinkingLevel.OFF}
    known = server is not ServerKind.UNKNOWN
    effort = (_KNOWN_EFFORTS if known else _EFFORTS).get(level)
    if effort is None:
        return {TEMPLATE: switch}
    if level not in _SWITCHES:
        switch["reasoning_effort"] = effort
    return {EFFORT: effort, TEMPLATE: switch}


def _options(options: Options) -> dict[str, Json]:
    if options.context_length is not None:
        raise BackendUnsupported(
            "An OpenAI-compatible server fixes the context length when it starts: leave the context length out."
        )
    wire: dict[str, Json] = {}
    for ours, theirs in _OPTION_NAMES.items():
        if (value := getattr(options, ours)) is not None:
            wire |= dict.fromkeys(theirs, value)
    if options.stop:
        wire["stop"] = list(options.stop)
    return wire


def _message(message: Message, server: ServerKind) -> dict[str, Json]:
    # `thinking` stays out: the chat API has no place for it in a request, and templates drop it anyway.
    role = message.role
    if role == "developer" and server is ServerKind.LLAMA_CPP:
        role = "system"  # as newer ones do by themselves for all templates but one, which takes both for the same
    wire: dict[str, Json] = {"role": role, "content": message.text}
    if message.media:
        wire["content"] = [_part(part, server) for part in message.content if not isinstance(part, str)]
    if message.tool_calls:
        wire["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _part(part: Part, server: ServerKind) -> dict[str, Json]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": _data_url(part.image)}}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.audio, "format": _audio_format(part, server)}}
        case FilePart():
            return {"type": "file", "file": _file(part, server)}
        case BlobPart():
            raise TypeError("a reference to a blob is for the gateway to fill in")


def _audio_format(part: AudioPart, server: ServerKind) -> str:
    audio_format = _AUDIO_FORMATS[part.media_type]
    if server is ServerKind.LLAMA_CPP and audio_format not in _LLAMA_AUDIO:
        raise BackendUnsupported("llama.cpp takes audio as WAV or MP3.")
    return audio_format


def _file(part: FilePart, server: ServerKind) -> dict[str, Json]:
    if MediaKind.FILE not in media_taken(server):
        raise BackendUnsupported("This model server supports text, images and audio only. Leave out files.")
    return {"filename": _FILE_NAMES[part.media_type], "file_data": f"data:{part.media_type};base64,{part.file}"}


def _data_url(image: str) -> str:
    media_type = next((kind for start, kind in _IMAGE_TYPES.items() if image.startswith(start)), "image/png")
    return f"data:{media_type};base64,{image}"


def _tool(tool: Tool) -> dict[str, Json]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _tool_call(call: ToolCall) -> dict[str, Json]:
    function = {"name": call.name, "arguments": orjson.dumps(call.arguments).decode()}
    return {"id": call.id, "type": "function", "function": function}
