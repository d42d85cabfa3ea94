"""Sends a POST to a URL whenever a generation has failed. Its settings: `url`, and `token` for a bearer token."""

from collections.abc import Mapping

import httpx

from gateway.plugins import GenerationEnd, Plugin


class FailureWebhook(Plugin):
    version = "1.0"
    client: httpx.AsyncClient

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self.url = settings["url"]
        self.headers = {"Authorization": f"Bearer {settings['token']}"} if "token" in settings else {}

    async def start(self) -> None:
        self.client = httpx.AsyncClient(timeout=4, headers=self.headers)

    async def stop(self) -> None:
        await self.client.aclose()

    async def after_generate(self, end: GenerationEnd) -> None:
        if end.state != "FAILED":
            return
        told = {
            "generationId": str(end.generation.id),
            "model": end.generation.model,
            "backend": end.generation.backend,
            "code": end.error_code,
            "at": end.at.isoformat(),
        }
        (await self.client.post(self.url, json=told)).raise_for_status()
