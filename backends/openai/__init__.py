"""Servers that speak OpenAI's chat API."""

from backends.openai.backend import OpenAIBackend

__all__ = ["OpenAIBackend"]
