"""Measures usage reports: `python -m bench.usage.ledger`."""
