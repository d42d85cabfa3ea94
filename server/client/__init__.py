"""The command line as a client of a gateway that may run anywhere: it signs a person in, and keeps their tokens."""

from server.client.cli import CLIENT_COMMANDS

__all__ = ["CLIENT_COMMANDS"]
