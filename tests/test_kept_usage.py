"""What generations have used is known when their process was killed, whatever became of the stream log."""

import os
from pathlib import Path
from uuid import UUID

import pytest

from db.clock import new_id
from gateway.streams import NO_USAGE, KeptUsage, TokenUsage, UsageSource, UsageSources

ONE, TWO = UUID(int=1), UUID(int=2)
USED = TokenUsage(7, 8, None, UsageSources.of_weakest(UsageSource.COUNTED, 7, None, 3), 3)
MORE = TokenUsage(7, 9, 1, UsageSources.of_weakest(UsageSource.BACKEND, 7, 1, None), None)


def test_another_process_reads_what_was_noted_last(tmp_path: Path):
    own, other = KeptUsage(tmp_path, new_id()), KeptUsage(tmp_path, new_id())
    own.note(ONE, NO_USAGE)
    own.note(TWO, USED)
    own.note(ONE, MORE)
    assert (other.left(ONE), other.left(TWO), other.left(UUID(int=3))) == (MORE, USED, NO_USAGE)
    own.forget(ONE)
    assert (other.left(ONE), other.left(TWO)) == (NO_USAGE, USED)


def test_of_two_that_noted_one_generation_the_higher_usage_counts(tmp_path: Path):
    first, second = KeptUsage(tmp_path, new_id()), KeptUsage(tmp_path, new_id())
    first.note(ONE, MORE)
    second.note(ONE, USED)
    assert second.left(ONE) == MORE


def test_nothing_is_left_of_a_process_that_ended_as_it_should(tmp_path: Path):
    kept = KeptUsage(tmp_path, new_id())
    kept.note(ONE, USED)
    kept.close()
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_killed_process_goes_after_an_hour_and_that_of_a_live_one_stays(tmp_path: Path):
    old = tmp_path / "usage-dead.notes"
    old.touch()
    KeptUsage(tmp_path, new_id()).close()
    assert old.exists()
    alive = KeptUsage(tmp_path, new_id())
    alive.note(ONE, USED)
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    other = KeptUsage(tmp_path, new_id())
    assert not old.exists()
    assert other.left(ONE) == USED


def test_where_nothing_can_be_written_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    kept = KeptUsage(tmp_path / "missing", new_id())
    kept.note(ONE, USED)
    kept.forget(ONE)
    kept.close()
    assert "is not kept in case this process is killed" in caplog.text
