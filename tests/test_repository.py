"""What may stand in the repository: no path of somebody's machine, no registry, nothing built, no nameless module."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent

FIXED = {"server", "schema", "resolvers", "db", "auth", "alembic", "web", "tests", "pyproject.toml", "Makefile"}
FOLDERS = FIXED | {"gateway", "backends", "bench", "deploy", "docs", "examples", ".ci", ".github"}

LARGEST = 1_000_000
BUILT = re.compile(
    r"(^|/)(node_modules|dist|build|data|__pycache__|\.venv|\.make|[^/]+\.egg-info)/"
    r"|\.(gguf|safetensors|onnx|bin|pt|whl|pyc|so|dylib|node|db|log|sqlite3?|zip|tar|gz|xz)$"
)

# In pieces, so that this file does not hold what it looks for.
HOMES = "|".join(["ho" + "me", "ro" + "ot", "wo" + "rk", "Us" + "ers"])
MACHINE_PATH = re.compile(rf"(?<![\w.~/:-])/(?:{HOMES})/\w|[A-Z]:\\\\?Users\\")
REGISTRY = re.compile(
    "|".join([r"py" + r"pi\.org", r"python" + r"hosted\.org", r"npm" + r"js\.(?:org|com)", r"yarn" + r"pkg\.com"])
)

SAYS_NOTHING = re.compile(r"^(utils?|helpers?|common|misc|managers?|core|base)$|[_-](utils?|helpers?)$|_v\d+$")
MODULES = {".py", ".ts", ".tsx", ".js", ".mjs"}


@cache
def repository_files() -> list[PurePosixPath]:
    """Give the files that are in the repository or would be after `git add --all`."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout, to tell what belongs to the repository")
    # A checkout that belongs to someone else, as in a container, is read all the same.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [PurePosixPath(name) for name in names if name and (ROOT / name).is_file()]


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """List the lines of text files that hold the pattern."""
    found: list[str] = []
    for path in repository_files():
        text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        if pattern.search(text):
            found += [
                f"{path}:{number}: {line.strip()[:120]}"
                for number, line in enumerate(text.splitlines(), 1)
                if pattern.search(line)
            ]
    return found


def nameless(path: PurePosixPath) -> bool:
    """Tell whether a module, or a folder it lies in, has a name that says nothing."""
    return path.suffix in MODULES and any(SAYS_NOTHING.search(part) for part in (*path.parts[:-1], path.stem))


def test_no_file_holds_a_path_of_somebodys_machine():
    assert not (found := lines_with(MACHINE_PATH)), "\n".join(found)


def test_no_file_names_a_package_registry():
    assert not (found := lines_with(REGISTRY)), "\n".join(found)


def test_no_file_is_large():
    assert not (found := [str(path) for path in repository_files() if (ROOT / path).stat().st_size > LARGEST]), (
        "\n".join(found)
    )


def test_no_file_is_built_or_holds_weights():
    assert not (found := [str(path) for path in repository_files() if BUILT.search(str(path))]), "\n".join(found)


def test_every_module_has_a_name_that_says_what_it_is():
    assert not (found := [str(path) for path in repository_files() if nameless(path)]), "\n".join(found)


def test_every_folder_at_the_top_is_one_of_the_named_ones():
    assert {path.parts[0] for path in repository_files() if len(path.parts) > 1} - FOLDERS == set()


def test_the_fixed_names_are_there():
    assert FIXED - {path.parts[0] for path in repository_files()} == set()


@pytest.mark.parametrize("start", ["/" + "home", "see /" + "work", "'/" + "Users", "path=/" + "root"])
def test_a_machine_path_is_found(start: str):
    assert MACHINE_PATH.search(f"{start}/someone/file")


@pytest.mark.parametrize("text", ["https://example.com/" + "home/page", "src/" + "work/x.py", "/homepage", "GET /api"])
def test_another_path_is_no_machine_path(text: str):
    assert not MACHINE_PATH.search(text)


def test_a_registry_is_found():
    assert REGISTRY.search("https://files.python" + "hosted.org/packages/x.whl")


@pytest.mark.parametrize("name", ["gateway/utils.py", "gateway/stream_utils.py", "core/x.py", "db/tables_v2.py"])
def test_a_name_that_says_nothing_is_found(name: str):
    assert nameless(PurePosixPath(name))


@pytest.mark.parametrize(
    "name", ["gateway/streams/memory.py", "docs/core.md", "db/database.py", "tests/test_base62.py"]
)
def test_a_name_that_says_something_is_allowed(name: str):
    assert not nameless(PurePosixPath(name))


@pytest.mark.parametrize(
    "name", ["web/dist/index.html", "8123.log", "model.gguf", "data/x", "a/__pycache__/x.pyc", "o.egg-info/x"]
)
def test_a_built_file_is_found(name: str):
    assert BUILT.search(name)
