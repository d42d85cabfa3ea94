"""`ollagraph login` and what follows it, as processes of their own that know nothing but the gateway's address."""

import json
import signal
import stat
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import select, update

from db.clock import now
from db.tables import DeviceCode, Session
from server.client.addresses import check_encrypted, gateway_url
from server.client.credentials import CredentialsFile, Stored, Tokens
from server.client.errors import ClientError
from tests.support.gateways import ADMIN, Json, RunningGateway
from tests.support.ports import free_port
from tests.support.preloaded import PreloadedProcess
from tests.support.processes import environment, run_command
from tests.test_devices import approve, deny

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def gateway(emptied_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunningGateway:
    """A gateway whose devices need not wait for long, and a person without a browser."""
    monkeypatch.setattr("gateway.identity.devices.sign_ins.POLL_INTERVAL", 1)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    return emptied_gateway


async def command(tmp_path: Path, *arguments: str) -> Result:
    return await to_thread.run_sync(partial(run_command, tmp_path / "data", *arguments))


@asynccontextmanager
async def logging_in(tmp_path: Path, url: str, *options: str) -> AsyncGenerator[tuple[PreloadedProcess, Json, Path]]:
    """A sign-in that waits, with the code that it shows."""
    errors, arguments = tmp_path / "errors", ["login", "--url", url, "--name", "a test", *options]
    with PreloadedProcess(arguments, tmp_path, environment(tmp_path / "data"), errors) as process:
        said = ""
        with anyio.fail_after(60):
            while "Waiting" not in said:
                said += await process.read()
        assert f"Open {url}/#device\n" in said
        yield process, {"userCode": said.partition("enter the code ")[2][:9]}, errors


async def log_in(tmp_path: Path, gateway: RunningGateway) -> None:
    async with logging_in(tmp_path, gateway.url) as (process, device, _):
        assert (await approve(gateway, device))["__typename"] == "ApproveDeviceSuccess"
        with anyio.fail_after(60):
            assert await process.wait() == 0
        assert f"Signed in as {ADMIN} at {gateway.url}." in await process.read()


def kept(tmp_path: Path) -> Json:
    return json.loads((tmp_path / "config" / "ollagraph" / "credentials.json").read_text())


def change(tmp_path: Path, url: str, **columns: Any) -> None:
    told = kept(tmp_path)
    told["gateways"][url] |= columns
    (tmp_path / "config" / "ollagraph" / "credentials.json").write_text(json.dumps(told))


async def test_a_person_signs_in_uses_a_token_and_signs_out(gateway: RunningGateway, tmp_path: Path):
    await log_in(tmp_path, gateway)
    path = tmp_path / "config" / "ollagraph" / "credentials.json"
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    printed = await command(tmp_path, "token")
    gateway.token = printed.stdout.strip()
    assert (await gateway.run("{ me { username } }"))["me"] == {"username": ADMIN}
    who = await command(tmp_path, "whoami", "--url", f"{gateway.url}/")
    assert (who.stdout, who.stderr) == (f"{ADMIN} (admin) at {gateway.url}\n", "")
    who = await command(tmp_path, "whoami", "--json")
    assert json.loads(who.stdout) == {"username": ADMIN, "role": "admin", "url": gateway.url}
    out = await command(tmp_path, "logout")
    assert out.stdout == f"Signed out at {gateway.url}.\n"
    assert kept(tmp_path)["gateways"] == {}
    assert (await gateway.post("{ me { id } }")).json()["errors"][0]["extensions"]["reason"] == "REVOKED_SESSION"
    again = await command(tmp_path, "token")
    assert (again.returncode, "ollagraph login" in again.stderr, again.stdout) == (1, True, "")


async def test_tokens_asked_for_at_once_are_the_same_next_one(gateway: RunningGateway, tmp_path: Path):
    await log_in(tmp_path, gateway)
    change(tmp_path, gateway.url, expires_at=(datetime.now(UTC) + timedelta(seconds=30)).isoformat())
    before, printed = kept(tmp_path)["gateways"][gateway.url], set[str]()

    async def one() -> None:
        printed.add((await command(tmp_path, "token")).stdout)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(one)
    [token] = printed
    after = kept(tmp_path)["gateways"][gateway.url]
    assert token.strip() == after["access_token"]
    assert after["refresh_token"] != before["refresh_token"]
    async with gateway.database.reading() as reading:
        rows = (await reading.scalars(select(Session).where(Session.client == "a test"))).all()
    assert [row.revoked_at for row in rows] == [None]


async def test_an_ended_session_is_told_and_forgotten(gateway: RunningGateway, tmp_path: Path):
    await log_in(tmp_path, gateway)
    change(tmp_path, gateway.url, expires_at=datetime.now(UTC).isoformat())
    async with gateway.database.transaction() as tx:
        await tx.execute(update(Session).values(revoked_at=now()))
    result = await command(tmp_path, "token")
    assert (result.returncode, "has ended" in result.stderr) == (1, True)
    assert kept(tmp_path)["gateways"] == {}


@pytest.mark.parametrize("how", ["denied", "expired", "cancelled"])
async def test_a_sign_in_that_comes_to_nothing_is_told_in_a_sentence(gateway: RunningGateway, tmp_path: Path, how: str):
    async with logging_in(tmp_path, gateway.url) as (process, device, errors):
        if how == "denied":
            await deny(gateway, device)
        elif how == "expired":
            async with gateway.database.transaction() as tx:
                await tx.execute(update(DeviceCode).values(expires_at=now()))
        else:
            process.send_signal(signal.SIGINT)
        with anyio.fail_after(60):
            assert await process.wait() == (130 if how == "cancelled" else 1)
        assert how in errors.read_text().lower()
        assert "Traceback" not in errors.read_text()
    assert not (tmp_path / "config" / "ollagraph" / "credentials.json").exists()


async def test_signing_in_again_ends_the_session_before(gateway: RunningGateway, tmp_path: Path):
    await log_in(tmp_path, gateway)
    await log_in(tmp_path, gateway)
    async with gateway.database.reading() as reading:
        rows = (await reading.scalars(select(Session).where(Session.client == "a test").order_by(Session.id))).all()
    assert [row.revoke_reason for row in rows] == ["SIGNED_OUT", None]


class _Page(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def other_server() -> Iterator[str]:
    """A server that is no gateway."""
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_what_is_no_gateway_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with other_server() as page:
        told = {
            f"http://127.0.0.1:{free_port()}": "cannot be reached",
            page: "is no Ollagraph gateway",
            page.replace("http", "https"): "does not speak TLS",
            "ftp://x": "is not the address of a gateway",
            "http://llm.example": "--allow-http",
        }
        for url, sentence in told.items():
            result = await command(tmp_path, "login", "--url", url)
            assert (result.returncode, sentence in result.stderr) == (1, True), result.stderr
            assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("https://LLM.example/", "https://llm.example"),
        ("llm.example:8443/graphql", "https://llm.example:8443"),
        ("http://[::1]:8000/gateway/", "http://[::1]:8000/gateway"),
    ],
)
def test_an_address_has_one_form(typed: str, meant: str):
    assert gateway_url(typed) == meant


@pytest.mark.parametrize("typed", ["", "https://", "https://u:p@x", "https://x/?a=b", "file:///x", "https://a b"])
def test_what_is_no_address_is_refused(typed: str):
    with pytest.raises(ClientError, match="not the address"):
        gateway_url(typed)


def test_tokens_go_unencrypted_only_to_this_machine_or_where_somebody_agreed():
    for url in ("https://llm.example", "http://127.0.0.1:8000", "http://localhost", "http://[::1]"):
        check_encrypted(url, allow_http=False)
    check_encrypted("http://llm.example", allow_http=True)
    for url in ("http://llm.example", "http://10.0.0.1", "http://localhost.example"):
        with pytest.raises(ClientError, match="https"):
            check_encrypted(url, allow_http=False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"default": null, "gateways": {"x": {}}}', "\0"])
def test_a_damaged_file_is_told(tmp_path: Path, content: str):
    file = CredentialsFile(tmp_path)
    file.path.write_text(content)
    with pytest.raises(ClientError, match="damaged"):
        file.read()


def test_a_file_that_was_open_to_others_is_closed_when_it_is_written(tmp_path: Path):
    file = CredentialsFile(tmp_path)
    file.path.write_text("{}")
    file.path.chmod(0o644)
    tokens = Tokens("ada", "a", now().isoformat(), "r")
    with file.locked():
        file.write(Stored().with_tokens("https://x", tokens).with_default("https://x"))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.read().gateways == {"https://x": tokens}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert file.read().without("https://x").default is None
