"""What was used, summed up."""

from gateway.usage.reports import Usage, UsageBucket, UsageReport, by_key, by_model, totals

__all__ = ["Usage", "UsageBucket", "UsageReport", "by_key", "by_model", "totals"]
