"""The settings of the model servers, their time-outs and their failures."""

from pydantic import Field
from pydantic_settings import BaseSettings

from server.settings.types import FilePath, Key, OllamaUrl, OpenAIUrl


class ModelServerSettings(BaseSettings):
    """Who answers."""

    embedded: bool = Field(default=True, description="Run the built-in model, in a separate process.")
    embedded_model: FilePath | None = Field(
        default=None, description="A GGUF file to run instead of the packaged SmolLM2."
    )
    embedded_parallel: int = Field(
        default=4, ge=1, le=64, description="Answers that the embedded model generates at the same time."
    )
    embedded_threads: int | None = Field(
        default=None, ge=1, le=1024,
        description="CPU cores that the embedded model uses. Default: all.",
    )  # fmt: skip
    ollama_url: OllamaUrl | None = Field(
        default=None, description="An Ollama server, such as `http://localhost:11434`."
    )
    ollama_parallel: int = Field(
        default=1, ge=1, le=10_000,
        description="Answers that Ollama generates at the same time (its `OLLAMA_NUM_PARALLEL`). Other requests "
            "wait in the gateway's queue.",
    )  # fmt: skip
    openai_url: OpenAIUrl | None = Field(
        default=None,
        description="An OpenAI-compatible server, such as vLLM, llama.cpp or LM Studio; not Ollama, which has its "
        "own setting. `/v1` is added if the path has no version.",
    )
    openai_api_key: Key | None = Field(default=None, description="The API key for it, if it needs one.")
    openai_parallel: int | None = Field(
        default=None, ge=1, le=10_000,
        description="Answers that the OpenAI-compatible server generates at the same time. Default: what llama.cpp "
            "reports; 64 for others.",
    )  # fmt: skip
    openai_think_tags: bool = Field(
        default=False,
        description="Treat `<think>…</think>` at the beginning of its answers as the model's thinking.",
    )
    connect_timeout: float = Field(default=5, gt=0, description="Seconds to connect to a model server.")
    load_timeout: float = Field(
        default=600, gt=0, description="Seconds for a model server to load a model, if it reports loading (Ollama)."
    )
    first_byte_timeout: float = Field(
        default=120,
        gt=0,
        description="Seconds from the request to the model's first token, not counting the time to load the model.",
    )
    between_tokens_timeout: float = Field(default=60, gt=0, description="Seconds from one token to the next.")
    generation_timeout: float = Field(default=900, gt=0, description="Seconds for a whole answer.")
    breaker_failures: int = Field(
        default=5, ge=0, description="Failed answers in a row after which a model server is left alone; 0: never."
    )
    breaker_pause: float = Field(
        default=5,
        gt=0,
        le=60,
        description="Seconds until it is tried again, with one request; twice as many after each failed trial, up to "
        "60.",
    )
