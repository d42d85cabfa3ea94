"""The settings of plugins. docs/plugins.md has more on each."""

from pydantic import Field
from pydantic_settings import BaseSettings

from server.settings.types import FilePath, PluginSettings


class PluginsSettings(BaseSettings):
    """Which plugins the gateway runs."""

    plugins: PluginSettings = Field(
        default_factory=dict[str, dict[str, str]],
        description="Plugins with the settings of each, as JSON, in the order in which they see a request: "
        '`{"redactor": {"words": "/etc/words"}}`. Plugins of installed packages run only if they are named here.',
    )
    plugins_dir: FilePath | None = Field(
        default=None,
        description="A folder of plugins, one Python file (or package) each. All of them run, those not named in "
        "`OLLAGRAPH_PLUGINS` without settings.",
    )
    plugin_timeout: float = Field(
        default=5,
        gt=0,
        description="Seconds that one call of a plugin may take.",
    )
