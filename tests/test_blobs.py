"""Files over HTTP: taken once, given back to their owner alone, and nothing left of what was not taken."""

import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from sqlalchemy import func, select, update

from db.clock import now
from db.tables import Blob, BlobChunk
from gateway.blobs import CHUNK_SIZE, BlobLimits, Blobs
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.support.polling import pause


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    """One for all tests here, emptied before each of them."""
    return emptied_gateway


PNG = b"\x89PNG\r\n\x1a\n"
STRANGER = "https://stranger.example"
LIMITS = BlobLimits(enabled=True, size=1_000, quota=1_000, request=1_000, memory=1_000, retention=60)
SMALL = {"blob_max_size": 2_000_000, "blob_quota": 3_000_000, "max_uploads_per_user": 1, "request_timeout": 0.5}


def picture(size: int, seed: int = 0) -> bytes:
    """A PNG, as far as its beginning tells; each seed makes another."""
    return PNG + bytes([seed]) * (size - len(PNG))


async def send(gateway: RunningGateway, data: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    return await gateway.client.post("/blobs", content=data, headers={**gateway.headers(), **headers})


async def look(gateway: RunningGateway, method: str, id: str, **headers: str) -> httpx.Response:
    return await gateway.client.request(method, f"/blobs/{id}", headers={**gateway.headers(), **headers})


def told(response: httpx.Response) -> Json:
    """The one error of an answer: its status, and what its `extensions` and message tell."""
    [error] = response.json()["errors"]
    assert error["extensions"]["requestId"] == response.headers["X-Request-ID"]
    return {"status": response.status_code, "message": error["message"], **error["extensions"]}


async def stored(gateway: RunningGateway) -> tuple[int, int]:
    """How many blobs and chunks the database has, also of files that are still coming."""
    async with gateway.database.reading() as session:
        blobs = await session.scalar(select(func.count()).select_from(Blob))
        return blobs or 0, await session.scalar(select(func.count()).select_from(BlobChunk)) or 0


async def until_stored(gateway: RunningGateway, chunks: int) -> None:
    with anyio.fail_after(20):
        while (await stored(gateway))[1] != chunks:
            await pause()


@pytest.fixture
async def small(sqlite_url: str, tmp_path: Path, fake: FakeModelServer) -> AsyncGenerator[RunningGateway]:
    """A gateway with small limits and little patience."""
    async with running_gateway(gateway_settings(tmp_path, sqlite_url, fake.url, **SMALL), fake) as gateway:
        yield gateway


async def test_a_file_is_stored_once_and_given_back_until_it_is_deleted(
    emptied_gateway_on_each_database: RunningGateway,
):
    gateway, data = emptied_gateway_on_each_database, picture(CHUNK_SIZE * 2 + 7)
    first = await send(gateway, data, **{"Content-Type": "text/html"})
    blob = first.json()
    assert (first.status_code, first.headers["Location"]) == (201, f"/blobs/{blob['id']}")
    assert (blob["sha256"], blob["contentType"]) == (hashlib.sha256(data).hexdigest(), "image/png")
    assert (blob["size"], await stored(gateway)) == (len(data), (1, 3))
    again = await send(gateway, data)
    assert (again.status_code, again.json()["id"], await stored(gateway)) == (200, blob["id"], (1, 3))
    assert datetime.fromisoformat(again.json()["expiresAt"]) > datetime.fromisoformat(blob["expiresAt"])
    assert (await look(gateway, "GET", blob["id"])).content == data
    assert (await look(gateway, "DELETE", blob["id"])).status_code == 204
    assert [(await look(gateway, method, blob["id"])).status_code for method in ("GET", "DELETE")] == [404, 404]
    assert await stored(gateway) == (0, 0)


async def test_what_is_given_back_can_do_nothing_in_a_browser(gateway: RunningGateway):
    page = b"<html><script>alert(1)</script></html>"
    blob = (await send(gateway, page)).json()
    answers = [await look(gateway, method, blob["id"]) for method in ("HEAD", "GET")]
    assert [answer.content for answer in answers] == [b"", page]
    for headers in (answer.headers for answer in answers):
        assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("text/plain; charset=utf-8", "nosniff")
        assert headers["Content-Disposition"].startswith("attachment; ")
        assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert headers["Content-Length"] == str(len(page))
        digest = base64.b64encode(hashlib.sha256(page).digest()).decode()
        assert headers["Repr-Digest"] == f"sha-256=:{digest}:"


async def test_a_body_without_a_length_and_a_form_with_one_file_are_the_same_file(gateway: RunningGateway):
    data = picture(500_000, 1)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 99_999):
            yield data[at : at + 99_999]

    first = await send(gateway, pieces())
    form = await gateway.client.post("/blobs", files={"f": ("x.html", data)}, headers=gateway.headers())
    assert [first.status_code, form.status_code] == [201, 200]
    assert form.json()["id"] == first.json()["id"]


FORMS: dict[str, tuple[str, bytes]] = {
    "two files": ("b", b'--b\r\nX: y\r\n\r\na\r\n--b\r\nX: y\r\n\r\nb\r\n--b--\r\n'),
    "cut off": ("b", b"--b\r\nX: y\r\n\r\na"),
    "no form": ("b", b"nothing of the kind"),
    "a long boundary": ("b" * 1_000, b"x"),
    "nothing in it": ("b", b"--b\r\nX: y\r\n\r\n\r\n--b--\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMS)
async def test_a_form_that_holds_no_one_file_is_refused(gateway: RunningGateway, kind: str):
    boundary, body = FORMS[kind]
    refused = told(await send(gateway, body, **{"Content-Type": f"multipart/form-data; boundary={boundary}"}))
    assert (refused["status"], refused["code"]) == (400, "INVALID_INPUT")


async def test_a_form_without_a_boundary_is_refused(gateway: RunningGateway):
    refused = told(await send(gateway, b"x", **{"Content-Type": "multipart/form-data"}))
    assert (refused["status"], "boundary" in refused["message"]) == (400, True)


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"", {}, 400, "INVALID_INPUT"),
        (b"MZ\x90\0" * 20, {"Content-Type": "image/png"}, 415, "UNKNOWN_MEDIA_TYPE"),
        (b"\0", {"Content-Type": "image/png"}, 415, "UNKNOWN_MEDIA_TYPE"),
        (picture(100), {"Content-Encoding": "gzip"}, 415, "BAD_REQUEST"),
        (picture(100), {"Authorization": ""}, 401, "UNAUTHENTICATED"),
        (picture(100), {"Authorization": "Bearer x"}, 401, "UNAUTHENTICATED"),
        (picture(100), {"Origin": STRANGER, "Authorization": "", "X-API-Key": ""}, 401, "UNAUTHENTICATED"),
    ],
)
async def test_what_cannot_be_taken_is_told_why(
    gateway: RunningGateway, data: bytes, headers: dict[str, str], status: int, code: str
):
    before = await stored(gateway)
    refused = told(await send(gateway, data, **headers))
    assert (refused["status"], refused["code"]) == (status, code)
    assert await stored(gateway) == before


@pytest.mark.parametrize(("method", "path"), [("GET", "/blobs"), ("PUT", "/blobs/x"), ("POST", "/blobs/x")])
async def test_other_methods_are_refused_with_those_that_are_there(gateway: RunningGateway, method: str, path: str):
    answer = await gateway.client.request(method, path, headers=gateway.headers())
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST" if path == "/blobs" else "DELETE, GET, HEAD")


async def test_a_page_of_another_site_may_send_no_file_without_a_preflight(gateway: RunningGateway):
    headers = {"Origin": STRANGER, "Content-Type": "text/plain"}
    answer = await gateway.client.post("/blobs", content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (403, "FORBIDDEN")


async def test_what_is_anothers_is_not_there_whatever_one_may_do(gateway: RunningGateway):
    data = picture(1_000)
    await gateway.make_user("ada")
    admin, ada = gateway.token, await gateway.sign_in("ada")
    hers = await send(gateway, data)
    gateway.token = admin
    answers = [await look(gateway, method, hers.json()["id"]) for method in ("GET", "HEAD", "DELETE")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    mine = await send(gateway, data)  # as new as hers was: nobody learns that she has it
    assert [hers.status_code, mine.status_code] == [201, 201]
    assert mine.json()["id"] != hers.json()["id"]
    gateway.token = ada
    assert (await look(gateway, "GET", hers.json()["id"])).content == data


@pytest.mark.parametrize("id", ["x", "%2e%2e", "QmxvYjp4", "TW9kZWw6eA==", "A" * 5_000])
async def test_an_address_that_is_no_id_is_not_there(gateway: RunningGateway, id: str):
    assert told(await look(gateway, "GET", id))["code"] == "NOT_FOUND"


async def test_a_key_needs_the_scope_of_what_it_does(gateway: RunningGateway):
    blob = (await send(gateway, picture(100))).json()
    reader = (await gateway.make_key(scopes=["GENERATIONS_READ"]))["secret"]
    writer = (await gateway.make_key(scopes=["GENERATIONS_WRITE"]))["secret"]
    gateway.token = reader
    assert (await look(gateway, "GET", blob["id"])).status_code == 200
    refused = [told(await send(gateway, picture(100))), told(await look(gateway, "DELETE", blob["id"]))]
    assert [(each["status"], each["code"]) for each in refused] == [(403, "FORBIDDEN")] * 2
    gateway.token = writer
    assert (await look(gateway, "GET", blob["id"])).status_code == 403
    assert (await send(gateway, picture(100))).status_code == 200


async def test_a_file_that_is_too_large_is_refused_by_its_length_and_by_its_bytes(small: RunningGateway):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(21):
            yield picture(100_000)

    for body in (picture(2_000_001), pieces()):
        refused = told(await send(small, body))
        assert (refused["status"], refused["code"], refused["limit"]) == (413, "BLOB_TOO_LARGE", 2_000_000)
        assert "OLLAGRAPH_BLOB_MAX_SIZE" in refused["message"]
    assert await stored(small) == (0, 0)


async def test_a_user_has_room_for_so_much_until_something_goes(small: RunningGateway):
    first = (await send(small, picture(2_000_000))).json()

    async def pieces() -> AsyncIterator[bytes]:
        yield picture(1_500_000, 1)

    for body in (picture(1_500_000, 1), pieces()):
        refused = told(await send(small, body))
        assert (refused["status"], refused["code"]) == (507, "BLOB_QUOTA_EXCEEDED")
        assert "OLLAGRAPH_BLOB_QUOTA" in refused["message"]
    assert await stored(small) == (1, 6)
    await look(small, "DELETE", first["id"])
    assert (await send(small, picture(1_500_000, 1))).status_code == 201


async def open_upload(gateway: RunningGateway, sent: bytes) -> SocketStream:
    """Begin to send a large file, and stop."""
    address = urlsplit(gateway.url)
    stream = await anyio.connect_tcp(address.hostname or "", address.port or 0)
    head = f"POST /blobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.token}\r\n"
    await stream.send(f"{head}Content-Length: 1900000\r\n\r\n".encode() + sent)
    return stream


async def test_of_a_client_that_leaves_nothing_stays(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    async with await open_upload(gateway, picture(CHUNK_SIZE + 1)):
        await until_stored(gateway, 1)
        assert await stored(gateway) == (1, 1)
    await until_stored(gateway, 0)
    assert await stored(gateway) == (0, 0)


async def test_a_client_that_stops_sending_is_told_and_nothing_stays(small: RunningGateway):
    async with await open_upload(small, picture(CHUNK_SIZE)) as stream:
        await until_stored(small, 1)
        answer = b""
        with anyio.fail_after(30):
            while b"OLLAGRAPH_REQUEST_TIMEOUT" not in answer:
                answer += await stream.receive()
    assert answer.startswith(b"HTTP/1.1 408")
    await until_stored(small, 0)


async def test_who_is_refused_in_the_middle_gets_the_answer_and_then_the_end(
    small: RunningGateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.transports.blobs.LINGER_SECONDS", 0.1)
    answer = b""
    async with await open_upload(small, b"MZ\x90\0" * 20) as stream:
        with anyio.fail_after(20), suppress(anyio.EndOfStream):
            while True:
                answer += await stream.receive()
    assert answer.startswith(b"HTTP/1.1 415")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"}]}")


async def test_one_user_sends_so_many_at_once(small: RunningGateway):
    async with await open_upload(small, picture(CHUNK_SIZE)):
        await until_stored(small, 1)
        answer = await send(small, picture(100))
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert "OLLAGRAPH_MAX_UPLOADS_PER_USER" in told(answer)["message"]
    await until_stored(small, 0)
    assert (await send(small, picture(100))).status_code == 201


async def test_what_has_expired_is_not_there_and_is_removed(emptied_gateway_on_each_database: RunningGateway):
    gateway, data = emptied_gateway_on_each_database, picture(100)
    id = (await send(gateway, data)).json()["id"]
    async with gateway.database.transaction() as tx:
        await tx.execute(update(Blob).values(expires_at=now() - timedelta(seconds=1)))
    assert (await look(gateway, "GET", id)).status_code == 404
    again = await send(gateway, data)
    assert (again.status_code, again.json()["id"] != id, await stored(gateway)) == (201, True, (1, 1))
    async with gateway.database.transaction() as tx:
        await tx.execute(update(Blob).values(expires_at=now() - timedelta(seconds=1)))
    await Blobs(gateway.database, LIMITS).purge()
    assert await stored(gateway) == (0, 0)


@asynccontextmanager
async def without_blobs(folder: Path, url: str, fake: FakeModelServer) -> AsyncGenerator[RunningGateway]:
    async with running_gateway(gateway_settings(folder, url, fake.url, blobs=False), fake) as gateway:
        yield gateway


async def test_a_gateway_without_blobs_says_so(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    async with without_blobs(tmp_path, sqlite_url, fake) as gateway:
        refused = told(await send(gateway, picture(100)))
    assert (refused["status"], "OLLAGRAPH_BLOBS" in refused["message"]) == (404, True)
