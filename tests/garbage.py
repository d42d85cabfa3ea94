"""When tests collect garbage: not while modules are imported and tests collected, which took a quarter longer."""

import gc

import pytest

gc.disable()  # conftest.py imports this first


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the modules and the collected tests garbage collection, as a server does, and collect less often.

    What is garbage by now stays: to find it takes half a second in each process.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look once for what was never closed. pytest does so five times, which takes a second in each process."""
    gc.collect()
    gc.freeze()
