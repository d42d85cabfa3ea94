"""What the server does with plugins: finds them, and answers at their addresses."""

from server.plugins.command import list_plugins
from server.plugins.loading import ENTRY_POINT_GROUP, FoundPlugin, find_plugins
from server.plugins.routes import plugin_routes

__all__ = ["ENTRY_POINT_GROUP", "FoundPlugin", "find_plugins", "list_plugins", "plugin_routes"]
