"""The processes of one installation: who lives, and what the dead leave behind."""

from gateway.replicas.heartbeat import Replicas
from gateway.replicas.peers import PeerRequests
from gateway.replicas.stream_records import StreamRecords
from gateway.replicas.takeover import Takeover
from gateway.replicas.usage_notes import UsageNotes

__all__ = ["PeerRequests", "Replicas", "StreamRecords", "Takeover", "UsageNotes"]
