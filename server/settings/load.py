"""Reading the settings: the only place where the environment is read."""

from pydantic import ValidationError

from server.settings.environment import PREFIX, UnreadableSettings, read_env_file, remarks
from server.settings.settings import Settings
from server.settings.types import secret_settings


class SettingsError(Exception):
    """The gateway cannot start like this. The message says what to set, and holds no secret."""


def load_settings() -> Settings:
    """Read and check the settings. Raises SettingsError with a sentence for each mistake."""
    try:
        read_env_file()
        return Settings()
    except UnreadableSettings as error:
        raise SettingsError(str(error)) from error
    except ValidationError as error:
        sentences: list[str] = []
        for mistake in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in mistake["loc"][:1]).upper()
            message = mistake["msg"].removeprefix("Value error, ")
            sentences.append(f"{PREFIX}{name}: {message}" if name else message)
        raise SettingsError("\n".join(sentences)) from None


def unread_settings() -> list[str]:
    """Tell in sentences which names in the environment and in `.env` look like settings and are none."""
    return remarks(Settings.model_fields, secret_settings(Settings))
