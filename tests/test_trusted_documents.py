"""Trusted documents: what an application's build made may be named, or be all that runs."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from server.execution import trusted_documents
from server.graphql import trusted_documents as module
from server.graphql.trusted_documents import ManifestError, TrustedDocuments, load_manifest
from server.settings import SettingsError
from tests.support.fake_model_server import FakeModelServer
from tests.support.gateways import Json, RunningGateway, gateway_settings, running_gateway
from tests.support.polling import pause
from tests.test_persisted import ANSWER, ME, OTHER, ask, automatic, code, digest

LOGIN = "mutation($input: LoginInput!) { login(input: $input) { ... on LoginSuccess { accessToken } } }"
MANY_ALIASES = "{ me { " + " ".join(f"a{number}: username" for number in range(40)) + " } }"


@asynccontextmanager
async def gateway_with(
    tmp_path: Path, url: str, fake: FakeModelServer, path: Path, trust: str, **others: Any
) -> AsyncGenerator[RunningGateway]:
    settings = gateway_settings(tmp_path, url, fake.url, trusted_documents=trust, trusted_documents_path=path, **others)
    async with running_gateway(settings, fake) as gateway:
        yield gateway


def write(path: Path, documents: Json) -> Path:
    """Replace a file at once, as deployments do. With what signs in, which the tests do by its text."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"login": LOGIN, **documents}))
    return new.replace(path)


async def becomes(gateway: RunningGateway, id: str, expected: str | None) -> None:
    """Wait until a document of this id answers, or is refused with a code."""
    with anyio.fail_after(30):
        while True:
            response = await ask(gateway, documentId=id)
            if (code(response) if "errors" in response else None) == expected:
                return
            await pause()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for changes all the time."""
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)


MANIFESTS: dict[str, Json] = {
    "ids and documents": {"me": ME},
    "hashes": {f"sha256:{digest(ME)}": ME},
    "Apollo": {
        "format": "apollo-persisted-query-manifest",
        "version": 1,
        "operations": [{"id": "me", "name": "Me", "type": "query", "body": ME}],
    },
}


@pytest.mark.parametrize("kind", MANIFESTS)
async def test_trusted_documents_may_be_named(tmp_path: Path, sqlite_url: str, fake: FakeModelServer, kind: str):
    file = tmp_path / "documents.json"
    file.write_text(json.dumps(MANIFESTS[kind]))
    async with gateway_with(tmp_path, sqlite_url, fake, file, "allow") as gateway:
        name = f"sha256:{digest(ME)}" if kind == "hashes" else "me"
        assert (await ask(gateway, documentId=name))["data"] == ANSWER
        assert (await ask(gateway, query=OTHER))["data"]
        assert code(await ask(gateway, documentId="unknown")) == "PERSISTED_QUERY_NOT_FOUND"


async def test_where_only_trusted_documents_run_no_other_does(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    file = tmp_path / "documents.json"
    file.write_text(json.dumps({"me": ME, "login": LOGIN}))
    async with gateway_with(tmp_path, sqlite_url, fake, file, "only") as gateway:
        assert (await ask(gateway, documentId="me"))["data"] == ANSWER
        assert (await ask(gateway, query=ME))["data"] == ANSWER
        assert code(await ask(gateway, query=OTHER)) == "FORBIDDEN"
        assert code(await ask(gateway, query=OTHER, documentId="me")) == "FORBIDDEN"
        assert code(await ask(gateway, query=OTHER, extensions=automatic(OTHER))) == "FORBIDDEN"
        assert code(await ask(gateway, extensions=automatic(OTHER))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"a": 5}', '{"a": " "}', '{"operations": [5]}'])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "documents.json"
    file.write_text(text)
    with pytest.raises(ManifestError, match=r"documents\.json"):
        load_manifest(file)


async def test_a_gateway_without_its_manifest_does_not_start(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    settings = {"trusted_documents": "only", "trusted_documents_path": tmp_path / "missing.json"}
    with pytest.raises(SettingsError, match=r"missing\.json cannot be read"):
        trusted_documents(gateway_settings(tmp_path, sqlite_url, fake.url, **settings))


async def test_a_folder_may_hold_the_manifests_of_several_applications(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer
):
    folder = tmp_path / "documents"
    folder.mkdir()
    write(folder / "one.json", {"me": ME})
    write(folder / "two.json", {"other": OTHER, "me": ME})
    (folder / "notes.txt").write_text("not a manifest")
    async with gateway_with(tmp_path, sqlite_url, fake, folder, "only") as gateway:
        assert (await ask(gateway, documentId="me"))["data"] == ANSWER
        assert (await ask(gateway, documentId="other"))["data"]


def test_two_files_may_not_give_one_id_to_different_documents(tmp_path: Path):
    write(tmp_path / "one.json", {"me": ME})
    write(tmp_path / "two.json", {"me": OTHER})
    with pytest.raises(ManifestError, match=r"two\.json has another document under the id me"):
        TrustedDocuments(tmp_path, "only")


async def test_a_changed_manifest_holds_without_a_restart(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, quick: None
):
    file = write(tmp_path / "documents.json", {"me": ME})
    async with gateway_with(tmp_path, sqlite_url, fake, file, "only") as gateway:
        write(file, {"other": OTHER})
        await becomes(gateway, "other", None)
        await becomes(gateway, "me", "PERSISTED_QUERY_NOT_FOUND")
        assert code(await ask(gateway, query=ME)) == "FORBIDDEN"


@pytest.mark.parametrize("broken", [b"{", b"[]", None])
async def test_a_manifest_that_breaks_leaves_the_last_one_in_force(
    tmp_path: Path, broken: bytes | None, caplog: pytest.LogCaptureFixture
):
    file = write(tmp_path / "documents.json", {"me": ME})
    trusted = TrustedDocuments(file, "only")
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken)
    await trusted.look(file)
    assert trusted.find("me") == ME
    assert "The trusted documents stay as they were" in caplog.text
    write(file, {"other": OTHER})
    await trusted.look(file)
    assert (trusted.find("me"), trusted.find("other")) == (None, OTHER)


async def test_a_trusted_document_may_have_any_form_while_it_is_trusted(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, quick: None
):
    file = write(tmp_path / "documents.json", {"aliases": MANY_ALIASES, "me": ME})
    async with gateway_with(tmp_path, sqlite_url, fake, file, "allow") as gateway:
        assert "errors" not in await ask(gateway, documentId="aliases")
        assert "errors" not in await ask(gateway, query=MANY_ALIASES)
        write(file, {"me": ME})
        await becomes(gateway, "aliases", "PERSISTED_QUERY_NOT_FOUND")
        assert code(await ask(gateway, query=MANY_ALIASES)) == "LIMIT_EXCEEDED"


async def test_a_trusted_document_still_has_its_cost(tmp_path: Path, sqlite_url: str, fake: FakeModelServer):
    costly = "{ generations(first: 100) { nodes { user { apiKeys { id } } } } }"
    file = write(tmp_path / "documents.json", {"costly": costly})
    async with gateway_with(tmp_path, sqlite_url, fake, file, "only") as gateway:
        assert code(await ask(gateway, documentId="costly")) == "LIMIT_EXCEEDED"


async def test_what_would_be_refused_is_logged_once(
    tmp_path: Path, sqlite_url: str, fake: FakeModelServer, caplog: pytest.LogCaptureFixture
):
    file = write(tmp_path / "documents.json", {"me": ME})
    async with gateway_with(tmp_path, sqlite_url, fake, file, "allow") as gateway:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                await ask(gateway, query=OTHER)
                await ask(gateway, query=ME)
            await ask(gateway, query="{ nonsense }")
    told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert len(told) == 1
    assert "the operation Other" in told[0]
    assert digest(OTHER) in told[0]
