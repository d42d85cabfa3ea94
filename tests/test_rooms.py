"""The rooms of the house: how many modules one holds, on which floor it is, and that others come in by its face.

A room is a package in a package, such as `gateway.streams`; its face is its `__init__.py`. ARCHITECTURE.md has a plan.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
HOUSES = ("auth", "backends", "db", "gateway", "resolvers", "schema", "server")

MOST_MODULES = 20
MOST_FILES_OF_A_NOUN = 2
"""A noun that needs three files gets a folder."""

FLOORS = {
    "gateway.codes": -1,
    "gateway.errors": 0,
    "gateway.tasks": 0,
    "gateway.media": 0,
    "gateway.money": 0,
    "gateway.streams": 1,
    "gateway.audit": 1,
    "gateway.connections": 2,
    "gateway.blobs": 2,
    "gateway.catalog": 2,
    "gateway.identity": 2,
    "gateway.limits": 2,
    "gateway.request_limits": 2,
    "gateway.usage": 2,
    "gateway.generation": 3,
    "gateway.notices": 3,
    "gateway.plugins": 4,
    "gateway.replicas": 4,
    "gateway.demo": 4,
    "gateway.care": 4,
    "schema.limits": 0,
    "schema.identity": 1,
    "schema.prices": 2,
    "server.settings": -2,
    "server.logs": -1,
    "server.workers": 0,
    "server.graphql": 0,
    "server.transports": 1,
    "server.plugins": 2,
    "server.sign_in": 2,
    "server.metrics": 3,
    "server.traces": 3,
}
"""A room may import those of its own house that are on a lower floor."""

ROOMS = frozenset(
    ".".join(path.parent.relative_to(ROOT).parts)
    for house in HOUSES
    for path in (ROOT / house).rglob("__init__.py")
    if path.parent != ROOT / house
)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(source: str) -> Iterator[str]:
    """Give the modules that are imported, or that things are imported from."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module
            case _:
                pass


def floor(name: str) -> tuple[str, int] | None:
    return next(((room, number) for room, number in FLOORS.items() if within(name, room)), None)


def faults(path: PurePosixPath, source: str) -> list[str]:
    """List what the imports of a file, relative to the repository, do against the plan."""
    here = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    found: list[str] = []
    for name in imports(source):
        if any(name.startswith(room + ".") and not within(here, room) for room in ROOMS):
            found.append(f"{path}: {name} is not the face of its room")
        mine, other = floor(here), floor(name)
        upwards = mine and other and other[0] != mine[0] and other[1] >= mine[1]
        if upwards and here.split(".")[0] == name.split(".")[0]:
            found.append(f"{path}: {name} is on no lower floor")
    return found


def crowded(folder: str, names: list[str]) -> list[str]:
    """List what is too much in a folder with modules of these names."""
    stems = [name.removesuffix(".py") for name in names if name != "__init__.py"]
    found = [f"{folder} has {len(stems)} modules"] if len(stems) > MOST_MODULES else []
    for noun, count in Counter(stem.split("_")[0] for stem in stems if not stem.startswith("_")).items():
        if count > MOST_FILES_OF_A_NOUN:
            found.append(f"{folder}: {count} files are named after {noun!r}, which asks for a folder")
    return found


@pytest.mark.parametrize("house", HOUSES)
def test_the_imports_of_a_house_follow_the_plan(house: str):
    files = sorted((ROOT / house).rglob("*.py"))
    found = [line for file in files for line in faults(PurePosixPath(file.relative_to(ROOT)), file.read_text())]
    assert files
    assert not found, "\n".join(found)


def test_no_folder_is_crowded():
    folders = [
        path for house in (*HOUSES, "bench", "tests/support") for path in [ROOT / house, *(ROOT / house).rglob("*")]
    ]
    found = [
        line
        for folder in folders
        if folder.is_dir()
        for line in crowded(str(folder.relative_to(ROOT)), [file.name for file in folder.glob("*.py")])
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("server/app.py", "from gateway.streams.memory import MemoryStreamLog"),
        ("gateway/generation/run.py", "import gateway.streams.valkey"),
        ("gateway/streams/memory.py", "from gateway.streams.valkey.client import Valkey"),
        ("gateway/streams/memory.py", "from gateway.generation import State"),
        ("gateway/catalog/catalog.py", "from gateway.identity import Identity"),
        ("gateway/errors.py", "from gateway.streams import Event"),
        ("server/graphql/cost.py", "from server.transports import StreamLimits"),
    ],
)
def test_the_checker_finds_a_fault(path: str, source: str):
    assert len(faults(PurePosixPath(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("server/app.py", "from gateway.streams import MemoryStreamLog"),
        (
            "gateway/streams/memory.py",
            "from gateway.streams.log import StreamOwner\nfrom gateway.errors import GatewayError",
        ),
        ("gateway/generation/run.py", "from gateway.catalog import Model"),
        ("gateway/streams/__init__.py", "from gateway.streams.log import StreamOwner"),
    ],
)
def test_the_checker_lets_pass_what_follows_the_plan(path: str, source: str):
    assert faults(PurePosixPath(path), source) == []


@pytest.mark.parametrize(
    "names", [[f"{chr(97 + number)}.py" for number in range(21)], ["queue.py", "queue_slots.py", "queue_turns.py"]]
)
def test_the_checker_finds_a_crowd(names: list[str]):
    assert len(crowded("gateway", names)) == 1
    assert crowded("gateway", names[1:]) == []
