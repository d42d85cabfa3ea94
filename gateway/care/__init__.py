"""Care for an installation: what its database tells of itself, and removing what is too old."""

from db.queries import TableShape
from gateway.care.condition import Condition, Inspection
from gateway.care.pruning import CHOSEN_AGE, Ages, Kind, Pruned, Pruning

__all__ = ["CHOSEN_AGE", "Ages", "Condition", "Inspection", "Kind", "Pruned", "Pruning", "TableShape"]
