"""The settings: what each is called, its default, what it means, and reading them from the environment."""

from server.settings.data_dir import SECRET_FILE, is_open_to_others, prepare_data_dir
from server.settings.environment import PREFIX, UnreadableSettings, read_secret
from server.settings.load import SettingsError, load_settings, unread_settings
from server.settings.providers import ProviderSettings
from server.settings.settings import DATABASE_FILE, Settings
from server.settings.types import Introspection, secret_settings

__all__ = [
    "DATABASE_FILE",
    "PREFIX",
    "SECRET_FILE",
    "Introspection",
    "ProviderSettings",
    "Settings",
    "SettingsError",
    "UnreadableSettings",
    "is_open_to_others",
    "load_settings",
    "prepare_data_dir",
    "read_secret",
    "secret_settings",
    "unread_settings",
]
