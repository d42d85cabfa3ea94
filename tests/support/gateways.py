"""A whole gateway for tests: the real application under a real uvicorn, before a fake model server."""

import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import anyio
import httpx
import orjson
import uvicorn
from pydantic import BaseModel
from sqlalchemy import delete, exists, literal, select, union_all
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.typing import Subprotocol

from auth.client import UNKNOWN_CLIENT
from auth.credentials import BearerToken
from db.engine import Database
from db.tables import KnownAddress, Session, Table, User
from gateway.request_limits import RequestLimits
from server.app import create_app
from server.application import Application, GraphQLEndpoint
from server.first_start import make_identity
from server.graphql.executor import Executor
from server.serve import server_config
from server.settings import Settings
from server.signing_keys import SigningKeys
from tests.support.fake_model_server import FakeModelServer

ADMIN = "admin"
PASSWORD = "correct horse battery"

_KINDS = ("count", "together", "no-usage", "hold", "stall", "error", "malformed", "truncated", "cut")

EVERY_MODEL = [
    *(f"fake:{kind}-{tokens}" for kind in _KINDS for tokens in (3, 5, 300)),
    *(f"fake:status-{status}" for status in (404, 429, 500, 503)),
    "fake:length-3",
    "fake:paced-5-1",
    "fake:tools-2",
]
"""Models of the fake server beside those that it offers by itself; see its table."""

CREATE_KEY = """
mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) {
  ... on CreateApiKeySuccess { secret apiKey { id name prefix scopes createdAt expiresAt lastUsedAt revokedAt } }
  ... on UserError { message code } ... on InvalidInput { issues { path } }
} }
"""

Json = dict[str, Any]

_STAYS = {"audit_events", "known_addresses", "refresh_tokens", "replicas", "sessions", "usage_keys", "users"}
"""The tables that `RunningGateway.empty` leaves, or empties in part."""


class GraphQLErrors(Exception):
    """The response had errors; `errors` holds them as they came."""

    def __init__(self, errors: list[Json]) -> None:
        self.errors = errors
        super().__init__(str(errors))

    @property
    def code(self) -> str:
        """The code of the first error."""
        return self.errors[0]["extensions"]["code"]


@dataclass
class RunningGateway:
    """A gateway that listens. `token` is sent with every call; set it to a key, a token or None."""

    url: str
    app: Application
    settings: Settings
    fake: FakeModelServer
    client: httpx.AsyncClient
    stop: Callable[[], None]
    """Begin to stop, while the block goes on."""
    token: str | None = None
    tls: ssl.SSLContext | None = None
    """What trusts a proxy in front, where the address is that proxy's."""
    admin_username: str = ADMIN
    admin_password: str = PASSWORD
    _administrators: str | None = None
    """The token of the administrator's session that tests share."""

    @property
    def database(self) -> Database:
        """The database that the gateway itself uses."""
        return self.app.running.database

    def headers(self) -> dict[str, str]:
        """The headers that sign a call."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    async def post(self, query: str, variables: Json | None = None, **headers: str) -> httpx.Response:
        """Send a request by POST and give the raw response."""
        body = {"query": query, "variables": variables or {}}
        return await self.client.post("/graphql", json=body, headers={**self.headers(), **headers})

    async def run(self, query: str, variables: Json | None = None) -> Json:
        """Send a query or mutation and give its data. Raises GraphQLErrors."""
        response = (await self.post(query, variables)).json()
        if "errors" in response:
            raise GraphQLErrors(response["errors"])
        return response["data"]

    async def sign_in(self, username: str = ADMIN, password: str = PASSWORD) -> str:
        """Sign in, send the token from now on, and give it."""
        data = await self.run(
            "mutation($input: LoginInput!) { login(input: $input) { ... on LoginSuccess { accessToken } } }",
            {"input": {"username": username, "password": password}},
        )
        self.token = data["login"]["accessToken"]
        return cast("str", self.token)

    async def be_administrator(self) -> None:
        """Send the administrator's token from now on, of the session that tests share while it holds.

        A sign-in takes more than most tests.
        """
        if await self._shared_session() is None:
            self._administrators = await self.sign_in()
        self.token = self._administrators

    async def _shared_session(self) -> UUID | None:
        """The id of the session that tests share; None when it holds no longer."""
        if self._administrators is None:
            return None
        credentials = BearerToken(self._administrators)
        context = await self._graphql.websocket.callers.context(credentials, "test", UNKNOWN_CLIENT)
        return None if context.principal is None else context.principal.session_id

    async def make_user(self, username: str, *, role: str = "developer") -> User:
        """Another user, with the administrator's password."""
        identity = make_identity(self.settings, self.database, SigningKeys(self.settings).keys)
        return await identity.accounts.create(username, PASSWORD, role=role)

    async def make_key(self, name: str = "key", **input: Any) -> Json:
        """An API key of the caller's: its `secret` and its `apiKey`."""
        data = await self.run(CREATE_KEY, {"input": {"name": name, **input}})
        return data["createApiKey"]

    async def empty(self) -> None:
        """Delete what there is but for the administrator and their session, the replica and the audit log.

        One statement finds the tables that hold anything: deleting from all takes more than most tests.
        """
        tables = {table.name: table for table in reversed(Table.metadata.sorted_tables) if table.name not in _STAYS}
        filled = union_all(*(select(literal(name)).where(exists().select_from(tables[name])) for name in tables))
        session_id = await self._shared_session()
        async with self.database.transaction() as tx:
            found = set(await tx.scalars(filled))
            for name, table in tables.items():
                if name in found:
                    await tx.execute(delete(table))
            await tx.execute(delete(Session).where(Session.id != session_id) if session_id else delete(Session))
            await tx.execute(delete(KnownAddress).where(KnownAddress.address != "127.0.0.1"))
            await tx.execute(delete(User).where(User.username != ADMIN))

    def limit_sockets(self, **limits: float) -> None:
        """Change fields of SocketLimits, for the sockets that are opened from now on."""
        sockets = self._graphql.websocket
        changed = replace(sockets, limits=replace(sockets.limits, **limits))
        self.app.graphql = replace(self._graphql, websocket=changed)

    @property
    def executor(self) -> Executor:
        """What executes all operations, whatever they come over."""
        return self._graphql.websocket.executor

    @property
    def _graphql(self) -> GraphQLEndpoint:
        assert self.app.graphql is not None
        return self.app.graphql

    @property
    def requests(self) -> RequestLimits:
        """What counts requests by address."""
        return self._graphql.websocket.callers.requests

    def limit_documents(self, **limits: int) -> None:
        """Change fields of DocumentLimits."""
        self.executor.limits = replace(self.executor.limits, **limits)

    def limit_streams(self, **limits: float) -> None:
        """Change fields of StreamLimits, for the streams over HTTP that are opened from now on."""
        http = self._graphql.http
        changed = replace(http, stream_limits=replace(http.stream_limits, **limits))
        self.app.graphql = replace(self._graphql, http=changed)

    @asynccontextmanager
    async def connect(self, *, init: Json | None = None) -> AsyncGenerator["Socket"]:
        """A WebSocket that has been acknowledged; `init` is the payload, by default the token."""
        payload = init if init is not None else self.headers()
        url = self.url.replace("http", "ws", 1) + "/graphql"
        async with websocket(url, subprotocols=[Subprotocol("graphql-transport-ws")], ssl=self.tls) as connection:
            socket = Socket(connection)
            await socket.send({"type": "connection_init", "payload": payload})
            assert (await socket.receive())["type"] == "connection_ack"
            yield socket

    async def events(self, query: str, variables: Json | None = None) -> list[Json]:
        """Subscribe, read to the end, and give the events (the value of the one root field of each)."""
        async with self.connect() as socket:
            await socket.subscribe(query, variables)
            return [event async for event in socket.events()]


@dataclass
class Socket:
    """One connection that speaks graphql-transport-ws."""

    connection: ClientConnection
    _waiting: list[Json] = field(default_factory=list[Json])

    async def send(self, message: Json) -> None:
        """Send a message."""
        await self.connection.send(orjson.dumps(message).decode())

    async def receive(self) -> Json:
        """The next message. Raises websockets' ConnectionClosed with the code."""
        return orjson.loads(await self.connection.recv())

    async def subscribe(self, query: str, variables: Json | None = None, id: str = "1") -> None:
        """Begin an operation."""
        payload = {"query": query, "variables": variables or {}}
        await self.send({"type": "subscribe", "id": id, "payload": payload})

    async def complete(self, id: str = "1") -> None:
        """End an operation."""
        await self.send({"type": "complete", "id": id})

    async def events(self, id: str = "1") -> AsyncIterator[Json]:
        """The events of an operation to its end. What comes for others meanwhile waits. Raises GraphQLErrors."""
        while True:
            message = await self._message(id)
            if message["type"] == "error":
                raise GraphQLErrors(message["payload"])
            if message["type"] == "complete":
                return
            if "errors" in message["payload"]:
                raise GraphQLErrors(message["payload"]["errors"])
            yield next(iter(message["payload"]["data"].values()))

    async def _message(self, id: str) -> Json:
        """The next message of an operation."""
        for index, message in enumerate(self._waiting):
            if message["id"] == id:
                return self._waiting.pop(index)
        while (message := await self.receive()).get("id") != id:
            if "id" in message:
                self._waiting.append(message)
        return message


class _OnlyGiven(Settings):
    """Settings that read no environment: looking for a hundred variables takes longer than the rest."""

    def __init__(self, **values: Any) -> None:
        BaseModel.__init__(self, **values)


def gateway_settings(data_dir: Path, database_url: str, fake_url: str | None, **others: Any) -> Settings:
    """Settings for tests: nothing from the environment, no embedded model, the fake server as Ollama."""
    values: Json = {
        "data_dir": data_dir,
        "database_url": database_url,
        "admin_password": PASSWORD,
        "embedded": False,
        "embedded_threads": 1,  # several wait for each other at full speed while others use the cores
        "ollama_url": fake_url,
        "models_max_age": 0,
        "identity_max_age": 0,
        "event_interval": 0,
        "query_timeout": 60,  # a busy machine is not what it is for
        "slow_statement_time": 0,  # nor is this
        "drain_time": 0,
        "recheck_interval": 0.2,
        "lease_time": 30,  # what a gateway does in each beat is most of what it does; tests of leases have shorter ones
        "breaker_failures": 0,  # tests of one gateway let its model server fail as often as they like
        "ollama_parallel": 64,
        "openai_parallel": 64,
        "max_running_per_user": 1000,
        "max_sockets_per_user": 1000,
        "max_operations_per_socket": 1000,
        **others,
    }
    if values.get("environment") != "production":  # which refuses hashes that cost nothing
        values = {"argon2_time_cost": 1, "argon2_memory_kib": 8, "argon2_parallelism": 1, **values}
    return _OnlyGiven(**values)


def refused_field(refusal: Json) -> str:
    """The place of the first value that an InvalidInput refuses, as `messages[0].content`."""
    first, *steps = refusal["issues"][0]["path"]
    return first + "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in steps)


class _Server(uvicorn.Server):
    """Tells when it listens, leaves the process's signals alone, and stops as the product's own server does."""

    def __init__(self, config: uvicorn.Config, app: Application, settings: Settings) -> None:
        super().__init__(config)
        self.ready = anyio.Event()
        self.gone = anyio.Event()
        self._app = app
        self._settings = settings

    async def run_to_its_end(self, listening: socket.socket) -> None:
        try:
            await self.serve([listening])
        finally:
            self.gone.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.running.service.stop()
        await super().shutdown(sockets)

    def stop(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def running_gateway(settings: Settings, fake: FakeModelServer) -> AsyncGenerator[RunningGateway]:
    """Start a gateway on a free port, sign in as the administrator, and stop it gracefully after the block."""
    app = create_app(settings)
    server = _Server(server_config(app, settings), app, settings)
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run_to_its_end, listening)
        await server.ready.wait()
        try:
            async with httpx.AsyncClient(base_url=url, timeout=30, verify=False) as client:
                gateway = RunningGateway(url, app, settings, fake, client, server.stop)
                await gateway.be_administrator()
                yield gateway
        finally:
            with anyio.CancelScope(shield=True):  # a test that failed must not leave half a gateway behind
                server.stop()
                await server.gone.wait()
