"""What the mutations of identity cost beside their objects."""

from schema.cost import Cost

HASHES_A_PASSWORD = Cost(weight="50")
"""Argon2 takes 0.1 s and 64 MiB."""
