"""Finding the plugins of a gateway: installed packages that the settings name, and the files of a folder."""

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from gateway.plugins import Plugin
from server.settings import PREFIX, Settings, SettingsError

ENTRY_POINT_GROUP = "ollagraph.plugins"
"""A package offers a plugin with an entry point of this group: a subclass of Plugin, or another callable that takes the
plugin's own settings as a Mapping[str, str] and returns a Plugin. The entry point's name is the plugin's."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A plugin, and where it comes from."""

    name: str
    source: str
    plugin: Plugin


def find_plugins(settings: Settings) -> list[FoundPlugin]:
    """Load the plugins: those of `OLLAGRAPH_PLUGINS` in its order, then the other files of the folder by name.

    That a package is installed alone opens no door: it has to be named. A file of the folder need not be. Raises
    SettingsError, for a gateway without one of its plugins may let through what that was to stop.
    """
    wanted, files = settings.plugins, _files(settings)
    found = [
        _from_file(name, files[name], own) if name in files else _from_entry_point(name, own)
        for name, own in wanted.items()
    ]
    return found + [_from_file(name, path, {}) for name, path in files.items() if name not in wanted]


def _files(settings: Settings) -> dict[str, Path]:
    """Give the plugins of the folder by their names: `name.py`, or `name/__init__.py`; `_…` and `.…` are none."""
    folder = settings.plugins_dir
    if folder is None:
        return {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise SettingsError(f"{PREFIX}PLUGINS_DIR: {folder} cannot be read ({error.strerror}).") from error
    files = {entry.stem: entry for entry in entries if entry.suffix == ".py" and entry.name[0] not in "_."}
    packages = {entry.name: entry / "__init__.py" for entry in entries if (entry / "__init__.py").is_file()}
    return {name: path for name, path in sorted((files | packages).items()) if _is_name(name)}


def _is_name(name: str) -> bool:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"The name of a plugin, {name!r}, must begin with a lower-case letter, followed by up to 31 lower-case"
            " letters, digits, hyphens and underscores."
        )
    return True


def _from_file(name: str, path: Path, settings: Mapping[str, str]) -> FoundPlugin:
    module_name = f"ollagraph_plugin_{name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None  # noqa: S101 - a path that ends in .py has one, and a loader
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and type hints look modules up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _unusable(name, path, error) from error
    classes = list(_plugins_in(module))
    if len(classes) != 1:
        raise SettingsError(f"The plugin {path} must define one subclass of Plugin, not {len(classes)}.")
    return FoundPlugin(name, str(path), _made(name, path, classes[0], settings))


def _plugins_in(module: ModuleType) -> Iterator[type[Plugin]]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, Plugin) and value.__module__ == module.__name__:
            yield value


def _from_entry_point(name: str, settings: Mapping[str, str]) -> FoundPlugin:
    point, source = _entry_point(name)
    try:
        make = point.load()
    except (Exception, SystemExit) as error:
        raise _unusable(name, point.value, error) from error
    return FoundPlugin(name, source, _made(name, point.value, make, settings))


def _entry_point(name: str) -> tuple[EntryPoint, str]:
    installed = list(entry_points(group=ENTRY_POINT_GROUP))
    found = [point for point in installed if point.name == name]
    if not found:
        names = sorted({point.name for point in installed})
        raise SettingsError(
            f"{PREFIX}PLUGINS names {name!r}, which is no file of {PREFIX}PLUGINS_DIR and in no installed package."
            f" Installed are: {', '.join(names) or 'none'}."
        )
    if len(found) > 1:
        raise SettingsError(f"Two installed packages have a plugin {name!r}. Uninstall one.")
    package = found[0].dist
    return found[0], found[0].value if package is None else f"{package.name} {package.version}"


def _made(name: str, where: object, make: Callable[[Mapping[str, str]], object], settings: Mapping[str, str]) -> Plugin:
    try:
        plugin = make(settings)
    except (Exception, SystemExit) as error:
        raise _unusable(name, where, error) from error
    if not isinstance(plugin, Plugin):
        raise SettingsError(
            f"The plugin {name!r} ({where}) is a {type(plugin).__name__}, and no gateway.plugins.Plugin."
        )
    return plugin


def _unusable(name: str, where: object, error: BaseException) -> SettingsError:
    return SettingsError(f"The plugin {name!r} ({where}) cannot be set up: {type(error).__name__}: {error}")
