"""Ollama, by its own API."""

from backends.ollama.backend import OllamaBackend

__all__ = ["OllamaBackend"]
