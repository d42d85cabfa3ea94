"""Measures the gateway beside its peers. `make bench` runs it; README.md says how to read the numbers."""
