"""One request that carries everything a request can carry, for the tests of what reaches the wire."""

import base64

from backends.protocol import (
    ChatRequest,
    ImagePart,
    Message,
    Options,
    OutputFormat,
    TextPart,
    ThinkingLevel,
    Tool,
    ToolCall,
)

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 8).decode()
PHOTO = base64.b64encode(b"\xff\xd8\xff\xe0" + b"\0" * 8).decode()
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
WEATHER = Tool("weather", "Tells the weather", {"type": "object", "properties": {"city": {"type": "string"}}})

CONVERSATION = (
    Message("system", "Be brief."),
    Message("user", [ImagePart(PIXEL), TextPart("What is this?"), ImagePart(PHOTO), TextPart("And this?")]),
    Message("assistant", "", tool_calls=[ToolCall("call_7", "weather", {"city": "Köln"})], thinking="Hmm."),
    Message("tool", "sunny", tool_call_id="call_7", tool_name="weather"),
)
"""One message of each role."""

OPTIONS = Options(
    temperature=0.0,
    top_p=0.9,
    top_k=40,
    min_p=0.05,
    max_tokens=64,
    seed=0,
    stop=("END", "\n"),
    presence_penalty=0.5,
    frequency_penalty=-0.5,
    repeat_penalty=1.1,
)
"""Every option but the context length, which not every server takes. Two are zero: that is not "left out"."""

EVERYTHING = ChatRequest(
    "fake:echo",
    CONVERSATION,
    OPTIONS,
    format=OutputFormat(json_schema=SCHEMA),
    tools=(WEATHER,),
    thinking=ThinkingLevel.OFF,
)
