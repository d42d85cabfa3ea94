"""Puts a system prompt before each request of a group's members.

Its settings are the ids of groups (as `group { id }` gives them, or the plain UUID) with the prompt of each, and `*`
for everybody else. A system prompt of the caller's own comes behind it. A guard: without it no request goes on.
"""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from auth.principal import Principal
from gateway.generation import GenerationRequest
from gateway.plugins import Plugin


class GroupPrompts(Plugin):
    version = "1.0"

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self.prompts = {group if group == "*" else group_id(group): prompt for group, prompt in settings.items()}

    async def before_generate(self, caller: Principal, request: GenerationRequest) -> GenerationRequest | None:
        prompts = [self.prompts[group] for group in caller.group_ids if group in self.prompts]
        if not prompts and "*" in self.prompts:
            prompts = [self.prompts["*"]]
        if not prompts:
            return None
        return replace(request, system="\n\n".join([*prompts, *([request.system] if request.system else [])]))


def group_id(text: str) -> UUID:
    """Read a global id of the API, or a plain UUID."""
    try:
        return UUID(text)
    except ValueError:
        return UUID(b64decode(text).decode().removeprefix("Group:"))
