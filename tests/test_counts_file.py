"""The files in which workers count together: read by prometheus-client, and written where a disk may be full."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from server.metrics.counts_file import CountsFile
from server.metrics.instruments import Metrics
from server.workers.metrics_files import VARIABLE
from tests.support.processes import no_larger_files
from tests.test_metrics import value


def key(label: str) -> str:
    return mmap_key("seen", "seen_total", ["label"], [label], "Things.")


def read(path: Path) -> dict[str, tuple[float, float]]:
    """What another process reads."""
    found = MmapedDict.read_all_values_from_file(str(path))
    return {key: (value, timestamp) for key, value, timestamp, _ in found}


@given(
    st.lists(st.tuples(st.text(max_size=200).map(key), st.floats(allow_nan=False), st.floats(0, 1e10)), max_size=100)
)
def test_others_read_what_was_written_also_behind_a_process_of_the_same_number(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, float, float]]
):
    path = tmp_path_factory.mktemp("counts") / "counter_1.db"
    half = len(writes) // 2
    for part in (writes[:half], writes[half:]):
        file = CountsFile(str(path))
        for each in part:
            file.write_value(*each)
        file.close()
    expected = {key: (value, timestamp) for key, value, timestamp in writes}
    again = CountsFile(str(path))
    assert {key: again.read_value(key) for key in expected} == expected
    again.close()
    assert (read(path) if writes else {}) == expected


def test_a_value_begins_with_0_and_others_see_it(tmp_path: Path):
    file = CountsFile(str(tmp_path / "counter_1.db"))
    assert file.read_value(key("a")) == (0, 0)
    assert read(tmp_path / "counter_1.db") == {key("a"): (0, 0)}
    file.close()


def test_what_a_full_disk_does_not_take_is_written_when_it_does(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "counter_1.db"
    file = CountsFile(str(path))
    file.write_value(key("old"), 1, 0)
    with no_larger_files(path.stat().st_size):
        for number in range(1, 4):
            file.write_value(key("new"), number, 0)
        file.write_value(key("old"), 2, 0)
    assert len(caplog.records) == 1
    assert read(path) == {key("old"): (2, 0)}
    file.write_value(key("other"), 4, 0)
    assert read(path) == {key("old"): (2, 0), key("new"): (3, 0), key("other"): (4, 0)}
    file.close()


def test_files_that_a_starting_worker_has_not_filled_yet_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    filled = CountsFile(str(tmp_path / "counter_1.db"))
    filled.write_value(key("a"), 5, 0)
    filled.close()
    for name in ("counter_2.db", "histogram_2.db", "gauge_livesum_2.db"):
        (tmp_path / name).touch()
    assert value(Metrics(shared=True).text().decode(), "seen_total") == 5
