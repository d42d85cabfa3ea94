"""The processes of one installation: who lives, and what the dead leave behind."""

from gateway.replicas.heartbeat import Replicas

__all__ = ["Replicas"]
