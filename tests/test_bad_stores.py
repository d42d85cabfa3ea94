"""A start with a PostgreSQL or a Valkey that refuses it is one sentence, too."""

import asyncio
import os
import socketserver
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from tests.support.bad_starts import HEMLIG, Scene, assert_one_sentence
from tests.support.databases import NEEDS_PASSWORD, PostgresqlDatabases
from tests.support.valkeys import ValkeyServer

USER = f"{NEEDS_PASSWORD}_{os.getpid()}"


@dataclass
class Server:
    """A PostgreSQL server with a user who must give a password, and what URLs for it look like."""

    url: str

    def at(self, database: str, user: str = "postgres", password: str = HEMLIG, options: str = "") -> str:
        folder = parse_qs(urlsplit(self.url).query)["host"][0]
        return f"postgresql://{user}:{password}@/{database}?host={folder}{options}"

    def execute(self, database: str, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.at(database))
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())


@pytest.fixture(scope="module")
def server(postgresql_databases: PostgresqlDatabases) -> Iterator[Server]:
    """The shared server, with a user of these tests alone."""
    with postgresql_databases.fresh(migrated=False) as url:
        server = Server(url)
        server.execute("postgres", f"CREATE USER {USER} PASSWORD '{HEMLIG}'")
        yield server
        server.execute("postgres", f"DROP USER {USER}")


def test_a_wrong_password_of_postgresql_is_one_sentence(server: Server, tmp_path: Path):
    scene = Scene(tmp_path, {"DATABASE_URL": server.at("postgres", USER, f"not-{HEMLIG}")})
    said = "The database cannot be reached: the password or the name of the user is wrong. It is postgres at "
    assert_one_sentence(scene.start("migrate"), said)


def test_a_database_that_postgresql_has_not_is_one_sentence(server: Server, tmp_path: Path):
    scene = Scene(tmp_path, {"DATABASE_URL": server.at("nothing")})
    said = "The database cannot be reached: the server has no database of this name. It is nothing at "
    assert_one_sentence(scene.start("migrate"), said)


def test_a_user_who_may_make_no_tables_is_one_sentence(
    server: Server, postgresql_databases: PostgresqlDatabases, tmp_path: Path
):
    with postgresql_databases.fresh(migrated=False) as url:
        name = urlsplit(url).path.removeprefix("/")
        scene = Scene(tmp_path, {"DATABASE_URL": server.at(name, USER)})
        said = "The database cannot be reached: the user may not make tables there: grant it CREATE and USAGE on the "
        assert_one_sentence(scene.start("serve"), said)


def test_another_programs_tables_in_postgresql_are_one_sentence(
    server: Server, postgresql_databases: PostgresqlDatabases, tmp_path: Path
):
    with postgresql_databases.fresh(migrated=False) as url:
        name = urlsplit(url).path.removeprefix("/")
        server.execute(name, "CREATE TABLE songs (id integer)")
        scene = Scene(tmp_path, {"DATABASE_URL": server.at(name)})
        assert_one_sentence(scene.start("migrate"), "The database holds tables of another program (songs).")


def test_tables_of_an_extension_are_no_other_programs(
    server: Server, postgresql_databases: PostgresqlDatabases, tmp_path: Path
):
    with postgresql_databases.fresh(migrated=False) as url:
        name = urlsplit(url).path.removeprefix("/")
        server.execute(
            name, "CREATE TABLE spatial_ref_sys (id integer)",
            "ALTER EXTENSION plpgsql ADD TABLE spatial_ref_sys",
        )  # fmt: skip
        result = Scene(tmp_path, {"DATABASE_URL": server.at(name)}).start("migrate")
        server.execute(name, "ALTER EXTENSION plpgsql DROP TABLE spatial_ref_sys")
    assert (result.returncode, result.stderr) == (0, "")


class _NoTls(socketserver.BaseRequestHandler):
    """Answers a request for TLS as a PostgreSQL server without it does."""

    def handle(self) -> None:
        self.request.recv(8)
        self.request.sendall(b"N")


def test_a_server_without_tls_is_one_sentence(tmp_path: Path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _NoTls) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        port = listening.server_address[1]
        url = f"postgresql://u:{HEMLIG}@127.0.0.1:{port}/d?sslmode=require"
        result = Scene(tmp_path, {"DATABASE_URL": url}).start("migrate")
        listening.shutdown()
        thread.join()
    assert_one_sentence(result, "The database cannot be reached: the server offers no TLS, and the URL demands it.")


@pytest.mark.parametrize(
    ("user", "database", "said"),
    [
        (f"bad_start:not-{HEMLIG}", 0, "OLLAGRAPH_REDIS_URL names a server that refuses its password or user."),
        (f"bad_start:{HEMLIG}", 99, "OLLAGRAPH_REDIS_URL names a database that the server has not"),
    ],
)
async def test_a_valkey_that_refuses_is_one_sentence(
    valkey: ValkeyServer, tmp_path: Path, user: str, database: int, said: str
):
    async with valkey.client() as client:
        await client.execute_command("ACL", "SETUSER", "bad_start", "on", f">{HEMLIG}", "+@all")
    url = f"redis://{user}@127.0.0.1:{valkey.port}/{database}"
    assert_one_sentence(Scene(tmp_path, {"REDIS_URL": url}).start(), said)
