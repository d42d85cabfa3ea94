"""Which models there are, what their names mean, and the queue before each backend."""

from gateway.catalog.breaker import Breaker, BreakerRule, BreakerState
from gateway.catalog.catalog import (
    BackendHealth,
    BackendKind,
    BackendState,
    Capability,
    Catalog,
    Deployment,
    LoadedModel,
    Model,
    ModelFilter,
)
from gateway.catalog.queue import BackendQueue, QueueTicket

__all__ = [
    "BackendHealth",
    "BackendKind",
    "BackendQueue",
    "BackendState",
    "Breaker",
    "BreakerRule",
    "BreakerState",
    "Capability",
    "Catalog",
    "Deployment",
    "LoadedModel",
    "Model",
    "ModelFilter",
    "QueueTicket",
]
