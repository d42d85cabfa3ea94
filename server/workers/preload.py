"""What is done once for all workers, in the process that they are forked from: loading what any of them needs.

It ends by itself, when neither the supervisor nor a worker is left that could ask it for another one.
"""

import gc
from importlib import import_module

from resolvers.root import build_schema

gc.disable()  # of what is loaded nothing is garbage
for _name in ("anyio._backends._asyncio", "passlib.handlers.argon2", "server.cli", "server.serve", "uvloop"):
    import_module(_name)
_ = import_module("redis").RedisError  # it is loaded when somebody looks at it
build_schema()
gc.freeze()
