"""The command that prints usage."""

from server.usage.cli import usage

__all__ = ["usage"]
