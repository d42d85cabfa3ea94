"""The commands about limits."""

from server.limit_commands.cli import limits as limits
