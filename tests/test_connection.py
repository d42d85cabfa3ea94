"""Responses of HTTP/1.1 byte by byte: how they are cut, how they end, and which connection is used again."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backends.errors import BackendTimeout, BackendUnavailable
from backends.wire import Client, fetch_json, make_client, stream_reads
from backends.wire.connection import MOST_HELD
from tests.support.polling import settled

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HELLO = b'2\r\n{"\r\n6\r\na": 1}\r\n0\r\n\r\n'


class RawServer:
    """Gives one answer for each request, byte by byte, and counts connections and requests."""

    def __init__(self, answers: Sequence[Sequence[bytes]]) -> None:
        self.url = ""
        self.connections: list[asyncio.StreamWriter] = []
        self.asked: list[bytes] = []
        self.more = anyio.Event()
        self._answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while self._answers:
                self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                length = self.asked[-1].lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                await reader.readexactly(int(length or 0))
                for piece in self._answers.pop(0):
                    await self._write(writer, piece)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        if piece == b"CLOSE":
            writer.close()
        elif piece == b"WAIT":
            await self.more.wait()
            self.more = anyio.Event()
        else:
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def raw_server(
    *answers: Sequence[bytes], tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[RawServer, Client]]:
    server = RawServer(answers)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls) as listening:
        port = listening.sockets[0].getsockname()[1]
        server.url = f"{'https' if tls else 'http'}://localhost:{port}"
        async with make_client(server.url) as client:
            yield server, client


async def body_of(client: Client) -> bytes:
    async with stream_reads(client, "/", {}) as reads:
        return b"".join([piece async for piece in reads])


def each_byte(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


WHOLE = {
    "chunked": [CHUNKED + HELLO],
    "chunked, each byte by itself": each_byte(CHUNKED + HELLO),
    "with a length": [b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", b'{"a": ', b"1}"],
    "until the connection ends": [b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}', b"CLOSE"],
    "of HTTP/1.0": [b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}', b"CLOSE"],
    "behind an announcement": [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nlink: x\r\n\r\n", CHUNKED + HELLO],
    "with line feeds alone": [b'HTTP/1.1 200 OK\nContent-Length: 8\n\n{"a": 1}'],
    "with blanks behind a size": [CHUNKED + b'8  \r\n{"a": 1}\r\n0\r\n\r\n'],
    "with a length and chunks": [CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-length: 3\r\n\r\n") + HELLO],
    "with a trailer": [CHUNKED + HELLO[:-2] + b"content-encoding: gzip\r\n\r\n"],
}


@pytest.mark.parametrize("kind", WHOLE)
async def test_a_body_comes_whole(kind: str):
    async with raw_server(WHOLE[kind], [CHUNKED + HELLO]) as (_, client):
        assert await body_of(client) == b'{"a": 1}'
        assert await fetch_json(client, "GET", "/") == {"a": 1}


BROKEN = {
    "no HTTP": [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "nothing": [b""],
    "half a head": [b"HTTP/1.1 200 OK\r\n"],
    "half a chunk": [CHUNKED + b"8\r\n{"],
    "no last chunk": [CHUNKED + HELLO[:-5]],
    "less than its length": [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"],
    "a chunk of no size": [CHUNKED + b"x\r\n"],
    "another protocol": [b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx"],
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_what_is_not_whole_breaks(kind: str):
    async with raw_server(BROKEN[kind]) as (_, client):
        with pytest.raises(BackendUnavailable, match="connection to the model server broke"):
            await body_of(client)


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        ([CHUNKED + HELLO], 1),
        ([CHUNKED[:-2] + b"connection: close\r\n\r\n" + HELLO], 2),
        ([CHUNKED + HELLO + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"], 2),
        ([CHUNKED + HELLO, b"junk"], 2),
        ([b"HTTP/1.0 200 OK\r\ncontent-length: 8\r\n\r\n" + b'{"a": 1}'], 2),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], 1),
    ],
)
async def test_a_connection_is_used_again_only_where_both_sides_keep_it(answer: list[bytes], connections: int):
    async with raw_server([CHUNKED + HELLO], answer, [CHUNKED + HELLO], [CHUNKED + HELLO]) as (server, client):
        for number in range(3):
            async with client.stream("GET", "/") as response:
                assert response.status_code == (204 if b" 204 " in answer[0] and number == 1 else 200)
                await response.aread()
            await settled()
        assert len(server.connections) == connections


async def test_what_comes_while_nobody_reads_comes_as_one_piece():
    async with raw_server([CHUNKED, b"1\r\na\r\n", b"WAIT", b"1\r\nb\r\n", b"1\r\nc\r\n0\r\n\r\n"]) as (server, client):
        async with stream_reads(client, "/", {}) as reads:
            assert await anext(reads) == b"a"
            reads.gather(3600)
            server.more.set()
            # The end comes at once, with what was gathered until then.
            assert [piece async for piece in reads] == [b"bc"]


async def test_gathering_ends_in_time():
    async with raw_server([CHUNKED, b"1\r\na\r\n", b"WAIT", b"1\r\nb\r\n", b"WAIT"]) as (server, client):
        async with stream_reads(client, "/", {}) as reads:
            assert await anext(reads) == b"a"
            begun = anyio.current_time()
            reads.gather(0.05)
            server.more.set()
            assert await anext(reads) == b"b"
            assert anyio.current_time() - begun >= 0.049


async def test_a_break_ends_gathering():
    async with raw_server([CHUNKED, b"1\r\na\r\n", b"WAIT", b"1\r\nb\r\n"]) as (server, client):
        async with stream_reads(client, "/", {}) as reads:
            assert await anext(reads) == b"a"
            reads.gather(3600)
            server.more.set()
            assert await anext(reads) == b"b"
            with pytest.raises(BackendUnavailable):
                await anext(reads)


async def test_a_server_that_is_faster_than_its_reader_has_to_wait():
    flood = b"x" * 32 * MOST_HELD
    async with raw_server([b"HTTP/1.1 200 OK\r\n\r\n", flood, b"CLOSE"]) as (_, client):
        async with stream_reads(client, "/", {}) as reads:
            sizes: list[int] = []
            async for piece in reads:
                sizes.append(len(piece))
                for _ in range(200):  # in which all would come
                    await checkpoint()
    assert sum(sizes) == len(flood)
    assert max(sizes) < 4 * MOST_HELD


async def test_a_header_of_several_lines_is_not_sent():
    async with raw_server([CHUNKED + HELLO]) as (server, client):
        with pytest.raises(httpx.LocalProtocolError):
            await client.get("/", headers={"x": "a\r\nhost: b"})
        assert server.asked == []


async def test_cookies_of_one_answer_are_not_sent_with_the_next_request():
    cookie = CHUNKED[:-2] + b"set-cookie: route=a\r\n\r\n"
    async with raw_server([cookie + HELLO], [CHUNKED + HELLO]) as (server, client):
        await body_of(client)
        await body_of(client)
    assert [b"cookie:" in asked.lower() for asked in server.asked] == [False, False]


async def test_a_user_and_a_password_in_the_address_are_sent_with_every_request():
    async with raw_server([CHUNKED + HELLO], [CHUNKED + HELLO]) as (server, _):
        async with make_client(server.url.replace("//", "//ada:l%40ce@")) as client:
            await body_of(client)
            await fetch_json(client, "GET", "/")
    assert [b"Authorization: Basic YWRhOmxAY2U=\r\n" in asked for asked in server.asked] == [True, True]


async def test_a_path_of_the_address_stands_before_what_is_asked_for():
    async with raw_server([CHUNKED + HELLO]) as (server, _):
        async with make_client(f"{server.url}/below") as client:
            await fetch_json(client, "GET", "/api/tags")
    assert server.asked[0].startswith(b"GET /below/api/tags HTTP/1.1\r\n")


async def test_connecting_takes_no_longer_than_it_may():
    async with make_client("http://127.0.0.1:9", connect_timeout=0.0) as client:
        with pytest.raises(BackendTimeout):
            await fetch_json(client, "GET", "/")


def certificate(folder: Path) -> Path:
    """Write a key and a certificate for localhost that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    at = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    kind = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


async def test_https_trusts_the_store_of_the_machine_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path)
    async with raw_server([CHUNKED + HELLO], tls=tls) as (server, client):
        with pytest.raises(BackendUnavailable, match="cannot be reached"):
            await fetch_json(client, "GET", "/")
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        async with make_client(server.url) as trusting:
            assert await fetch_json(trusting, "GET", "/") == {"a": 1}
