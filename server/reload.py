"""SIGHUP: reads the settings again, takes those that can change while the gateway runs, and tells of the others.

What an environment variable sets cannot change in a process that runs, so this is about the file `.env`.
docs/settings.md lists what is taken.
"""

import logging
from collections.abc import Callable, Mapping

from gateway.limits import Limits
from server.generation_service import GenerationService
from server.settings import PREFIX, Settings, SettingsError, load_settings

logger = logging.getLogger(__name__)

FIXED = frozenset({"workers", "redis_url"})
"""What the supervisor may have set for its workers, where no file says it."""


def take_log_level(settings: Settings) -> None:
    """Log from this level on."""
    logging.getLogger().setLevel(settings.log_level.upper())


class Reloader:
    """Takes settings anew. `takers` are called, for each setting by its name, with all settings when it has changed."""

    def __init__(self, settings: Settings, takers: Mapping[str, Callable[[Settings], None]]) -> None:
        self._settings = settings
        self._takers = takers

    @classmethod
    def of_gateway(cls, settings: Settings, limits: Limits, service: GenerationService) -> "Reloader":
        """Make the one of a gateway, or of a worker."""

        def take_limits(new: Settings) -> None:
            limits.change(enabled=new.rate_limit_enabled, limit_wait_time=new.limit_wait_time)

        def take_drain_time(new: Settings) -> None:
            service.drain_time = new.drain_time

        return cls(
            settings,
            {
                "log_level": take_log_level,
                "rate_limit_enabled": take_limits,
                "limit_wait_time": take_limits,
                "drain_time": take_drain_time,
            },
        )

    def reload(self) -> None:
        """Read the settings, take what can be taken, and log what changed. With a mistake in them nothing changes."""
        try:
            new = load_settings()
        except SettingsError as error:
            logger.error("the settings stay as they were: %s", "; ".join(str(error).splitlines()))
            return
        changed = [it for it in sorted(Settings.model_fields) if getattr(new, it) != getattr(self._settings, it)]
        taken = [it for it in changed if it in self._takers]
        waiting = [it for it in changed if it not in self._takers and it not in FIXED]
        for name in taken:
            self._takers[name](new)
        self._settings = self._settings.model_copy(update={name: getattr(new, name) for name in taken})
        logger.info("the settings were read again; taken: %s", _names(taken) or "none")
        if waiting:
            logger.warning("these settings have changed, and need a restart: %s", _names(waiting))


def _names(fields: list[str]) -> str:
    return ", ".join(f"{PREFIX}{name.upper()}" for name in fields)
