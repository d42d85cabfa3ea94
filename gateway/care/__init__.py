"""Care for an installation: what its database tells of itself, and removing what is too old."""

from db.queries import TableShape
from gateway.care.condition import Condition, Inspection

__all__ = ["Condition", "Inspection", "TableShape"]
