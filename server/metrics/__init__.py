"""Metrics for Prometheus: what is counted, what is sampled, and where they are read."""

from server.metrics.instruments import Metrics
from server.metrics.sampler import Parts
from server.metrics.service import MetricsService, make_metrics

__all__ = ["Metrics", "MetricsService", "Parts", "make_metrics"]
