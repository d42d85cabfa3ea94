"""The commands that look after an installation: is it well, what is in it, keep it, bring it back, make room."""

from server.care.cli import CARE_COMMANDS

__all__ = ["CARE_COMMANDS"]
