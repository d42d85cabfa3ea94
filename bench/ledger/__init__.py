"""Measures usage reports: `python -m bench.ledger`."""
