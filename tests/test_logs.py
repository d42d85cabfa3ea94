"""The log: one line for each request, sign-in, generation and slow statement; whole, escaped, where it is wanted."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from db.engine import Database
from server import logs
from server.logs import formatter, trace_id_of
from server.settings import SettingsError
from tests.support.gateways import RunningGateway, gateway_settings
from tests.support.generations import GENERATE, asking
from tests.support.processes import run_command, serving
from tests.support.shared.told_secrets import found_in

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
NASTY = "a\nFORGED b\r\x1b[2J\x7f\x85\x9b\u2028\u202e\ud800\0c"


@contextmanager
def logging_to(folder: Path, **settings: Any) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Have the log in a file too; gives what reads the entries written so far, and ends the log."""
    path, root = folder / "gateway.log", logging.getLogger()
    level = root.level
    log = logs.configure(gateway_settings(folder, "sqlite://", None, log_file=path, **settings))

    def entries() -> list[dict[str, Any]]:
        log.finish()
        return [orjson.loads(line) for line in path.read_bytes().splitlines()]

    try:
        yield entries
    finally:
        log.close()
        root.setLevel(level)


def rendered(message: str, *, json: bool, **extra: Any) -> str:
    record = logging.LogRecord("gateway.x", logging.WARNING, "x.py", 1, message, (), None)
    record.__dict__.update(extra)
    return formatter(json=json).format(record)


def test_nothing_that_is_logged_makes_two_lines_or_moves_a_cursor():
    for json in (True, False):
        line = rendered(NASTY, json=json, model=NASTY, **{"worker": None, "request": None})
        assert line.replace("\U0001f600", "").isprintable(), repr(line)
    told = orjson.loads(rendered(NASTY.replace("\ud800", ""), json=True, model="m"))
    assert told["event"] == NASTY.replace("\ud800", "")  # and JSON still tells what it was


def test_a_value_cannot_pass_for_another_field():
    line = rendered("sign-in", json=False, name_="ada outcome=SUCCESS", path='a"b\\')
    assert line.endswith('sign-in name_="ada outcome=SUCCESS" path="a\\"b\\\\"')


def test_a_traceback_cannot_pass_for_entries():
    try:
        raise ValueError("x\n2026-01-01T00:00:00.000Z INFO gateway: forged")
    except ValueError:
        record = logging.LogRecord("gateway.x", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info())
    first, *others = formatter(json=False).format(record).split("\n")
    assert first.endswith("ERROR gateway.x: failed")
    assert others
    assert [line for line in others if not line.startswith("    ")] == []


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (TRACEPARENT, TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-more", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}", None),
        ("a\nb", None),
        (None, None),
    ],
)
def test_a_trace_is_known_by_its_header(header: str | None, trace: str | None):
    assert trace_id_of(header) == trace


async def test_requests_and_generations_have_one_line_each_that_name_each_other(
    used_gateway: RunningGateway, tmp_path: Path
):
    query = "query Mine { viewer { method } }"
    with logging_to(tmp_path) as entries:
        response = await used_gateway.post(query, **{"X-Request-Id": "mine-1", "traceparent": TRACEPARENT})
        await used_gateway.events(GENERATE, asking("fake:count-3", "a prompt of this test"))
        written = entries()
    assert response.headers["x-request-id"] == "mine-1"
    [mine] = [entry for entry in written if entry.get("request_id") == "mine-1"]
    assert mine.items() >= {"event": "POST /graphql", "status": 200, "operation": "Mine", "trace_id": TRACE}.items()
    assert {"time", "level", "logger", "ms", "user"} <= mine.keys()
    [generation] = [entry for entry in written if entry["event"] == "generation ended"]
    assert generation.items() >= {"model": "fake:count-3", "end": "stop", "completion_tokens": 3}.items()
    [operation] = [entry for entry in written if entry["event"] == "operation"]
    assert operation["request_id"] == generation["request_id"]
    assert "a prompt of this test" not in str(written)


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\\nb", "a\u00e9"])
async def test_a_request_id_that_is_no_short_token_is_not_taken(used_gateway: RunningGateway, given: str):
    response = await used_gateway.client.get("/healthz", headers=[(b"x-request-id", given.encode("latin-1"))])
    assert len(response.headers["x-request-id"]) == 32


async def test_a_sign_in_has_a_line_and_a_failed_one_names_nobody(used_gateway: RunningGateway, tmp_path: Path):
    with logging_to(tmp_path) as entries:
        used_gateway.token = None
        await used_gateway.sign_in()
        used_gateway.token = None
        with pytest.raises(KeyError):
            await used_gateway.sign_in("my secret typed as a name", "wrong")
        good, bad = [entry for entry in entries() if entry["event"] == "sign-in"]
    assert good.items() >= {"action": "login", "outcome": "SUCCESS", "username": "admin", "level": "info"}.items()
    assert bad.items() >= {"outcome": "REFUSED", "code": "INVALID_CREDENTIALS", "level": "warning"}.items()
    assert "my secret" not in str(bad)


async def test_a_slow_statement_is_logged_without_its_values(sqlite_url: str, tmp_path: Path):
    database = Database(sqlite_url, slow_statement_time=1e-9)
    try:
        with logging_to(tmp_path) as entries:
            async with database.reading() as session:
                await session.execute(text("SELECT\n  :a AS a"), {"a": "a value of mine"})
            found = [entry for entry in entries() if entry.get("statement", "").startswith("SELECT ?")]
    finally:
        await database.close()
    assert [entry["event"] for entry in found] == ["slow statement"]
    assert "a value of mine" not in str(found)


def test_levels_hold_for_areas(tmp_path: Path):
    before = {name: logging.getLogger(name).level for name in ("gateway", "gateway.generation")}
    try:
        with logging_to(tmp_path, log_levels={"gateway": "error", "gateway.generation": "debug"}) as entries:
            logging.getLogger("gateway.catalog").warning("no")
            logging.getLogger("gateway.generation.run").debug("yes")
            assert [entry["event"] for entry in entries()] == ["yes"]
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def test_a_full_file_is_renamed_and_the_oldest_is_dropped(tmp_path: Path):
    with logging_to(tmp_path, log_max_size=2_000, log_backups=2) as entries:
        for number in range(100):
            logging.getLogger("server.x").warning("entry %d", number)
        entries()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["gateway.log", "gateway.log.1", "gateway.log.2"]
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= 2_000
    kept = [
        orjson.loads(line)["event"] for name in reversed(names) for line in (tmp_path / name).read_text().splitlines()
    ]
    assert kept == [f"entry {number}" for number in range(100 - len(kept), 100)]


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path):
    with logging_to(tmp_path) as entries:
        logging.getLogger("server.x").warning("before")
        entries()
        (tmp_path / "gateway.log").rename(tmp_path / "gateway.log.1")
        logging.getLogger("server.x").warning("after")
    assert "before" in (tmp_path / "gateway.log.1").read_text()
    assert "after" in (tmp_path / "gateway.log").read_text()


def test_a_worker_has_a_file_of_its_own(tmp_path: Path):
    log = logs.configure(gateway_settings(tmp_path, "sqlite://", None, log_file=tmp_path / "a.log"), 2)
    logging.getLogger("server.x").warning("hello")
    log.close()
    assert orjson.loads((tmp_path / "a-worker2.log").read_text())["worker"] == 2


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"OLLAGRAPH_LOG_FILE: .* cannot be written \(No such file"):
        logs.configure(gateway_settings(tmp_path, "sqlite://", None, log_file=tmp_path / "none" / "a.log"))


@pytest.mark.parametrize("value", ["httpx=debug", "gateway=loud", "gateway"])
def test_an_area_or_a_level_that_there_is_not_is_refused(tmp_path: Path, value: str):
    result = run_command(tmp_path / "data", "serve", LOG_LEVELS=value)
    assert result.returncode == 1
    assert "OLLAGRAPH_LOG_LEVELS: " in result.stderr


async def test_a_log_that_is_no_terminal_is_json_and_whole_at_the_end(tmp_path: Path):
    async with serving(tmp_path / "data", LOG_FORMAT="auto") as served:
        await served.sign_in(served.password or "")
        assert await served.stop() == 0
        written = [orjson.loads(line) for line in served.errors.splitlines()]
    assert {"sign-in", "POST /graphql"} <= {entry["event"] for entry in written}
    assert served.password not in served.errors


def test_the_search_for_secrets_finds_them():
    key = "olg_" + "a" * 36
    assert found_in(f"x {key} y correct horse battery 0 1 2 3 4") == ["0 1 2 3 ", "correct horse battery", key]
