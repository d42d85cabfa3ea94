"""The client library, redis-py, which is loaded when it is first used.

A gateway without Valkey needs nothing of it, and it would take 50 ms of its start (80 where OpenTelemetry is installed,
which it loads as well) and 8 MB of its memory.
"""

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING


def _when_used(name: str) -> ModuleType:
    """Give a module that is not loaded before anything of it is asked for."""
    if name in sys.modules:
        return sys.modules[name]
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    spec.loader = LazyLoader(spec.loader)
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)  # which only prepares it
    return module


if TYPE_CHECKING:
    import redis
    import redis.asyncio.retry  # pyright: ignore[reportUnusedImport]
    import redis.backoff  # pyright: ignore[reportUnusedImport]
    import redis.crc  # pyright: ignore[reportUnusedImport]
    import redis.exceptions  # pyright: ignore[reportUnusedImport]
else:
    redis = _when_used("redis")

__all__ = ["redis"]
