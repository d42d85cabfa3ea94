"""Usage reports as files: over HTTP, and for the command line."""

from server.usage_export.export import usage_exports
from server.usage_export.lines import Form, lines
from server.usage_export.request import read_request

__all__ = ["Form", "lines", "read_request", "usage_exports"]
