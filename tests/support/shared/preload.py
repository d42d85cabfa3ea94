"""What a process has done of which others are forked: it has loaded the modules of any command, and made the schema."""

import gc
from importlib import import_module

from gateway.streams.valkey.library import redis
from resolvers.root import build_schema

for _name in (
    "anyio._backends._asyncio",
    "asyncpg",
    "passlib.handlers.argon2",
    "server.care.backup",
    "server.cli",
    "server.commands",
    "server.serve",
    "server.workers.supervisor",
    "strawberry.federation.schema_directives",
    "uvloop",
):
    import_module(_name)
_ = redis.RedisError  # it is loaded when somebody looks at it
build_schema()
gc.collect()
gc.freeze()
