"""What llama.cpp's server tells of itself (`GET /props`): by that it is known among those that speak OpenAI's API."""

from dataclasses import dataclass

from backends.protocol import Capability, Json
from backends.wire import as_count, as_object, as_text


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """One llama.cpp server. `total_slots` is how many answers it makes at once; None is "not told", as everywhere."""

    total_slots: int | None
    context_length: int | None
    capabilities: frozenset[Capability]


def llama_server(properties: dict[str, Json]) -> LlamaServer | None:
    """Read the answer to `/props`; None where it is not llama.cpp's."""
    settings = properties.get("default_generation_settings")
    slots = as_count(properties.get("total_slots")) or None
    marks = (slots, as_text(properties.get("model_path")), as_text(properties.get("build_info")))
    if not isinstance(settings, dict) or not any(marks):
        return None
    abilities = {
        Capability.COMPLETION: True,
        Capability.TOOLS: as_object(properties.get("chat_template_caps")).get("supports_tools") is True,
        Capability.VISION: as_object(properties.get("modalities")).get("vision") is True,
        Capability.THINKING: "enable_thinking" in as_text(properties.get("chat_template")),
    }
    return LlamaServer(
        total_slots=slots,
        context_length=as_count(as_object(settings).get("n_ctx")) or None,
        capabilities=frozenset(capability for capability, able in abilities.items() if able),
    )
