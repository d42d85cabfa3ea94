"""A bad start is one sentence: status 1, no traceback and no secret, whatever it is that is wrong."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bad_starts import HEMLIG, Scene, assert_one_sentence

SECRET = f"{HEMLIG}-kP9x2mWq7fHd31zTv8Ra0bNc5yLe"


def settings(**values: str) -> Callable[[Scene], None]:
    """A start with these settings."""
    return lambda scene: scene.settings.update(values)


def file(name: str, content: bytes, **values: str) -> Callable[[Scene], None]:
    """A start with such a file in its folder, which the settings name as {}."""

    def prepare(scene: Scene) -> None:
        path = scene.write(name, content)
        scene.settings.update({name: value.format(path) for name, value in values.items()})

    return prepare


def folder(name: str, **values: str) -> Callable[[Scene], None]:
    """The same with a folder."""

    def prepare(scene: Scene) -> None:
        (scene.folder / name).parent.mkdir(mode=0o700, exist_ok=True)
        (scene.folder / name).mkdir()
        scene.settings.update({key: value.format(scene.folder / name) for key, value in values.items()})

    return prepare


def unreadable_env(scene: Scene) -> None:
    scene.write(".env", b"OLLAGRAPH_PORT=1\n").chmod(0)
    scene.obeys_permissions = True


def another_programs_tables(scene: Scene) -> None:
    scene.statements("CREATE TABLE songs (id INTEGER)")


def another_programs_revision(scene: Scene) -> None:
    scene.statements(
        "CREATE TABLE alembic_version (version_num TEXT)", "CREATE TABLE users (id INTEGER)",
        "INSERT INTO alembic_version VALUES ('0001')",
    )  # fmt: skip


def another_programs_version_table(scene: Scene) -> None:
    scene.statements("CREATE TABLE alembic_version (name TEXT)")


def lost_version_table(scene: Scene) -> None:
    scene.migrate()
    scene.statements("DROP TABLE alembic_version")


def newer_database(scene: Scene) -> None:
    scene.migrate()
    scene.statements("UPDATE alembic_version SET version_num = 'from-the-future'")


def damaged_database(scene: Scene) -> None:
    scene.migrate()
    content = bytearray(scene.database.read_bytes())
    content[4096:] = bytes(number * 7 % 256 for number in range(4096, len(content)))
    for path in scene.data_dir.iterdir():
        path.unlink()
    scene.database.write_bytes(content)


def read_only_folder(scene: Scene) -> None:
    scene.data_dir.mkdir(mode=0o500)
    scene.obeys_permissions = True


def read_only_file(scene: Scene) -> None:
    scene.migrate()
    scene.database.chmod(0o400)
    scene.obeys_permissions = True


def full_disk(scene: Scene) -> None:
    scene.largest_file = 8192


def full_disk_for_the_secret(scene: Scene) -> None:
    scene.migrate()
    scene.largest_file = 1_000  # the sentence itself goes into a file


def port_in_use(scene: Scene) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    scene.settings["PORT"] = str(listening.getsockname()[1])
    scene.held.enter_context(listening)


BAD: dict[str, tuple[Callable[[Scene], None], str]] = {
    "data folder is a file": (file("data", b""), "The data folder {}/data cannot be made or read (it is a file)"),
    "data folder in a file": (file("f", b"", DATA_DIR="{}/data"), "The data folder {}/f/data cannot be made or read ("),
    "data folder of nobody": (settings(DATA_DIR="~nobody-at-all/x"), "OLLAGRAPH_DATA_DIR: begins with ~"),
    "read-only folder": (read_only_folder, "The database cannot be reached: the file cannot be opened or made."),
    "read-only file": (read_only_file, "The database takes no writes: it is read-only."),
    "full disk": (full_disk, "The database cannot be reached: the disk is full or fails."),
    "full disk for the secret": (full_disk_for_the_secret, "The database cannot be reached: the disk is full or fails"),
    "a file that is no database": (
        file("data/ollagraph.db", os.urandom(8192)),
        "The database cannot be reached: the file is not a SQLite database. It is {}/data/ollagraph.db.",
    ),
    "a damaged database": (damaged_database, "The database cannot be reached: the file is damaged."),
    "a database that is a folder": (folder("data/ollagraph.db"), "The SQLite database '{}/data/ollagraph.db' is a fol"),
    "another program's tables": (another_programs_tables, "The database holds tables of another program (songs)."),
    "another program's revision": (another_programs_revision, "The database holds tables of another program (alembic_"),
    "another program's version table": (another_programs_version_table, "The database holds tables of another program"),
    "a lost version table": (lost_version_table, "The database holds tables of another program ("),
    "a newer database": (newer_database, "The database was made by a newer version of Ollagraph (its revision is 'fro"),
    "SQLite URL in a folder that is not there": (
        settings(DATABASE_URL="sqlite:///none/x.db"), "The folder 'none' for the SQLite database does not exist."),
    "SQLite URL of nobody": (
        settings(DATABASE_URL="sqlite:///~nobody-at-all/x.db"), "The path of the SQLite database cannot be used (ther"),
    "SQLite URL with options": (settings(DATABASE_URL="sqlite:///x.db?mode=ro"), "A SQLite URL takes no options"),
    "URL of another database": (settings(DATABASE_URL=f"mysql://u:{HEMLIG}@h/d"), "There is no database called 'mysql"),
    "URL that is none": (settings(DATABASE_URL=HEMLIG), "The database URL cannot be read."),
    "URL with an unknown option": (
        settings(DATABASE_URL=f"postgresql://u:{HEMLIG}@h/d?foo=bar"), "The database URL holds unknown options: foo."),
    "URL with a wrong sslmode": (
        settings(DATABASE_URL=f"postgresql://u:{HEMLIG}@h/d?sslmode=yes"), "The database URL's sslmode must be one of"),
    "nothing listens": (
        settings(DATABASE_URL=f"postgresql://u:{HEMLIG}@127.0.0.1:1/d"),
        "The database cannot be reached: nothing listens at its address. It is d at 127.0.0.1:1."),
    "a host that is not known": (
        settings(DATABASE_URL=f"postgresql://u:{HEMLIG}@nowhere.invalid/d"),
        "The database cannot be reached: the name of its host is not known."),
    "a host that is none": (
        settings(DATABASE_URL=f"postgresql://u:{HEMLIG}@{'a' * 70}/d"),
        "The database cannot be reached: the name of its host is not known."),
    "a socket that is not there": (
        settings(DATABASE_URL=f"postgresql://u:{HEMLIG}@/d?host=/none"), "The database cannot be reached: its socket"),
    "secret.key is no text": (file("data/secret.key", b"\xff\xfe" * 64), "{}/data/secret.key is damaged."),
    "secret.key is short": (file("data/secret.key", b"abc"), "{}/data/secret.key is damaged."),
    "secret.key is a folder": (folder("data/secret.key"), "{}/data/secret.key cannot be made or read ("),
    ".env is no text": (file(".env", b"\xff\xfeO\0L\0"), "{}/.env is not text in UTF-8."),
    ".env with a NUL": (file(".env", b"OLLAGRAPH_PORT=1\0\n"), "{}/.env is not text."),
    ".env is a folder": (folder(".env"), "{}/.env cannot be read (Is a directory)."),
    ".env may not be read": (unreadable_env, "{}/.env cannot be read (Permission denied)."),
    "Valkey with an unknown option": (
        settings(REDIS_URL=f"redis://:{HEMLIG}@h/0?foo=bar"), "OLLAGRAPH_REDIS_URL takes no options but db"),
    "Valkey of another scheme": (settings(REDIS_URL=f"http://:{HEMLIG}@h"), "OLLAGRAPH_REDIS_URL must begin with redi"),
    "Valkey with a database that is no number": (
        settings(REDIS_URL=f"redis://:{HEMLIG}@h/abc"), "OLLAGRAPH_REDIS_URL must end with the number of a database"),
    "Valkey with a port that is none": (settings(REDIS_URL=f"redis://:{HEMLIG}@h:x/0"), "OLLAGRAPH_REDIS_URL cannot b"),
    "Valkey Cluster with a database": (
        settings(REDIS_URL=f"redis+cluster://:{HEMLIG}@h:1,i:2/3"), "OLLAGRAPH_REDIS_URL must name no database: a clu"),
    "Valkey Cluster with a port that is none": (
        settings(REDIS_URL=f"redis+cluster://:{HEMLIG}@h:1,i:x"), "OLLAGRAPH_REDIS_URL cannot be read"),
    "Valkey Cluster without servers": (
        settings(REDIS_URL=f"redis+cluster://:{HEMLIG}@h,"), "OLLAGRAPH_REDIS_URL must name servers of the cluster"),
    "Valkey at no socket": (settings(REDIS_URL="unix://"), "OLLAGRAPH_REDIS_URL must name the path of a socket"),
    "a port in use": (port_in_use, "Cannot listen on 127.0.0.1:"),
    "a port that is none": (settings(PORT=HEMLIG), "OLLAGRAPH_PORT: Input should be a valid integer"),
    "an address of another machine": (settings(HOST="192.0.2.1"), "Cannot listen on 192.0.2.1:0 ("),
    "a host that is no address": (settings(HOST="a" * 70), "Cannot listen on aaaa"),
    "an address that is none": (settings(HOST="1:2:3"), "Cannot listen on 1:2:3:0 ("),
    "trusted documents that are not there": (
        settings(TRUSTED_DOCUMENTS="only", TRUSTED_DOCUMENTS_PATH="none.json"), "none.json cannot be read (No such fi"),
    "trusted documents that are a folder": (
        folder("d", TRUSTED_DOCUMENTS="only", TRUSTED_DOCUMENTS_PATH="{}"), "{}/d holds no file *.json with"),
    "trusted documents that are no JSON": (
        file("d", b"\xff", TRUSTED_DOCUMENTS="ONLY", TRUSTED_DOCUMENTS_PATH="{}"), "{}/d is not valid JSON"),
    "trusted documents that are none": (
        file("d", b"[1]", TRUSTED_DOCUMENTS="only", TRUSTED_DOCUMENTS_PATH="{}"), "{}/d must be a JSON object of ids"),
    "trusted documents without a file": (settings(TRUSTED_DOCUMENTS="only"), "set OLLAGRAPH_TRUSTED_DOCUMENTS_PATH"),
    "a model that is none": (
        file("model.gguf", b"no model", EMBEDDED="true", EMBEDDED_MODEL="{}"), "The model file {}/model.gguf is not i"),
    "a model that is not there": (
        settings(EMBEDDED="true", EMBEDDED_MODEL="none.gguf"), "The model file none.gguf cannot be read"),
    "a model that is a folder": (folder("m", EMBEDDED="true", EMBEDDED_MODEL="{}"), "The model file {}/m cannot be re"),
    "origins that are no JSON": (
        settings(CORS_ORIGINS="https://a.example"), 'OLLAGRAPH_CORS_ORIGINS: must be a list in JSON, such as ["a", "b'),
    "an origin with a path": (
        settings(CORS_ORIGINS='["https://a.example/x"]'), "OLLAGRAPH_CORS_ORIGINS: 'https://a.example/x' is not an or"),
    "an origin without a scheme": (
        settings(CORS_ORIGINS='["a.example"]'), "OLLAGRAPH_CORS_ORIGINS: 'a.example' is not an origin"),
    "an origin that is a number": (settings(CORS_ORIGINS="[1]"), "OLLAGRAPH_CORS_ORIGINS: "),
    "a host with a scheme": (
        settings(ALLOWED_HOSTS='["https://a.example"]'), "OLLAGRAPH_ALLOWED_HOSTS: 'https://a.example' is not a host"),
    "a proxy that is no address": (
        settings(TRUSTED_PROXIES='["*"]'), "OLLAGRAPH_TRUSTED_PROXIES: '*' is not an address or a network"),
    "a time that does not end": (settings(DRAIN_TIME="inf"), "OLLAGRAPH_DRAIN_TIME: Input should be a finite number"),
    "a number that is too large": (settings(SEND_TIMEOUT="1e300"), "OLLAGRAPH_SEND_TIMEOUT must be at most 1,000,000,"),
    "an environment that is none": (settings(ENVIRONMENT="staging"), "OLLAGRAPH_ENVIRONMENT: Input should be 'develop"),
    "production without a secret": (settings(ENVIRONMENT="Production"), "set OLLAGRAPH_SECRET_KEY in production"),
    "production with one letter": (
        settings(ENVIRONMENT="production", SECRET_KEY="a" * 64), "OLLAGRAPH_SECRET_KEY can be guessed"),
    "production with one word": (
        settings(ENVIRONMENT="production", SECRET_KEY="changeme" * 5), "OLLAGRAPH_SECRET_KEY can be guessed"),
    "production with cheap hashes": (
        settings(ENVIRONMENT="production", SECRET_KEY=SECRET, ARGON2_MEMORY_KIB="64"), "OLLAGRAPH_ARGON2_MEMORY_KIB "),
    "a model server that is none": (settings(OLLAMA_URL="localhost"), "OLLAGRAPH_OLLAMA_URL: The address of a model s"),
    "an address of an operation": (
        settings(OPENAI_URL="http://h/v1/chat/completions"), "OLLAGRAPH_OPENAI_URL: The address of a model ser"),
    "a key in two lines": (
        settings(OPENAI_URL="http://h", OPENAI_API_KEY=f"{HEMLIG}\nx"), "OLLAGRAPH_OPENAI_API_KEY: holds a line break"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_start_is_one_sentence(tmp_path: Path, kind: str):
    prepare, said = BAD[kind]
    scene = Scene(tmp_path)
    with scene.held:
        prepare(scene)
        result = scene.start()
    assert_one_sentence(result, said.replace("{}", str(tmp_path)))


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        ("migrate", ["another program's tables", ".env is no text", "full disk"]),
        ("create-user ada", ["a damaged database", "origins that are no JSON"]),
        ("create-key ada", ["another program's tables", "full disk"]),
    ],
)
def test_every_command_tells_the_same_sentence(tmp_path: Path, command: str, kinds: list[str]):
    """Settings and databases are read in one place; each command meets a bad one of each sort."""
    for kind in kinds:
        prepare, said = BAD[kind]
        folder = tmp_path / kind
        folder.mkdir()
        scene = Scene(folder)
        prepare(scene)
        assert_one_sentence(scene.start(*command.split()), said.replace("{}", str(folder)))
