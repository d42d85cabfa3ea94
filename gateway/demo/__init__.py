"""Sample data: users, keys, prices, a year of usage and some conversations, made up and the same for the same seed."""

from gateway.demo.fill import DatabaseInUse, Demo
from gateway.demo.people import MAX_USERS
from gateway.demo.year import MAX_DAYS, MAX_GENERATIONS, DemoSize

__all__ = ["MAX_DAYS", "MAX_GENERATIONS", "MAX_USERS", "DatabaseInUse", "Demo", "DemoSize"]
