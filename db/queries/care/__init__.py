"""The statements of those who look after a database: what is in it, and what is too old."""

from db.queries.care import inspection, stale
from db.queries.care.inspection import Connections, TableShape
from db.queries.care.stale import Stale

__all__ = ["Connections", "Stale", "TableShape", "inspection", "stale"]
