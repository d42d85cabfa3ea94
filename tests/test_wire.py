"""Values of a model server that may send anything: what is odd costs its field."""

from typing import Any

import pytest

from backends.wire.json import as_count, as_size


@pytest.mark.parametrize(("value", "count"), [(0, 0), (7, 7), (3.0, 3), (2**31 - 1, 2**31 - 1), (None, None)])
def test_a_count_is_told(value: Any, count: int | None):
    assert as_count(value) == count


@pytest.mark.parametrize(
    "value", [-1, 2.5, "3", True, [], {}, 2**31, 3_000_000_000, 1e300, float("inf"), float("nan"), 2**80]
)
def test_what_is_no_count_is_not_told(value: Any):
    assert as_count(value) is None


@pytest.mark.parametrize(("value", "size"), [(2**31, 2**31), (1.5e9, 1_500_000_000), (2**53, None), ("4.1 GB", None)])
def test_a_size_may_be_larger_than_a_count(value: Any, size: int | None):
    assert as_size(value) == size
