"""The commands about prices."""

from server.prices.cli import prices

__all__ = ["prices"]
