"""The command that fills a database with sample data."""

from server.demo.cli import demo_data

__all__ = ["demo_data"]
